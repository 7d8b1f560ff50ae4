"""A pointer beside a GPT-2's vocabulary: what stood behind a like place before is copied from there.

Source: Merity et al. 2017, "Pointer Sentinel Mixture Models". Differences: places are compared by the model's last
states and by how many tokens before them are equal, as prompt look-up does; the sentinel is a product with the state.

    p(w) = g * p_vocabulary(w) + sum of a_j over the places j that w stands behind;  (g, a) = softmax(sentinel, scores)

    B texts, Q tokens that are written behind, L slots of what was read, D width, S size
"""

from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from docproduct.layers.attention import HIDDEN

SIZE = 64
TINY = 1e-9  # a probability may be 0; its logarithm is taken
_LONGEST = 5  # tokens before two places that are compared
_NAT_A_TOKEN = 1.0  # at first, for each equal one
_SENTINEL = 5.0  # at first, what the vocabulary is worth: as much as five equal tokens


class Pointer(keras.layers.Layer):
    """Says how much of the next token's probability is the vocabulary's, and how much each earlier place's."""

    def __init__(self, width: int, seeds: Iterator[int], dtype: Any = None):
        """Makes one for states of `width`; its weights are float32."""
        super().__init__(name="pointer", dtype=dtype, autocast=False)
        self._width = width
        self._initializer = keras.initializers.Orthogonal(seed=next(seeds))

    def build(self) -> None:
        """Makes the weights: queries and keys begin as the same projection."""
        self.key_kernel = self.add_weight(shape=(self._width, SIZE), initializer=self._initializer, name="key")
        self.query_kernel = self.add_weight(shape=(self._width, SIZE), initializer=self._initializer, name="query")
        self.sentinel = self.add_weight(shape=(self._width,), initializer="zeros", name="sentinel")
        bias = keras.initializers.Constant(_SENTINEL)
        self.sentinel_bias = self.add_weight(shape=(), initializer=bias, name="sentinel_bias")
        self.equal_bias = self.add_weight(shape=(_LONGEST + 1,), initializer=_a_nat_each, name="equal_bias")

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
          [B, Q] float32, the vocabulary's part; [B, Q, L] float32, the parts of the tokens that stand behind each slot.
        """
        states = _normal(states)
        scores = ops.matmul(ops.matmul(states, self.query_kernel), ops.transpose(keys, (0, 2, 1))) / SIZE
        scores = scores + ops.take(self.equal_bias, equal_before(ids, slots), axis=0)
        before = ops.arange(ops.shape(ids)[1]) < slots[:, None]  # [Q, L]
        scores = ops.where(readable & before, scores, HIDDEN)
        sentinel = ops.matmul(states, self.sentinel[:, None]) + self.sentinel_bias  # [B, Q, 1]
        parts = ops.softmax(ops.concatenate([sentinel, scores], axis=-1), axis=-1)
        return parts[..., 0], parts[..., 1:]


def equal_before(ids: Any, slots: Any) -> Any:
    """Returns how many of the tokens that end at a slot are those that end at each other one, at most five.

    Args:
      ids: [B, L] int.
      slots: [Q] int.

    Returns:
      [B, Q, L] int32; at the beginning of a text fewer are compared.
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


def _a_nat_each(shape: tuple[int, ...], dtype: Any = None) -> Any:
    return _NAT_A_TOKEN * ops.arange(shape[0], dtype=dtype or "float32")
