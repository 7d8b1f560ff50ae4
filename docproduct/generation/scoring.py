"""How likely a model finds the tokens of a text.

T tokens, K likeliest tokens, D width, V vocabulary
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from docproduct.generation.causal_lm import CausalLM

_LOGITS = 256  # tokens whose logits are in memory at once: the vocabulary is large
_IDS = tf.TensorSpec([1, None], tf.int32)
_STATES = tf.TensorSpec([None, None], tf.float32)


class Scores(NamedTuple):
    """Log-probabilities of the tokens of a text behind its first, each after those before it.

    Attributes:
      log_probs: [T - 1] float32.
      top_ids: [T - 1, K] int32, the likeliest tokens, the first one first.
      top_log_probs: [T - 1, K] float32.
    """

    log_probs: np.ndarray
    top_ids: np.ndarray
    top_log_probs: np.ndarray


class Scorer:
    """Scores texts with a model of this process."""

    def __init__(self, model: CausalLM):
        """Takes the model, which has no encoder."""
        self._model = model
        # One signature for all sizes: traced once.
        self._states = tf.function(self._read, input_signature=[_IDS], autograph=False)
        signature = [_STATES, tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)]
        self._scores = tf.function(self._of_tokens, input_signature=signature, autograph=False)

    def __call__(self, ids: Sequence[int], num_top: int = 1) -> Scores:
        """Returns the scores of a text.

        Args:
          ids: T token ids, 1 or more.
          num_top: K.
        """
        states = self._states(tf.constant([list(ids)]))[:-1]  # [T - 1, D]
        parts = [
            self._scores(states[start : start + _LOGITS], tf.constant(ids[start + 1 : start + 1 + _LOGITS]), num_top)
            for start in range(0, len(ids) - 1, _LOGITS)
        ]
        if not parts:
            return Scores(np.zeros([0], np.float32), np.zeros([0, num_top], int), np.zeros([0, num_top], np.float32))
        return Scores(*(np.concatenate([part.numpy() for part in column]) for column in zip(*parts, strict=True)))

    def _read(self, ids: tf.Tensor) -> tf.Tensor:
        states, _ = self._model.prefill(ids, tf.ones_like(ids, tf.bool), tf.shape(ids)[1])
        return tf.cast(states[0], tf.float32)

    def _of_tokens(self, states: tf.Tensor, targets: tf.Tensor, num_top: tf.Tensor) -> tuple[tf.Tensor, ...]:
        log_probs = tf.nn.log_softmax(self._model.logits(states[None])[0])  # [T - 1, V]
        top = tf.math.top_k(log_probs, num_top)
        return tf.gather(log_probs, targets, batch_dims=1), top.indices, top.values
