"""Measures how a calibration on the bundled sample decides about other texts, whose questions are known but hidden.

    python -m benchmarks.document_refusals --model_dir=ENCODER --prepared_dir=prepared

The answers of the prepared pairs stand for passages of documents. Each choice of signals is calibrated on the sample,
as an index of documents alone is, and on the prepared pairs themselves, which documents do not have. Ends with one line
of JSON: shares of the questions with an answer that are answered, and of those without anything on their topic that are
refused, in the table's words and in other words.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import app, flags

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.schemas import SIDES
from docproduct.index import IndexSettings, calibrating, refusals, sample_vectors
from docproduct.index.content import TEXT_COLUMNS, Content
from docproduct.index.refusals import OTHER_TOPIC, TABLE, WITH_ANSWER, Evidence, Observed
from docproduct.search.answerable import AnswerableModel
from docproduct.search.shared_words import WordWeights
from docproduct.search.spelling import Speller
from docproduct.systems.retriever import TrainedRetriever

CHOICES = (
    ("cosine",),
    ("cosine", "shared"),
    calibrating.OF_PASSAGES,
    ("cosine", "margin", "shared", "length"),
)


def gather(content: Content, retriever: TrainedRetriever) -> Evidence:
    """Asks the questions of pairs that stand for passages.

    Raises:
      ValueError: there are too few questions.
    """
    texts = zip(*(content.pairs[side].to_pylist() for side in SIDES), strict=True)
    words = WordWeights.build("\n".join(pair) for pair in texts)

    def embed(questions: Sequence[str]) -> np.ndarray:
        return retriever.embed(questions, "question").head

    correct = Speller(words.counts, retriever.tokenizer).correct
    evidence = refusals.gather(content, words, embed, correct, True)
    if not evidence:
        raise ValueError("The folder has too few questions. Expected 200 or more.")
    return evidence


def read(prepared: PreparedFolder, retriever: TrainedRetriever) -> Content:
    """Returns the pairs of a folder with their vectors."""
    pairs = prepared.table([*TEXT_COLUMNS, "split"])
    vectors = {side: retriever.embed_prepared(prepared, side, progress=f"{side}s").head for side in SIDES}
    rows = np.arange(len(pairs))
    return Content(pairs.select(TEXT_COLUMNS), pairs["split"].to_numpy(), vectors, rows, np.zeros_like(rows))


def shares(calibrated: dict[str, Any], observed: Observed) -> dict[str, float]:
    """Returns what a calibration answers and refuses, as shares."""
    model = AnswerableModel.from_json(calibrated["model"])
    passes = model.log_odds(observed.signals) >= calibrated["least_log_odds"]
    of_table = observed.kinds == TABLE
    told = {}
    for words, rows in (("table", of_table), ("other words", ~of_table)):
        told[f"answered, {words}"] = float(passes[rows & (observed.cases == WITH_ANSWER)].mean())
        told[f"refused, other topic, {words}"] = 1 - float(passes[rows & (observed.cases == OTHER_TOPIC)].mean())
    return {name: round(share, 3) for name, share in told.items()}


def measure(sample: Evidence, own: Evidence, features: Sequence[str], keep_share: float) -> dict[str, Any]:
    """Returns the shares of a choice of signals, calibrated on the sample and on the pairs themselves."""
    calibrated = {"sample": sample, "own pairs": own}
    return {
        name: shares(refusals.calibrate(evidence, keep_share, features), own.calibrating)
        for name, evidence in calibrated.items()
    }


def main(argv: list[str]) -> None:
    """Measures what the flags describe."""
    del argv
    values = flags.FLAGS
    retriever = TrainedRetriever.load_for_many(values.model_dir)
    sample = gather(calibrating.sample_content(sample_vectors.cached(retriever), IndexSettings()), retriever)
    own = gather(read(PreparedFolder(values.prepared_dir), retriever), retriever)
    told = {", ".join(features): measure(sample, own, features, values.kept) for features in CHOICES}
    print(json.dumps({"kept": values.kept, "questions": len(np.unique(own.calibrating.rows)), "signals": told}))


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("prepared_dir", None, "Prepared pairs.", required=True)
    flags.DEFINE_float("kept", 0.95, "Share of questions with an answer to keep.", lower_bound=0, upper_bound=1)
    app.run(main)
