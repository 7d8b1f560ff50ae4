"""Builds an index: embeds a prepared folder, cuts answers into passages if asked to, writes the folder."""

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.index.folder import KIND, LEXICAL_FOLDERS, TEXT_COLUMNS, Content, write
from docproduct.index.settings import IndexSettings
from docproduct.search import vectors
from docproduct.search.lexical import AUTO, Lexical
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten

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
      retriever: the encoder.
      prepared: the pairs.
      index_dir: the folder to write.
      settings: how.
      encoder_name: what the index calls the encoder when it refuses another.
      overwrite: replace `index_dir`.

    Returns:
      The manifest.

    Raises:
      ValueError: an unknown factory, passages longer than the encoder takes, or fewer vectors than the factory needs.
    """
    if settings.hybrid == AUTO:
        method, weight = retriever.hybrid
        settings = dataclasses.replace(settings, hybrid=method, bm25_weight=weight)
    # Before the work: what FAISS cannot build, and vectors that are shorter than asked for.
    width = shorten(np.ones((1, retriever.config.width), np.float32), settings.dims).shape[1]
    vectors.check(width, settings.factory, settings.search_parameters)
    pairs = prepared.pairs(TEXT_COLUMNS)
    passages, rows, numbers = None, np.arange(len(pairs)), np.zeros(len(pairs), int)
    if settings.passage_tokens:
        passages, rows, numbers = _passages(pairs["answer"].to_pylist(), retriever, settings)
    # Texts without words are known before the work, too.
    lexical = {side: Lexical.build(pairs[side].to_pylist()) for side in LEXICAL_FOLDERS if settings.hybrid != "none"}
    described = {
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
            for side, of_side in embeddings.items():
                for name, rows_of in of_side._asdict().items():
                    np.save(os.path.join(folder, f"{side}_{name}.npy"), rows_of)
        heads = {side: shorten(of_side.head, settings.dims) for side, of_side in embeddings.items()}
        content = Content(pairs, prepared.pairs(["split"])["split"].to_numpy(), heads, rows, numbers)
        return write(folder, content, lexical, settings, described)


def _passages(
    answers: list[str], retriever: TrainedRetriever, settings: IndexSettings
) -> tuple[tf.RaggedTensor, np.ndarray, np.ndarray]:
    """Returns the passages' ids, each with [CLS] and [SEP], and for each the row of its answer and its number there."""
    longest = retriever.config.max_tokens
    # Every passage begins as an answer does: special tokens, the encoder's prompt.
    prompt = retriever.tokenizer.encode_few([retriever.prompts.answer], _UNCUT)[0][1:-1]
    window = settings.passage_tokens - 2 - len(prompt)
    step = window - settings.passage_overlap
    if settings.passage_tokens > longest or settings.passage_overlap < 0 or step < 1:
        raise ValueError(
            f"passage_tokens is {settings.passage_tokens} and passage_overlap {settings.passage_overlap}; expected "
            f"at most {longest} tokens, what this encoder takes, and an overlap of 0 to {window - 1}."
        )
    passages: list[list[int]] = []
    rows, numbers = [], []
    for row, ids in enumerate(retriever.tokenizer.encode(answers, _UNCUT).to_list()):
        first, *tokens, last = ids
        # The last window starts before what is left is only overlap.
        for number, start in enumerate(range(0, max(len(tokens) - settings.passage_overlap, 1), step)):
            passages.append([first, *prompt, *tokens[start : start + window], last])
            rows.append(row)
            numbers.append(number)
    return tf.ragged.constant(passages, tf.int32, row_splits_dtype=tf.int32), np.array(rows), np.array(numbers)
