"""Cuts long texts into windows of tokens, each of which gets a vector of its own."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from docproduct.index.settings import IndexSettings
from docproduct.systems.retriever import TrainedRetriever

_UNCUT = 2**30  # tokens: no text is longer
# Windows of a document: shorter than most encoders take, so that a few sentences that answer are not lost among others.
_DOCUMENT_TOKENS = 128
_OVERLAP = 8  # consecutive windows of a document share at most 1/8 of a window, unless --passage_tokens is given
_HEADING_SHARE = 4  # a heading takes at most 1/4 of a window


class Windows(NamedTuple):
    """P windows of N texts.

    Attributes:
      ids: [P, (T)] int32, each with [CLS] and [SEP].
      rows: [P] int, the text of each window.
      numbers: [P] int, its number in that text.
    """

    ids: tf.RaggedTensor
    rows: np.ndarray
    numbers: np.ndarray


def of_passages(
    texts: Sequence[str], retriever: TrainedRetriever, settings: IndexSettings, headings: Sequence[str]
) -> Windows:
    """Cuts passages of documents into windows, each under its heading, of `passage_tokens` or 128 tokens at most.

    Raises:
      ValueError: see `cut`.
    """
    size, overlap = settings.passage_tokens, settings.passage_overlap
    if not size:
        size = min(_DOCUMENT_TOKENS, retriever.config.max_tokens)
        overlap = min(overlap, size // _OVERLAP)
    return cut(texts, retriever, size, overlap, headings)


def cut(
    texts: Sequence[str],
    retriever: TrainedRetriever,
    num_tokens: int,
    overlap: int,
    headings: Sequence[str] = (),
) -> Windows:
    """Cuts texts into overlapping windows.

    Args:
      texts: N answers or passages.
      retriever: Its tokenizer counts; its prompt for answers begins every window.
      num_tokens: Most tokens of a window, special tokens, prompt and heading included.
      overlap: Tokens that two consecutive windows share.
      headings: Heading of each text, which begins all of its windows and takes a quarter of each at most; empty: none.

    Raises:
      ValueError: windows are longer than the encoder takes, or leave no room for new tokens.
    """
    longest, encode = retriever.config.max_tokens, retriever.tokenizer.encode_few
    (prompt,) = (ids[1:-1] for ids in encode([retriever.prompts.answer], _UNCUT))
    room = num_tokens - 2 - len(prompt)
    if num_tokens > longest or room - overlap < 1:
        raise ValueError(
            f"passage_tokens is {num_tokens} and passage_overlap {overlap}; expected at most {longest} tokens, what "
            f"this encoder takes, and an overlap of 0 to {room - 1}."
        )
    before = [ids[1:-1][: room // _HEADING_SHARE] for ids in encode(list(headings), _UNCUT)] if headings else []
    windows: list[list[int]] = []
    rows, numbers = [], []
    for row, ids in enumerate(retriever.tokenizer.encode(texts, _UNCUT).to_list()):
        first, *tokens, last = ids
        start_of_each = [*prompt, *(before[row] if before else ())]
        size = num_tokens - 2 - len(start_of_each)
        shared = min(overlap, size // 2) if before else overlap
        # No window starts where only tokens of the window before are left.
        for number, start in enumerate(range(0, max(len(tokens) - shared, 1), size - shared)):
            windows.append([first, *start_of_each, *tokens[start : start + size], last])
            rows.append(row)
            numbers.append(number)
    # `tf.ragged.constant` takes minutes for 30,000 windows: its time grows with their square.
    values = np.fromiter(itertools.chain.from_iterable(windows), np.int32)
    ids = tf.RaggedTensor.from_row_lengths(values, np.array(list(map(len, windows)), np.int32))
    return Windows(ids, np.array(rows, int), np.array(numbers, int))
