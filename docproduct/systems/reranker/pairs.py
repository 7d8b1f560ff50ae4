"""Token ids of questions with answers: `[CLS] question [SEP] answer [SEP]`.

N pairs, T tokens
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.tokenizers import Tokenizer
from docproduct.systems.reranker.model import RerankerConfig


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
    question_ids = tokenizer.encode(questions, config.max_question_tokens)
    # An answer loses its [CLS]; a question has at least [CLS], a piece and [SEP].
    answer_ids = tokenizer.encode(answers, config.max_tokens - 2)[:, 1:]
    return TextIds(*(np.split(ids.values.numpy(), ids.row_splits.numpy()[1:-1]) for ids in (question_ids, answer_ids)))


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
