"""Token ids of questions with answers: `[CLS] question [SEP] answer [SEP]`.

N pairs, T tokens
"""

import functools
import hashlib
import threading
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.tokenizers import Tokenizer
from docproduct.systems.reranker.model import RerankerConfig

_MOST_ANSWERS = 20_000  # of 256 tokens they take 25 MB


class TextIds(NamedTuple):
    """Questions and answers as they stand in pairs.

    Attributes:
      questions: The ids of each question, with [CLS] and [SEP].
      answers: The ids of each answer, with [SEP].
    """

    questions: list[np.ndarray]
    answers: list[np.ndarray]


def text_ids(tokenizer: Tokenizer, config: RerankerConfig, questions: Sequence[str], answers: Sequence[str]) -> TextIds:
    """Tokenizes clean texts, each no longer than it may be in a pair. An encoder's prompts are not added."""
    return TextIds(question_ids(tokenizer, config, questions), answer_ids(tokenizer, config, answers))


def question_ids(tokenizer: Tokenizer, config: RerankerConfig, questions: Sequence[str]) -> list[np.ndarray]:
    """Tokenizes questions; see `TextIds`."""
    return _rows(tokenizer.encode(questions, config.max_question_tokens))


def answer_ids(tokenizer: Tokenizer, config: RerankerConfig, answers: Sequence[str]) -> list[np.ndarray]:
    """Tokenizes answers; see `TextIds`."""
    # An answer loses its [CLS]; a question has at least [CLS], a piece and [SEP].
    return _rows(tokenizer.encode(answers, config.max_tokens - 2)[:, 1:])


def _rows(ids: tf.RaggedTensor) -> list[np.ndarray]:
    return np.split(ids.values.numpy(), ids.row_splits.numpy()[1:-1])


class KnownAnswers:
    """Tokenizes answers, and keeps the ids of the most recent ones: a service reads the same answers again and again.

    Threads may share it.
    """

    def __init__(self, tokenizer: Tokenizer, config: RerankerConfig, most: int = _MOST_ANSWERS):
        """Takes what `answer_ids` takes, and the maximum number of answers that are kept."""
        self._tokenize = functools.partial(answer_ids, tokenizer, config)
        self._most, self._lock = most, threading.Lock()
        self._ids: dict[bytes, np.ndarray] = {}  # by the answer's hash, the least recently used first

    def ids(self, answers: Sequence[str]) -> list[np.ndarray]:
        """Returns what `answer_ids` returns for clean texts."""
        keys = [hashlib.blake2b(answer.encode(), digest_size=16).digest() for answer in answers]
        with self._lock:
            new = {key: answer for key, answer in zip(keys, answers, strict=True) if key not in self._ids}
            if new:
                rows = self._tokenize(list(new.values()))
                self._ids |= {key: row.copy() for key, row in zip(new, rows, strict=True)}  # not a view of all rows
            for key in keys:
                self._ids[key] = self._ids.pop(key)
            result = [self._ids[key] for key in keys]
            while len(self._ids) > self._most:
                del self._ids[next(iter(self._ids))]
        return result


def join(question: np.ndarray, answer: np.ndarray, max_tokens: int) -> np.ndarray:
    """Returns the ids of a pair. A long answer loses its end, but not the last token, [SEP]."""
    room = max_tokens - len(question)
    if len(answer) > room:
        answer = np.concatenate([answer[: room - 1], answer[-1:]])
    return np.concatenate([question, answer])


def grouped(
    ids: tf.Tensor, question_lengths: tf.Tensor, num_groups: int, pad_id: int
) -> tuple[list[tf.Tensor], list[tf.Tensor], tf.Tensor]:
    """Cuts padded pairs into groups of similar length, inside a graph.

    Args:
      ids: [N, T] int32.
      question_lengths: [N] int32.
      num_groups: Number of groups.
      pad_id: Fills the rows.

    Returns:
      The ids and the question lengths of each group; and [N], the place of each pair in the concatenated groups.
    """
    groups, places = batches.length_groups(ids, num_groups, pad_id)
    lengths = tf.split(tf.gather(question_lengths, tf.argsort(places)), [tf.shape(group)[0] for group in groups])
    return groups, lengths, places
