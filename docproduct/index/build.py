"""Builds an index: embeds a prepared folder, cuts answers into passages if asked to, writes the folder."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.schemas import SIDES
from docproduct.index import refusals
from docproduct.index.folder import KIND, TEXT_COLUMNS, Content, word_indexes, write
from docproduct.index.settings import IndexSettings
from docproduct.search.faiss_engine import check_factory
from docproduct.search.shared_words import WordWeights
from docproduct.search.spelling import Speller
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import Embeddings, shorten

_UNCUT = 2**30  # tokens: no answer is longer


def build(
    retriever: TrainedRetriever,
    prepared: PreparedFolder,
    index_dir: str,
    settings: IndexSettings = IndexSettings(),
    encoder_name: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Embeds all pairs of a prepared folder and writes an index, whole or not at all.

    Args:
      retriever: The encoder.
      prepared: The pairs.
      index_dir: The folder to write.
      settings: How the index is built.
      encoder_name: Name of the encoder, for the error that refuses another.
      overwrite: Whether to replace `index_dir`.

    Returns:
      The manifest.

    Raises:
      ValueError: the factory is unknown, passages are longer than the encoder takes, or the factory needs more vectors.
    """
    settings = settings.with_hybrid(retriever.hybrid)
    # Errors that can be known before the work are raised before it.
    width = shorten(np.ones((1, retriever.config.width), np.float32), settings.dims).shape[1]
    check_factory(width, settings.factory, settings.search_parameters)
    pairs = prepared.table(TEXT_COLUMNS)
    passages, rows, numbers = None, np.arange(len(pairs)), np.zeros(len(pairs), int)
    if settings.passage_tokens:
        passages, rows, numbers = _passages(pairs["answer"].to_pylist(), retriever, settings)
    words = word_indexes(pairs, settings)
    made_of = {
        "encoder": {
            "name": encoder_name,
            "fingerprint": retriever.fingerprint(),
            "dtype_policy": retriever.dtype_policy,
        },
        "prepared": prepared.fingerprint(),
        "settings": dataclasses.asdict(settings),
    }
    with files.whole_folder(index_dir, overwrite, KIND) as folder:
        embeddings = {
            "question": retriever.embed_prepared(prepared, "question", progress="questions"),
            "answer": retriever.embed_ids(passages, "answer", progress="answers")
            if settings.passage_tokens
            else retriever.embed_prepared(prepared, "answer", progress="answers"),
        }
        if settings.export_embeddings:
            _save_embeddings(folder, embeddings)
        heads = {side: shorten(vectors.head, settings.dims) for side, vectors in embeddings.items()}
        content = Content(pairs, prepared.table(["split"])["split"].to_numpy(), heads, rows, numbers)
        made_of["answerable"] = _calibrate(folder, content, retriever, settings)
        return write(folder, content, words, settings, made_of)


def _calibrate(
    folder: str, content: Content, retriever: TrainedRetriever, settings: IndexSettings
) -> dict[str, Any] | None:
    """Calibrates which questions are answerable, and writes the words' weights that this takes."""
    texts = (content.pairs[side].to_pylist() for side in SIDES)
    weights = WordWeights.build(f"{question}\n{answer}" for question, answer in zip(*texts, strict=True))

    def embed(questions: Sequence[str]) -> np.ndarray:
        return shorten(retriever.embed(questions, "question").head, settings.dims)

    correct = Speller(weights.counts, retriever.tokenizer).correct
    if not (evidence := refusals.gather(content, weights, embed, correct)):
        return None
    calibrated = refusals.calibrate(evidence, settings.kept)
    refusals.report(calibrated)
    weights.save(folder)
    return calibrated


def _save_embeddings(folder: str, embeddings: dict[str, Embeddings]) -> None:
    for side, vectors in embeddings.items():
        for name, array in vectors._asdict().items():
            np.save(os.path.join(folder, f"{side}_{name}.npy"), array)


def _passages(
    answers: list[str], retriever: TrainedRetriever, settings: IndexSettings
) -> tuple[tf.RaggedTensor, np.ndarray, np.ndarray]:
    """Returns the ids of P passages, each with [CLS] and [SEP], the row of each one's answer, and its number in it."""
    longest = retriever.config.max_tokens
    # Every passage begins as an answer does: special tokens, the encoder's prompt.
    prompt = retriever.tokenizer.encode_few([retriever.prompts.answer], _UNCUT)[0][1:-1]
    window = settings.passage_tokens - 2 - len(prompt)
    step = window - settings.passage_overlap
    if settings.passage_tokens > longest or step < 1:
        raise ValueError(
            f"passage_tokens is {settings.passage_tokens} and passage_overlap {settings.passage_overlap}; expected "
            f"at most {longest} tokens, what this encoder takes, and an overlap of 0 to {window - 1}."
        )
    passages: list[list[int]] = []
    rows, numbers = [], []
    for row, ids in enumerate(retriever.tokenizer.encode(answers, _UNCUT).to_list()):
        first, *tokens, last = ids
        # No window starts where only tokens of the window before are left.
        for number, start in enumerate(range(0, max(len(tokens) - settings.passage_overlap, 1), step)):
            passages.append([first, *prompt, *tokens[start : start + window], last])
            rows.append(row)
            numbers.append(number)
    return tf.ragged.constant(passages, tf.int32, row_splits_dtype=tf.int32), np.array(rows), np.array(numbers)
