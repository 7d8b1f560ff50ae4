"""The script: python -m data_pipeline.prepare; --rows says which rows the files hold."""

import concurrent.futures.process
import gc
import json
import sys
from typing import Any

from absl import app, flags

from data_pipeline import splits
from data_pipeline.corpora import PAIRS, ROLES, Columns, Reader, Refusals
from data_pipeline.corpora.choices import CHOICE_ROWS
from data_pipeline.corpora.dialogues import DIALOGUES
from data_pipeline.corpora.facts import FACTS
from data_pipeline.corpora.passages import PASSAGES
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.corpora.triage import TRIAGES
from data_pipeline.folders.prepared_settings import MAX_TOKENS, limit_name, prompt_name
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.prepare.workers import ENGINES, LOCAL
from data_pipeline.schemas import Schema
from data_pipeline.scrubbing import BOILERPLATE_FILE, ScrubSettings
from data_pipeline.settings import define_flags, flag_values

_READERS = {
    "pairs": PAIRS,
    "triage": TRIAGES,
    "choices": CHOICE_ROWS,
    "dialogues": DIALOGUES,
    "facts": FACTS,
    "passages": PASSAGES,
}
_FIELDS = PAIRS.schema.tokenized
_COLUMN_FLAGS = {role: f"{role}_column" for role in (*ROLES, "label", "title")} | {"facts": "facts_columns"}
_LOWER_CASE = {"auto": None, "lower": True, "cased": False}
_OWN_FLAGS = ("inputs", "dev_inputs", "test_inputs", "lower_case")  # their flags have another form


def _define_flags() -> None:
    rows_help = (
        "What the files hold: pairs of question and answer, triage rows (a text with label, reply or both), choices, "
        "dialogues, facts (a database with a row for each disease), or passages of documents."
    )
    flags.DEFINE_enum("rows", "pairs", list(_READERS), rows_help)
    files_help = "Files, folders or patterns, commas between; python -m data_pipeline.formats lists what is read"
    flags.DEFINE_multi_string("input", [], f"{files_help}; split by question, or for triage by text.")
    flags.DEFINE_multi_string("dev_input", [], "Files whose rows are all dev; their questions are kept out of train.")
    flags.DEFINE_multi_string("test_input", [], "Files whose rows are all test; their questions are in no other split.")
    flags.DEFINE_string("output_dir", None, "The prepared folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace output_dir if it is there.")
    flags.DEFINE_enum("case", "auto", _LOWER_CASE, "Casing of the vocabulary; auto: that of its folder.")
    for field in _FIELDS:
        prompt_help = (
            f"What the encoder expects before every {field.name}, its blank included; default: as its folder says."
        )
        flags.DEFINE_string(prompt_name(field.name), None, prompt_help)
        limit_help = f"Maximum tokens of {field.plural}; longer ones are cut; default: {MAX_TOKENS}."
        flags.DEFINE_integer(limit_name(field.name), None, limit_help)
    define_flags(Columns, names=_COLUMN_FLAGS)
    flags.DEFINE_alias("name_column", "focus_column")
    flags.DEFINE_alias("text_column", "question_column")
    flags.DEFINE_alias("reply_column", "answer_column")
    define_flags(PrepareSettings, but=_OWN_FLAGS, dev_share=None)
    flags.DEFINE_bool("strip_boilerplate", False, "Remove set phrases of forum doctors from the ends of answers.")
    flags.DEFINE_string("boilerplate", BOILERPLATE_FILE, "File of patterns of these phrases.")
    define_flags(ScrubSettings, but=("boilerplate",))
    flags.DEFINE_integer(
        "num_workers", None, "Number of processes of --engine=local; default: one per processor.", lower_bound=0
    )
    engine_help = "Where the work is done: on this machine, or on a Ray cluster whose machines share the files."
    flags.DEFINE_enum("engine", LOCAL, ENGINES, engine_help)


def _settings(values: flags.FlagValues, reader: Reader, left_out: Refusals) -> PrepareSettings:
    """Returns the settings of the flags; notes the files of folders that are left out."""
    columns = flag_values(Columns, names=_COLUMN_FLAGS)
    columns = Columns(**columns | {"delimiter": values.delimiter and values.delimiter.replace("\\t", "\t")})
    described = flag_values(PrepareSettings, but=_OWN_FLAGS)
    if described["dev_share"] is None:
        described["dev_share"] = 0.0 if values.dev_input else PrepareSettings.dev_share
    boilerplate = values.boilerplate if values.strip_boilerplate else None
    prompts = {field.name: values[prompt_name(field.name)].value for field in _FIELDS}
    limits = {field.name: values[limit_name(field.name)].value for field in _FIELDS}
    return PrepareSettings(
        **described,
        inputs=find_inputs(values.input, columns, left_out, reader),
        dev_inputs=find_inputs(values.dev_input, columns, left_out, reader),
        test_inputs=find_inputs(values.test_input, columns, left_out, reader),
        columns=columns,
        lower_case=_LOWER_CASE[values.case],
        prompts={name: prompt for name, prompt in prompts.items() if prompt is not None},
        max_tokens={name: limit for name, limit in limits.items() if limit is not None},
        scrub=ScrubSettings(boilerplate=boilerplate, **flag_values(ScrubSettings, but=("boilerplate",))),
    )


def main(argv: list[str]) -> None:
    """Prepares the files that the flags name."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; files are given with --input.")
    gc.disable()  # millions of rows pass through, without cycles
    values = flags.FLAGS
    reader = _READERS[values.rows]
    schema = reader.schema
    if not values.input:
        raise app.UsageError(f"--input is missing: the files that hold {reader.contents}.")
    if schema.tokenized and not values.tokenizer:
        raise app.UsageError("--tokenizer is missing: a model folder or a vocabulary file (vocab.txt).")
    left_out = Refusals()
    try:
        settings = _settings(values, reader, left_out)
        own = (values.output_dir, values.overwrite, values.num_workers)
        manifest = prepare(settings, *own, progress=True, reader=reader, engine=values.engine)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run the same command again to continue.")
    except concurrent.futures.process.BrokenProcessPool:
        sys.exit(
            "error: a worker was killed, perhaps for lack of memory. Run the command again to continue, "
            "with a smaller --num_workers."
        )
    empty = [name for name in (splits.TRAIN, splits.DEV) if not manifest["counts"][name][schema.plural]]
    if empty and schema is not PASSAGES.schema:  # passages are searched; no model is judged on them
        missing = f"There are no rows in {' and '.join(empty)}"
        print(f"{missing}: a model cannot be trained and judged on this. See --dev_share.", file=sys.stderr)
    notes = left_out.notes() | manifest.get("noted", {})
    _show_decisions(schema, manifest, notes)
    summary = {name: manifest[name] for name in ("counts", "refused", "changed")} | {"noted": notes}
    print(json.dumps({"output_dir": values.output_dir} | summary))


def _show_decisions(schema: Schema, manifest: dict[str, Any], notes: dict[str, Any]) -> None:
    """Prints the decisions about files and about HTML to standard error."""
    for text, entry in notes.items():
        times = f" ({entry['times']} times)" if entry["times"] > 1 else ""
        print(f"{entry['first']}: {text}{times}.", file=sys.stderr)
    plurals = {field.name: field.plural for field in schema.fields}
    for entry in manifest["inputs"]:
        if "format" in entry:  # earlier folders do not name it
            print(f"{entry['path']}: read as {entry['format']}.", file=sys.stderr)
        if entry.get("html"):
            columns = " and ".join(map(plurals.__getitem__, entry["html"]))
            print(f"{entry['path']}: most {columns} hold HTML tags; they are turned into text.", file=sys.stderr)
    changes = [f"{count} {change}" for change, count in manifest["changed"].items() if change.endswith("kept")]
    if changes and manifest["settings"]["html"] == "auto":
        changes = "; ".join(changes)
        print(f"{changes}: most texts of their columns hold none. --html=text turns them into text.", file=sys.stderr)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
