"""Fits a bias that decides how often a generator refuses, on your own table.

    python -m docproduct.fit_refusal --generator_dir=adapter --base_dir=$BASE --model_dir=model --index_dir=index \
        --prepared_dir=prepared

Asks questions of the table twice: with their own pair among the nearest pairs, and with the nearest pairs that do not
give the answer away. With the bias, the model refuses 70 % of the latter. Writes refusal.json into the generator's
folder, which serving and export read: export again afterwards. Ends with one line of JSON.
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
from docproduct.index.checks import check_prepared
from docproduct.systems import generator
from docproduct.systems.generator import refusal
from docproduct.systems.generator.model import LanguageModel
from docproduct.systems.generator.refusal import Refusal, RefusalSettings
from docproduct.systems.retriever import TrainedRetriever

_COLUMNS = ["pair_id", "question", "answer"]


@dataclasses.dataclass(frozen=True)
class QuestionSources:
    """A question, and its sources with and without the pair that answers it.

    Attributes:
      pair: pair_id, question and answer.
      present: sources with the pair; it is not always the first.
      absent: sources that do not give the answer away.
    """

    pair: dict[str, Any]
    present: list[TextPair]
    absent: list[TextPair]


def questions_with_sources(
    index: Index, retriever: TrainedRetriever, pairs: Sequence[dict[str, Any]], num_contexts: int
) -> list[QuestionSources]:
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
        asked.append(QuestionSources(pair, present, absent))
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
      prepared: the table; questions of dev are asked, then of train if these are too few.
      settings: where to refuse.

    Raises:
      ValueError: the model is no chat model, the index is of another table, or the table is too small.
    """
    if not model.tokenizer.chat_template or not model.prompt:
        raise ValueError(
            "Only a chat model that was trained to refuse can be fitted, and this one has no chat template. Train one "
            "with docproduct.recipes.starter."
        )
    check_prepared(index.manifest, prepared)
    pairs = _drawn(prepared, settings.num_questions)
    if len(pairs) < refusal.LEAST_QUESTIONS:
        raise ValueError(
            f"{prepared.path} has {len(pairs)} questions in dev and train; expected {refusal.LEAST_QUESTIONS} or more. "
            "Add pairs."
        )
    asked = questions_with_sources(index, retriever, pairs, model.prompt.num_contexts)

    def margins(sources: list[list[TextPair]], name: str) -> np.ndarray:
        asked_with = tqdm(zip(asked, sources, strict=True), name, len(asked), unit=" questions")
        prompts = (
            answer_prompt(model.tokenizer, model.prompt, question.pair["question"], found).ids
            for question, found in asked_with
        )
        return refusal.margins(model, prompts)

    present = margins([question.present for question in asked], "with their source")
    absent = margins([question.absent for question in asked], "without it")
    fitted = refusal.fit(present, absent, settings)
    return dataclasses.replace(fitted, prepared=prepared.fingerprint())


def _drawn(prepared: PreparedFolder, count: int) -> list[dict[str, Any]]:
    """Returns questions at random, those of dev first."""
    drawn: list[dict[str, Any]] = []
    for split in (splits.DEV, splits.TRAIN):
        pairs = prepared.table(_COLUMNS, split).to_pylist()
        drawn += [pairs[row] for row in np.random.default_rng(0).permutation(len(pairs))]
    return drawn[:count]


def main(argv: list[str]) -> None:
    """Fits what the flags describe."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        if os.path.isfile(values.generator_dir):
            raise ValueError(
                f"{values.generator_dir} is a file, and refusal.json needs a folder. Give a model's folder, or an "
                "adapter's."
            )
        if not os.path.isdir(values.generator_dir):
            raise ValueError(f"There is no folder {values.generator_dir}. Expected a model's folder, or an adapter's.")
        if not os.access(values.generator_dir, os.W_OK):
            raise ValueError(
                f"{values.generator_dir} is read-only, and refusal.json belongs there. Copy the folder, and give the "
                "copy."
            )
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
