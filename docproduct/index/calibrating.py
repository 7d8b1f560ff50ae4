"""Calibrates which questions an index answers: on its own pairs, or on the bundled sample.

The questions of pairs are known. Passages of documents come without questions, so two calibrations are kept apart:

    threshold, answerable    of the pairs, on their questions
    answerable_reranked      the same, with a reranker's logits
    of_documents             of the passages: on the pairs as if they were passages, with their questions hidden. An
                             index with too few pairs takes those of docproduct/sample, with the vectors of its encoder
"""

import csv
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from absl import logging

from data_pipeline import cleaning, splits
from data_pipeline.schemas import ANSWER, QUESTION, SIDES
from docproduct import sample
from docproduct.index import refusals, sample_vectors
from docproduct.index.content import TEXT_COLUMNS, Content, answer_texts, are_passages
from docproduct.index.sample_vectors import Encode
from docproduct.index.settings import IndexSettings
from docproduct.search import threshold
from docproduct.search.answerable import Signals
from docproduct.search.shared_words import WordWeights
from docproduct.search.spelling import Speller
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.systems.retriever.folder import shorten

SAMPLE, OWN_PAIRS = "sample", "pairs"  # what documents are calibrated on
# The signals of a passage that mean the same in other texts: the margin depends on how much there is on a topic.
OF_PASSAGES = ("cosine", "shared", "length")


def calibrate(
    folder: str,
    content: Content,
    retriever: TrainedRetriever,
    settings: IndexSettings,
    reranker: TrainedReranker | None = None,
) -> dict[str, dict[str, Any] | None]:
    """Returns what a manifest holds of the calibration, and writes the words' weights that it takes.

    Args:
      folder: Where the weights are written.
      content: The rows of the index.
      retriever: Its encoder.
      settings: How the index is built.
      reranker: Its logits make a second calibration of the pairs. None: there is only the one of the search.
    """
    passages = are_passages(content.pairs)
    pairs = content.taken(~passages) if passages.any() else content
    words = WordWeights.build(f"{text}\n{answer}" for text, answer in _texts(content))
    calibrated: dict[str, dict[str, Any] | None] = {"threshold": None, "answerable": None}
    if len(pairs.pairs):
        calibrated["threshold"] = threshold_of(pairs, settings.kept)
        logits = reranker and reranker.logits_many
        evidence = _evidence(pairs, words, retriever, settings, _encoding(retriever), logits=logits)
        if evidence:
            calibrated["answerable"] = refusals.calibrate(evidence, settings.kept)
            refusals.report(calibrated["answerable"])
        if evidence and reranker:
            reranked = refusals.calibrate(evidence, settings.kept, Signals._fields)
            calibrated["answerable_reranked"] = reranked | {"reranker": reranker.fingerprint()}
            logging.info("With the reranker:")
            refusals.report(reranked)
    if reranker and "answerable_reranked" not in calibrated:
        logging.warning(
            "There are too few pairs to calibrate with the reranker: it orders hits, and the search decides what is "
            "answerable."
        )
    if passages.any():
        calibrated["of_documents"] = _of_documents(pairs, words, retriever, settings)
        calibrated["threshold"] = calibrated["threshold"] or calibrated["of_documents"]["threshold"]
    if calibrated["answerable"] or passages.any():
        words.save(folder)
    return calibrated


def threshold_of(content: Content, keep_share: float, told: bool = True) -> dict[str, Any]:
    """Calibrates the cosine of the nearest answer on the questions of pairs; logs the result if it is to be `told`."""
    if len(content.vectors) < 2:
        logging.warning(
            "The index has vectors of one side only, so that no threshold can be calibrated: every question counts as "
            "answerable. Give serve.py a --threshold."
        )
        return threshold.UNCALIBRATED
    keys = np.stack([content.pairs[name].to_numpy() for name in ("question_group", "answer_group")])  # [2, N]
    chosen, source = threshold.choose(keys[0], content.split_names)
    questions, answers = content.vectors[QUESTION][chosen], content.vectors[ANSWER]
    unseen = content.split_names[chosen] == splits.DEV
    answer_keys = keys[:, content.rows]
    calibrated = threshold.calibrate(questions, keys[:, chosen], answers, answer_keys, keep_share, unseen)
    calibrated |= {"of": source}
    if told:
        threshold.report(calibrated, keep_share)
    return calibrated


def _texts(content: Content) -> list[tuple[str, str]]:
    """Returns the question of each row, and its answer; a passage stands under its heading."""
    return list(zip(content.pairs["question"].to_pylist(), answer_texts(content.pairs), strict=True))


def _of_documents(
    pairs: Content, words: WordWeights, retriever: TrainedRetriever, settings: IndexSettings
) -> dict[str, Any]:
    source, encode = OWN_PAIRS, _encoding(retriever)
    if not len(refusals.halves(pairs.pairs["question_group"].to_numpy(), pairs.split_names)[0]):
        source, encode = SAMPLE, sample_vectors.cached(retriever)
        pairs = sample_content(encode, settings)
        words = WordWeights.build(f"{text}\n{answer}" for text, answer in _texts(pairs))
    evidence = _evidence(pairs, words, retriever, settings, encode, hide_questions=True)
    calibrated = {
        "on": source,
        "threshold": threshold_of(pairs, settings.kept, told=False),
        "answerable": refusals.calibrate(evidence, settings.kept, OF_PASSAGES) if evidence else None,
    }
    what = "the bundled sample" if source == SAMPLE else "the pairs of the index"
    told = f" {refusals.summary(calibrated['answerable'])}" if calibrated["answerable"] else ""
    logging.info("Documents have no questions: they are calibrated on those of %s, which are hidden.%s", what, told)
    return calibrated


def _encoding(retriever: TrainedRetriever) -> Encode:
    def encode(texts: Sequence[str], side: Side) -> np.ndarray:
        return retriever.embed(texts, side).head

    return encode


def _evidence(
    pairs: Content,
    words: WordWeights,
    retriever: TrainedRetriever,
    settings: IndexSettings,
    encode: Encode,
    hide_questions: bool = False,
    logits: refusals.Logits | None = None,
) -> refusals.Evidence | None:
    def embed(questions: Sequence[str]) -> np.ndarray:
        return shorten(encode(questions, QUESTION), settings.dims)

    correct: Callable[[str], str] = Speller(words.counts, retriever.tokenizer).correct
    return refusals.gather(pairs, words, embed, correct, hide_questions, logits)


def sample_content(encode: Encode, settings: IndexSettings) -> Content:
    """Returns the bundled pairs with the vectors that `encode` makes of their texts."""
    with open(sample.PAIRS_FILE, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pairs = {name: [cleaning.clean(row[name]) for row in rows] for name in (*SIDES, "focus")}
    pairs |= {f"{side}_group": list(map(cleaning.group, pairs[side])) for side in SIDES}
    pairs["pair_id"] = list(map(cleaning.pair_id, *(pairs[side] for side in SIDES)))
    pairs["source"] = [SAMPLE] * len(rows)
    vectors = {side: shorten(encode(pairs[side], side), settings.dims) for side in SIDES}
    numbers = np.arange(len(rows))
    table = pa.table({name: pairs[name] for name in TEXT_COLUMNS})
    return Content(table, np.full(len(rows), ""), vectors, numbers, np.zeros_like(numbers))
