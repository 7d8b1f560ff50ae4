"""A language model with a head that scores each choice by the state of its last token.

One score serves both kinds of questions: its softmax ranks the choices of a question with one answer, and its sigmoid
decides on each choice where several may be right; the head's bias shifts only the latter.

B questions, T tokens of a row, C choices, D width
"""

from typing import Any

import keras
import tensorflow as tf

from docproduct.systems.generator.model import Decoder
from docproduct.systems.multiple_choice.questions import NO_CHOICE


class Head(keras.layers.Layer):
    """States to scores; zeros in the beginning, so that no choice is preferred."""

    def __init__(self, width: int):
        super().__init__(name="choice_head", dtype="float32")
        self.score = keras.layers.Dense(1, kernel_initializer="zeros", name="score", dtype="float32")
        self.score.build((None, width))
        self.built = True

    def call(self, states: Any) -> Any:
        """[N, D] -> [N] float32."""
        return self.score(states)[:, 0]


def scores(decoder: Decoder, head: Head, batch: dict[str, tf.Tensor], training: bool, recompute: bool) -> tf.Tensor:
    """Scores the choices of questions whose prompts are read once.

    Args:
      decoder: the language model.
      head: scores states.
      batch: "ids", "segment_ids" and "branch_ids" [B, T], and "ends" [B, C], see `questions.Batch`.
      training: whether dropout acts.
      recompute: see recompute.py.

    Returns:
      [B, C] float32; 0 where there is no choice.
    """
    states = decoder(
        batch["ids"],
        segment_ids=batch["segment_ids"],
        branch_ids=batch["branch_ids"],
        training=training,
        recompute=recompute,
    )
    places = tf.where(batch["ends"] != NO_CHOICE)  # [N, 2]
    columns = tf.cast(tf.gather_nd(batch["ends"], places), tf.int64)
    last = tf.gather_nd(states, tf.stack([places[:, 0], columns], axis=1))  # [N, D]
    values = head(tf.cast(last, tf.float32))
    return tf.scatter_nd(places, values, tf.shape(batch["ends"], out_type=tf.int64))
