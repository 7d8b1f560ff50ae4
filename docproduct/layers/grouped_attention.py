"""Grouped-query self-attention with rotary positions: several heads of queries share a head of keys and values.

Source: Ainslie et al. 2023 ("GQA"). As in attention.py, the states of all tokens are one matrix, `prefill` reads a
prompt and returns its keys and values as a cache, and `decode_step` reads further tokens with the cache.

    B texts, T tokens, N = B * T, D width, S width of a head, H heads of queries, KV of keys and values, G = H / KV
    L slots of a cache, Q new tokens
"""

import math
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from docproduct.layers import array_ops
from docproduct.layers.array_ops import USES_JAX
from docproduct.layers.attention import LayerCache, attend_one, attention_bias, write_slots
from docproduct.layers.llama_config import LlamaConfig
from docproduct.layers.rotary import Rotation, rotate
from docproduct.layers.transformer import Blocks

_BLOCK = 256  # queries of a prompt that attend together


class Bias(NamedTuple):
    """An attention bias and its sizes, which are the same for all layers: each would add operations to find them out.

    Attributes:
      values: [B, 1, 1, Q, L] float32, added to the scores: 0 where a token may attend, else very negative.
      num_texts: B, a scalar like the following sizes.
      num_queries: Q.
      num_keys: L.
    """

    values: Any
    num_texts: Any
    num_queries: Any
    num_keys: Any

    @property
    def is_of_one_query(self) -> bool:
        """Whether Q is known to be 1."""
        return self.values.shape[3] == 1

    @classmethod
    def of(cls, mask: Any) -> "Bias":
        """Returns the bias for a mask [B, Q, L] bool, which is true where a token may attend."""
        values = attention_bias(mask)[:, None]
        return _StaticBias(values) if USES_JAX else cls(values, *tf.unstack(tf.shape(mask)))


class _StaticBias(NamedTuple):
    """What `Bias` is, with JAX: shapes are known, and Keras takes no numbers beside arrays."""

    values: Any
    is_of_one_query = property(lambda self: self.values.shape[3] == 1)
    num_texts = property(lambda self: self.values.shape[0])
    num_queries = property(lambda self: self.values.shape[3])
    num_keys = property(lambda self: self.values.shape[4])


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

    def call(self, states: Any, rotation: Rotation, bias: Bias, training: bool = False) -> Any:
        """Attends within each text.

        Args:
          states: [N, D].
          rotation: of each token.
          bias: of T queries and T keys.
          training: whether dropout is active.

        Returns:
          [N, D].
        """
        mixed = self._attend(*self._heads(states, rotation, bias, training), bias, training)
        return self._project(mixed)

    def prefill(self, states: Any, rotation: Rotation, bias: Bias, num_slots: Any) -> tuple[Any, LayerCache]:
        """Does what `call` does, without dropout, and returns keys and values in the first T of L slots as well."""
        q, *new = self._heads(states, rotation, bias)
        room = tf.convert_to_tensor(((0, 0), (0, 0), (0, num_slots - bias.num_keys), (0, 0)))
        return self._project(self._attend_in_blocks(q, *new, bias)), tuple(tf.pad(x, room) for x in new)

    def decode_step(
        self, states: Any, rotation: Rotation, cache: LayerCache, slots: Any, bias: Bias
    ) -> tuple[Any, LayerCache]:
        """Attends from new tokens to the cached tokens and to one another.

        Args:
          states: [B * Q, D], of Q new tokens of each text.
          rotation: of each new token.
          cache: keys and values, [B, KV, L, S] each. They are overwritten: use the returned cache from then on.
          slots: [B * KV * Q] int32, the new tokens' rows in a cache [B * KV * L, S].
          bias: of Q queries and L keys.

        Returns:
          [B * Q, D], and the cache with the new tokens.
        """
        q, *new = self._heads(states, rotation, bias)
        k, v = (write_slots(old, slots, x) for old, x in zip(cache, new, strict=True))
        if not bias.is_of_one_query:
            return self._project(self._attend(q, k, v, bias)), (k, v)
        mixed = tf.cond(
            tf.equal(bias.num_texts, 1),
            lambda: self._attend_one(q, k, v, bias),
            lambda: self._attend(q, k, v, bias),
        )
        return self._project(mixed), (k, v)

    def _heads(self, states: Any, rotation: Rotation, bias: Bias, training: bool = False) -> list[Any]:
        """[N, D] -> queries [B, KV, G, T, S], keys and values [B, KV, T, S]; queries and keys are rotated."""
        sizes = [self.num_heads, self.num_kv]
        rows = ops.reshape(self.query_key_value(states), (-1, self.num_heads + 2 * self.num_kv, self.head_width))
        # Keras' split would compute the sizes again.
        rotated, v = array_ops.split(rows, [sum(sizes), self.num_kv], axis=1)
        if self.head_norms:
            parts = array_ops.split(rotated, sizes, axis=1)
            parts = [norm(x, training=training) for norm, x in zip(self.head_norms, parts, strict=True)]
            rotated = ops.concatenate(parts, axis=1)
        q, k = array_ops.split(rotate(rotated, rotation), sizes, axis=1)
        q, k, v = (_by_head(x, bias) for x in (q, k, v))
        shape = -1, self.num_kv, self.num_heads // self.num_kv, bias.num_queries, self.head_width
        return [array_ops.reshape(q, shape), k, v]

    def _attend_in_blocks(self, q: Any, k: Any, v: Any, bias: Bias) -> Any:
        """Does what `_attend` does, for some queries at a time, which need the keys up to their own last one only.

        This saves up to half of the products, and a long prompt's scores, H * T * T numbers, are never there at once.
        """

        def block(start: Any, mixed: Any) -> tuple[Any, Any]:
            end = tf.minimum(start + _BLOCK, bias.num_queries)
            own = Bias(bias.values[..., start:end, :end], bias.num_texts, end - start, end)
            part = self._attend(q[:, :, :, start:end], k[:, :, :end], v[:, :, :end], own)
            return end, tf.concat([mixed, part], axis=1)

        none = tf.zeros((bias.num_texts, 0, self.num_heads * self.head_width), q.dtype)
        shapes = tf.TensorShape([]), tf.TensorShape([None, None, self.num_heads * self.head_width])
        return tf.while_loop(lambda start, _: start < bias.num_queries, block, (tf.constant(0), none), shapes)[1]

    def _attend(self, q: Any, k: Any, v: Any, bias: Bias, training: bool = False) -> Any:
        """Queries [B, KV, G, Q, S], keys and values [B, KV, L, S] -> [B, Q, H * S]."""
        num_texts, num_queries, num_keys = bias.num_texts, bias.num_queries, bias.num_keys
        q = array_ops.reshape(q, (num_texts, self.num_kv, -1, self.head_width))  # [B, KV, G * Q, S]
        scores = array_ops.matmul(q * (1 / math.sqrt(self.head_width)), k, transpose_b=True)
        scores = array_ops.reshape(scores, (num_texts, self.num_kv, -1, num_queries, num_keys))
        scores += ops.cast(bias.values, self.compute_dtype)  # [B, KV, G, Q, L]
        if training:
            # The gradient of the softmax sums over L terms, so it is computed in float32 whatever the policy.
            scores = ops.cast(scores, "float32")
        probs = self.dropout(ops.cast(ops.softmax(scores, axis=-1), self.compute_dtype), training=training)
        mixed = array_ops.matmul(array_ops.reshape(probs, (num_texts, self.num_kv, -1, num_keys)), v)
        mixed = array_ops.reshape(mixed, (num_texts, self.num_heads, num_queries, self.head_width))
        mixed = array_ops.transpose(mixed, (0, 2, 1, 3))
        return array_ops.reshape(mixed, (num_texts, num_queries, self.num_heads * self.head_width))

    def _attend_one(self, q: Any, k: Any, v: Any, bias: Bias) -> Any:
        """Does what `_attend` does for one query of one text."""
        q = tf.reshape(q * (1 / math.sqrt(self.head_width)), (self.num_heads, self.head_width))
        mixed = attend_one(q, k, v, tf.reshape(bias.values, (-1,)))
        return tf.reshape(mixed, (1, 1, self.num_heads * self.head_width))

    def _project(self, mixed: Any) -> Any:
        """[B, Q, H * S] -> [B * Q, D]."""
        return self.output_projection(ops.reshape(mixed, (-1, self.num_heads * self.head_width)))


def _by_head(rows: Any, bias: Bias) -> Any:
    """[B * T, heads, S] -> [B, heads, T, S]."""
    _, heads, width = rows.shape
    if bias.is_of_one_query:  # the same numbers in the same order
        return array_ops.reshape(rows, (-1, heads, 1, width))
    return array_ops.transpose(array_ops.reshape(rows, (-1, bias.num_queries, heads, width)), (0, 2, 1, 3))
