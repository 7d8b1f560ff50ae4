"""Grouped-query self-attention with rotary positions: several heads of queries share a head of keys and values.

Source: Ainslie et al. 2023 ("GQA"). Keys and values are never repeated: the queries that share them are rows of one
product. As in attention.py, the states of all tokens are one matrix, `prefill` reads a prompt and returns its keys and
values as a cache, and `decode_step` reads further tokens with the cache.

    B texts, T tokens, N = B * T, D width, S width of a head, H heads of queries, KV of keys and values, G = H / KV
    L slots of a cache, Q new tokens
"""

import math
from typing import Any

import keras
from keras import ops

from docproduct.layers.attention import LayerCache, write_slots
from docproduct.layers.llama_config import LlamaConfig
from docproduct.layers.rotary import Rotation, rotate
from docproduct.layers.transformer import Blocks


class GroupedAttention(keras.layers.Layer):
    """Attention of the tokens of a text to one another; queries, keys and values are one matrix product."""

    def __init__(self, config: LlamaConfig, blocks: Blocks, name: str):
        """Makes the layer.

        Args:
          config: sizes, biases, and whether queries and keys are normalized.
          blocks: makes the dense layers.
          name: of the layer.
        """
        super().__init__(name=name, dtype=blocks.dtype, autocast=False)  # the attention bias stays in float32
        self.num_heads, self.num_kv, self.head_width = config.num_heads, config.num_key_value_heads, config.head_width
        units = (self.num_heads + 2 * self.num_kv) * self.head_width
        self.query_key_value = blocks.dense(units, "query_key_value", bias=config.query_key_value_bias)
        norms = ("query_norm", "key_norm") if config.normalizes_heads else ()
        self.head_norms = [blocks.rms_norm(config.norm_epsilon, norm) for norm in norms]
        self.dropout = blocks.dropout(config.attention_dropout)
        self.output_projection = blocks.dense(config.width, "output", bias=config.output_bias)

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables; Keras would run the layer to make them, which takes long."""
        self.query_key_value.build(shape)
        for norm in self.head_norms:
            norm.build((None, None, self.head_width))
        self.output_projection.build((None, self.num_heads * self.head_width))

    def call(self, states: Any, rotation: Rotation, bias: Any, training: bool = False) -> Any:
        """Attends within each text.

        Args:
          states: [N, D].
          rotation: of each token.
          bias: [B, 1, T, T] float32, added to the scores: 0 where a token may attend, very negative where it may not.
          training: whether dropout is active.

        Returns:
          [N, D].
        """
        return self._attend(*self._heads(states, rotation, ops.shape(bias)[0]), bias, training)

    def prefill(self, states: Any, rotation: Rotation, bias: Any, num_slots: Any) -> tuple[Any, LayerCache]:
        """Does what `call` does, without dropout, and returns keys and values in the first T of L slots as well."""
        q, *new = self._heads(states, rotation, ops.shape(bias)[0])
        room = ((0, 0), (0, 0), (0, num_slots - ops.shape(bias)[3]), (0, 0))
        return self._attend(q, *new, bias, training=False), tuple(ops.pad(x, room) for x in new)

    def decode_step(
        self, states: Any, rotation: Rotation, cache: LayerCache, slots: Any, bias: Any
    ) -> tuple[Any, LayerCache]:
        """Attends from new tokens to the cached tokens and to one another.

        Args:
          states: [B * Q, D], of Q new tokens of each text.
          rotation: of each new token.
          cache: keys and values, [B, KV, L, S] each. They are overwritten: use the returned cache from then on.
          slots: [B * KV * Q] int32, the new tokens' rows in a cache [B * KV * L, S].
          bias: [B, 1, Q, L] float32.

        Returns:
          [B * Q, D], and the cache with the new tokens.
        """
        q, *new = self._heads(states, rotation, ops.shape(bias)[0])
        k, v = (
            write_slots(old, slots, ops.reshape(x, (-1, self.head_width))) for old, x in zip(cache, new, strict=True)
        )
        scores = self._scores(q, k, bias)  # [B, KV, G, Q, L]
        # For a few rows, dividing by the sum after the product is faster than TensorFlow's softmax.
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
        mixed = self._mix(weights, v) / ops.sum(weights, axis=-1, keepdims=True)  # [B, KV, G, Q, S]
        return self._join(mixed), (k, v)

    def _heads(self, states: Any, rotation: Rotation, num_texts: Any) -> list[Any]:
        """[N, D] -> queries [B, KV, G * T, S], keys and values [B, KV, T, S]; queries and keys are rotated."""
        rows = ops.reshape(self.query_key_value(states), (-1, self.num_heads + 2 * self.num_kv, self.head_width))
        both, v = rows[:, : -self.num_kv], rows[:, -self.num_kv :]
        if self.head_norms:
            parts = both[:, : self.num_heads], both[:, self.num_heads :]
            both = ops.concatenate([norm(x) for norm, x in zip(self.head_norms, parts, strict=True)], axis=1)
        both = rotate(both, rotation)
        q = _by_head(both[:, : self.num_heads], num_texts)  # [B, H, T, S]
        q = ops.reshape(q, (num_texts, self.num_kv, -1, self.head_width))
        return [q, _by_head(both[:, self.num_heads :], num_texts), _by_head(v, num_texts)]

    def _attend(self, q: Any, k: Any, v: Any, bias: Any, training: bool) -> Any:
        """Attends within whole texts: -> [N, D]."""
        scores = self._scores(q, k, bias)  # [B, KV, G, T, T]
        if training:
            # The gradient of the softmax sums over T terms, so it is computed in float32 whatever the policy.
            probs = ops.softmax(ops.cast(scores, "float32"), axis=-1)
            probs = self.dropout(ops.cast(probs, self.compute_dtype), training=True)
        else:
            probs = ops.softmax(scores, axis=-1)
        return self._join(self._mix(probs, v))

    def _scores(self, q: Any, k: Any, bias: Any) -> Any:
        """Queries [B, KV, G * Q, S], keys [B, KV, L, S] and bias [B, 1, Q, L] -> [B, KV, G, Q, L]."""
        scores = ops.matmul(q * (1 / math.sqrt(self.head_width)), ops.transpose(k, (0, 1, 3, 2)))
        num_texts, _, num_queries, num_keys = ops.shape(bias)
        scores = ops.reshape(scores, (num_texts, self.num_kv, -1, num_queries, num_keys))
        return scores + ops.cast(bias, self.compute_dtype)[:, :, None]

    def _mix(self, weights: Any, v: Any) -> Any:
        """[B, KV, G, Q, L] and values [B, KV, L, S] -> [B, KV, G, Q, S]."""
        num_texts, _, groups, num_queries, num_keys = ops.shape(weights)
        mixed = ops.matmul(ops.reshape(weights, (num_texts, self.num_kv, -1, num_keys)), v)
        return ops.reshape(mixed, (num_texts, self.num_kv, groups, num_queries, self.head_width))

    def _join(self, mixed: Any) -> Any:
        """[B, KV, G, Q, S] -> [B * Q, D]."""
        if mixed.shape[3] != 1:
            mixed = ops.transpose(mixed, (0, 3, 1, 2, 4))
        return self.output_projection(ops.reshape(mixed, (-1, self.num_heads * self.head_width)))


def _by_head(rows: Any, num_texts: Any) -> Any:
    """[B * T, heads, S] -> [B, heads, T, S]."""
    _, heads, width = rows.shape
    return ops.transpose(ops.reshape(rows, (num_texts, -1, heads, width)), (0, 2, 1, 3))
