"""Fits how readily a generator refuses to a table: it shall refuse most questions that the sources do not answer.

    python -m docproduct.fit_refusal --generator_dir=adapter --base_dir=$BASE --model_dir=model --index_dir=index \
        --prepared_dir=prepared

Asks questions of the table twice: with their own pair among the nearest pairs, and with the nearest pairs that do not
give the answer away. Writes refusal.json into the generator's folder, which serving and export read: export again
afterwards. Ends with one line of JSON.
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags
from tqdm import tqdm

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prompts.answer_prompts import answer_prompt
from data_pipeline.prompts.chat_prompts import TextPair
from data_pipeline.settings import define_flags, flag_values
from docproduct import command
from docproduct.contexts import ContextFinder
from docproduct.index import Index
from docproduct.systems import generator
from docproduct.systems.generator import refusal
from docproduct.systems.generator.model import LanguageModel
from docproduct.systems.generator.refusal import Refusal, RefusalSettings
from docproduct.systems.retriever import TrainedRetriever

_COLUMNS = ["pair_id", "question", "answer"]


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question, and its sources with and without the pair that answers it.

    Attributes:
      pair: pair_id, question and answer.
      present: sources with the pair; it is not always the first.
      absent: sources that do not give the answer away.
    """

    pair: dict[str, Any]
    present: list[TextPair]
    absent: list[TextPair]


def both_ways(
    index: Index, retriever: TrainedRetriever, pairs: Sequence[dict[str, Any]], num_contexts: int
) -> list[Asked]:
    """Returns questions with their sources.

    Args:
      index: of the table.
      retriever: encodes the questions.
      pairs: pair_id, question and answer of each.
      num_contexts: sources of a question.
    """
    vectors = retriever.embed_few([pair["question"] for pair in pairs], "question")
    asked = []
    for pair, hits in zip(pairs, ContextFinder(index, num_contexts)(vectors, pairs), strict=True):
        absent = [(hit.question, hit.answer) for hit in hits]
        present = [(pair["question"], pair["answer"]), *absent[: num_contexts - 1]]
        place = pair["pair_id"] % len(present)
        present[0], present[place] = present[place], present[0]
        asked.append(Asked(pair, present, absent))
    return asked


def fit(
    model: LanguageModel,
    retriever: TrainedRetriever,
    index: Index,
    prepared: PreparedFolder,
    settings: RefusalSettings = RefusalSettings(),
) -> Refusal:
    """Returns the bias of a model's refusal for a table.

    Args:
      model: a chat model.
      retriever: finds the sources.
      index: the index of the table.
      prepared: the table; questions of dev are asked, or of train if there is no dev.
      settings: where to refuse.

    Raises:
      ValueError: the model is no chat model, or the table is too small.
    """
    if not model.tokenizer.chat_template or not model.prompt:
        raise ValueError(
            "Only a chat model refuses; this one has no chat template. Give one, such as SmolLM2-Instruct."
        )
    tables = (prepared.table(_COLUMNS, split).to_pylist() for split in (splits.DEV, splits.TRAIN))
    pairs = next(filter(None, tables), [])
    drawn = np.random.default_rng(0).permutation(len(pairs))[: settings.num_questions]
    asked = both_ways(index, retriever, [pairs[row] for row in drawn], model.prompt.num_contexts)

    def measured(name: str) -> np.ndarray:
        prompts = (
            answer_prompt(model.tokenizer, model.prompt, one.pair["question"], getattr(one, name)).ids
            for one in tqdm(asked, desc=f"{name} sources", unit=" questions")
        )
        return refusal.odds(model, prompts)

    fitted = refusal.fit(measured("present"), measured("absent"), settings)
    return dataclasses.replace(fitted, prepared=prepared.fingerprint())


def main(argv: list[str]) -> None:
    """Fits what the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        if not os.path.isdir(values.generator_dir):
            raise ValueError(f"There is no folder {values.generator_dir}. Expected a model's folder, or an adapter's.")
        model = generator.load_model(values.generator_dir, values.base_dir)
        retriever = TrainedRetriever.load_for_many(values.model_dir)
        prepared, index = PreparedFolder(values.prepared_dir), Index(values.index_dir, retriever)
        fitted = fit(model, retriever, index, prepared, RefusalSettings(**flag_values(RefusalSettings)))
        refusal.save(fitted, values.generator_dir)
    print(json.dumps({"generator_dir": values.generator_dir} | dataclasses.asdict(fitted)))


if __name__ == "__main__":
    flags.DEFINE_string("generator_dir", None, "Folder of a chat model, or of an adapter.", required=True)
    flags.DEFINE_string("base_dir", None, "With an adapter: the model that it was trained on.")
    flags.DEFINE_string("model_dir", None, "Retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("index_dir", None, "Index of prepared_dir that was built with it.", required=True)
    flags.DEFINE_string("prepared_dir", None, "The table.", required=True)
    define_flags(RefusalSettings)
    app.run(main)
