"""The flags of the commands that generate questions, and what the commands do with them."""

import json
import sys
from collections.abc import Sequence

from absl import flags

from data_pipeline import splits
from data_pipeline.corpora import Columns, Refusals
from data_pipeline.corpora.passages import PASSAGES
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.generate_questions import Model, generate
from data_pipeline.generate_questions.asking import AskingSettings
from data_pipeline.generate_questions.budget import BudgetSettings
from data_pipeline.generate_questions.endpoint import Endpoint, EndpointSettings
from data_pipeline.generate_questions.filters import Filter, repeated, speaking_of_passage
from data_pipeline.generate_questions.passages import PassageSettings, cut, documents
from data_pipeline.generate_questions.report import markdown
from data_pipeline.prompts.question_prompts import QuestionSettings
from data_pipeline.rows import Passage
from data_pipeline.settings import decisive, define_flags, flag_values

flags.disclaim_key_flags()  # they are the script's own: its --help shows them
_COLUMN_NAMES = {"source": "source_column", "focus": "focus_column"}
_OTHER_COLUMNS = ("question", "answer", "label", "title")


def define() -> None:
    """Defines all flags."""
    flags.DEFINE_multi_string(
        "input",
        [],
        "Texts: files, folders or patterns, commas between; .txt and .md, or tables with a column passage, text or "
        "answer.",
    )
    flags.DEFINE_string("prepared_dir", None, "Prepared folder whose passages, or answers of pairs, are read as well.")
    flags.DEFINE_enum("split", splits.TRAIN, splits.SPLITS, "Split of prepared_dir that is read.")
    flags.DEFINE_string("output_dir", None, "Folder to write, or to go on with.", required=True)
    flags.DEFINE_string("api_key", None, "Key of the endpoint; better in OPENAI_API_KEY, as others can see flags.")
    flags.DEFINE_bool("ask_faulty_again", False, "Ask again where an answer holds no question that can be read.")
    flags.DEFINE_float(
        "near_threshold",
        0.8,
        "Jaccard similarity of the word triples from which two questions are near duplicates.",
        lower_bound=0.01,
        upper_bound=1.0,
    )
    named = "by name or as #3; usual names are recognised."
    flags.DEFINE_string("text_column", None, f"Column of a table with the texts, {named}")
    flags.DEFINE_string("title_column", None, f"Column with their titles, {named}")
    define_flags(Columns, but=_OTHER_COLUMNS, names=_COLUMN_NAMES)
    for settings in (PassageSettings, QuestionSettings, EndpointSettings, BudgetSettings, AskingSettings):
        define_flags(settings)


def endpoint_model() -> Model:
    """Returns the model behind the endpoint that the flags name.

    Raises:
      ValueError: no model is named.
    """
    values = flags.FLAGS
    settings = EndpointSettings(**flag_values(EndpointSettings)).completed()
    questions = QuestionSettings(**flag_values(QuestionSettings))
    return Model(decisive(settings), lambda: Endpoint(settings, questions, values.api_key))


def word_filters() -> list[Filter]:
    """Returns the filters that need no model."""
    return [speaking_of_passage, repeated(flags.FLAGS.near_threshold)]


def read_passages() -> dict[str, Passage]:
    """Returns the passages of the flags' inputs by their ids; tells on standard error what is left out.

    Raises:
      ValueError: there is no input or no passage.
    """
    values, refusals = flags.FLAGS, Refusals()
    if not values.input and not values.prepared_dir:
        raise ValueError("There is no text. Expected --input, files with texts, or --prepared_dir.")
    given = flag_values(Columns, but=_OTHER_COLUMNS, names=_COLUMN_NAMES)
    given |= {"question": values.text_column, "title": values.title_column}
    columns = Columns(**given | {"delimiter": values.delimiter and values.delimiter.replace("\\t", "\t")})
    paths = find_inputs(values.input, columns, refusals, PASSAGES)
    settings = PassageSettings(**flag_values(PassageSettings))
    passages = cut(documents(paths, values.prepared_dir, values.split, columns, refusals), settings, refusals)
    for reason, entry in refusals.report().items():
        print(f"{entry['first']}: {reason} ({entry['rows']} times).", file=sys.stderr)
    for text, entry in refusals.notes().items():
        print(f"{entry['first']}: {text}.", file=sys.stderr)
    return passages


def run(passages: dict[str, Passage], model: Model, filters: Sequence[Filter]) -> None:
    """Generates questions as the flags say, and prints the report as a line of JSON.

    Raises:
      ValueError: the endpoint does not answer, or output_dir is of other settings.
    """
    values = flags.FLAGS
    report, stop = generate(
        passages,
        values.output_dir,
        model,
        QuestionSettings(**flag_values(QuestionSettings)),
        filters,
        BudgetSettings(**flag_values(BudgetSettings)),
        AskingSettings(**flag_values(AskingSettings)),
        values.ask_faulty_again,
        progress=True,
    )
    print(markdown(report), file=sys.stderr)
    if stop and stop.is_error:
        raise ValueError(stop.message)
    print(json.dumps({"output_dir": values.output_dir} | report, ensure_ascii=False))
