"""A pointer beside a GPT-2's vocabulary: what stood behind a like place before is copied from there.

Source: Merity et al. 2017, "Pointer Sentinel Mixture Models". Differences: places are compared by the model's last
states and by how many of the tokens that end there are equal, as prompt look-up does; the sentinel is a product with
the state.

    p(w) = g * p_vocabulary(w) + sum of a_j over the places j that w stands behind;  (g, a) = softmax(sentinel, scores)

    B texts, Q tokens that are written behind, L slots of what was read, D width, S size
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from docproduct.layers.attention import HIDDEN

SIZE = 64
_LONGEST = 5  # tokens that are compared
# At first, the scores of places with 0, 1, ... 5 equal tokens, beside a sentinel of 0. Fitted beside a small model, on
# some of MedQuAD's dev questions, and rounded. Places without an equal token are many: they shall hardly count.
_EQUAL_BIAS = (-10.0, -5.0, -3.5, -2.5, -1.5, -0.5)
_NOTHING = 1e-30  # stands for a probability of 0, whose logarithm is taken


class Pointer(keras.layers.Layer):
    """Says how much of the next token's probability is the vocabulary's, and how much each earlier place's."""

    def __init__(self, width: int, seeds: Iterator[int]):
        """Makes one for states of `width`; it is float32, whatever the model is."""
        super().__init__(name="pointer", dtype="float32", autocast=False)
        self._width = width
        self._initializer = keras.initializers.Orthogonal(seed=next(seeds))

    def build(self) -> None:
        """Makes the weights: queries and keys begin as the same projection."""
        self.key_kernel = self.add_weight(shape=(self._width, SIZE), initializer=self._initializer, name="key")
        self.query_kernel = self.add_weight(shape=(self._width, SIZE), initializer=self._initializer, name="query")
        self.sentinel = self.add_weight(shape=(self._width,), initializer="zeros", name="sentinel")
        self.sentinel_bias = self.add_weight(shape=(), initializer="zeros", name="sentinel_bias")
        self.equal_bias = self.add_weight(shape=(_LONGEST + 1,), initializer=_equal_bias, name="equal_bias")

    def keys(self, states: Any) -> Any:
        """[B, T, D] last states -> [B, T, S] float32."""
        return ops.matmul(_normal(states), self.key_kernel)

    def call(self, states: Any, slots: Any, keys: Any, ids: Any, readable: Any) -> tuple[Any, Any]:
        """Compares the places that are written behind with those before.

        Args:
          states: [B, Q, D], the last states of the tokens there.
          slots: [Q] int, the slots of these tokens.
          keys: [B, L, S], of all that was read.
          ids: [B, L] int.
          readable: [B, Q, L] bool, or one row for all, [B, 1, L]: real tokens of the same text. Only those before the
            place count.

        Returns:
          [B, Q] float32, the logarithm of the gate g; [B, Q, L] float32, the probabilities a of what stands behind each
          slot. See `log_mixture`.
        """
        states = _normal(states)
        scores = ops.matmul(ops.matmul(states, self.query_kernel), ops.transpose(keys, (0, 2, 1))) / SIZE
        scores = scores + ops.take(self.equal_bias, common_suffix_lengths(ids, slots), axis=0)
        before = ops.arange(ops.shape(ids)[1]) < slots[:, None]  # [Q, L]
        scores = ops.where(readable & before, scores, HIDDEN)
        sentinel = ops.matmul(states, self.sentinel[:, None]) + self.sentinel_bias  # [B, Q, 1]
        logs = ops.log_softmax(ops.concatenate([sentinel, scores], axis=-1), axis=-1)
        return logs[..., 0], ops.exp(logs[..., 1:])


def log_mixture(log_gate: Any, log_vocabulary: Any, copied: Any) -> Any:
    """Returns the logarithm of g * p_vocabulary(w) + the sum of a_j; all of one shape, or broadcast.

    Args:
      log_gate: of `Pointer`.
      log_vocabulary: the logarithm of p_vocabulary(w).
      copied: the sum of a_j over the places that w stands behind.
    """
    return ops.logaddexp(log_gate + log_vocabulary, ops.log(copied + _NOTHING))


def common_suffix_lengths(ids: Any, slots: Any) -> Any:
    """Compares the text up to each of some slots with the text up to every slot.

    Args:
      ids: [B, L] int.
      slots: [Q] int.

    Returns:
      [B, Q, L] int32: how many tokens at their ends are equal, at most five.
    """
    length = ops.shape(ids)[1]
    places = ops.arange(length)
    run = 1
    count = 0
    for back in range(_LONGEST):
        own = ops.take(ids, ops.maximum(slots - back, 0), axis=1)  # [B, Q]
        theirs = ops.take(ids, ops.maximum(places - back, 0), axis=1)  # [B, L]
        there = (slots >= back)[:, None] & (places >= back)[None]  # [Q, L]
        run = run * ops.cast((own[:, :, None] == theirs[:, None, :]) & there, "int32")
        count = count + run
    return count


def _normal(states: Any) -> Any:
    """[B, Q, D] -> [B, Q, D] float32: GPT-2s' last states differ in scale."""
    states = ops.cast(states, "float32")
    mean, variance = ops.moments(states, axes=-1, keepdims=True)
    return (states - mean) * ops.rsqrt(variance + 1e-6)


def _equal_bias(shape: tuple[int, ...], dtype: Any = None) -> Any:
    return ops.reshape(ops.convert_to_tensor(_EQUAL_BIAS, dtype or "float32"), shape)
