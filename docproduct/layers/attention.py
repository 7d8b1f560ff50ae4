"""Multi-head scaled dot-product attention: self-attention with or without a cache, and cross-attention to an encoder.

Source: Vaswani et al. 2017. The states of all tokens are one matrix, see transformer.py; only attention needs to know
which text a token belongs to. For generation, `prefill` reads a prompt and returns its keys and values as a cache, and
`decode_step` reads further tokens with the cache.

    B texts, T tokens, N = sum of B * T over the groups, D width, H heads, S = D / H
    L slots of a cache, Q new tokens, E states of an encoder
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras import ops

from docproduct.layers.transformer import Blocks, split_rows

LayerCache = tuple[Any, Any]  # keys and values of a layer, [B, H, L, S] each
_MASKED = -1e9  # added to a score, it makes a probability of 0


class _Attention(keras.layers.Layer):
    """What self-attention and cross-attention share: heads, scale, dropout, and the output projection."""

    def __init__(
        self, width: int, num_heads: int, dropout: float, blocks: Blocks, name: str, scale: float | None = None
    ):
        """Makes the layer.

        Args:
          width: D.
          num_heads: H, which divides D.
          dropout: rate on the attention probabilities.
          blocks: makes the dense layers.
          name: of the layer.
          scale: factor on the scores; default: 1 / sqrt(S).
        """
        super().__init__(name=name, dtype=blocks.dtype, autocast=False)  # the attention bias stays in float32
        self.num_heads = num_heads
        self.head_width = head_width(width, num_heads)
        self.scale = 1 / math.sqrt(self.head_width) if scale is None else scale
        self._make_inputs(width, blocks.dense)
        self.dropout = blocks.dropout(dropout)
        self.output_projection = blocks.dense(width, "output")


class SelfAttention(_Attention):
    """Attention of the tokens of a text to one another; queries, keys and values are one matrix product."""

    def _make_inputs(self, width: int, dense: Callable[[int, str], keras.layers.Layer]) -> None:
        self.query_key_value = dense(3 * width, "query_key_value")

    def build(self, states_shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        self.query_key_value.build(states_shape)
        self.output_projection.build(states_shape)

    def call(self, states: Any, attention_biases: Sequence[Any], training: bool = False) -> Any:
        """Attends within each text.

        Args:
          states: [N, D], one group after the other; rows behind the groups are ignored.
          attention_biases: for each group [B, 1, 1, T] or [B, 1, T, T] float32, added to the scores: 0 where a token
            may attend, very negative where it may not.
          training: whether dropout is active.

        Returns:
          [N, D].
        """
        sizes = [ops.shape(bias)[0] * ops.shape(bias)[3] for bias in attention_biases]
        *groups, rest = split_rows(self.query_key_value(states), sizes)
        mixed = [self._attend(qkv, bias, training) for qkv, bias in zip(groups, attention_biases, strict=True)]
        mixed.append(rest[:, : self.num_heads * self.head_width])
        return self.output_projection(ops.concatenate(mixed, axis=0))

    def _attend(self, qkv: Any, bias: Any, training: bool) -> Any:
        """Attends within the texts of one group: [B * T, 3 D] -> [B * T, D]."""
        q, k, v = self._split_heads(qkv, ops.shape(bias)[0], ops.shape(bias)[3])
        k = ops.transpose(k, (0, 1, 3, 2))
        if training:
            # Scaling q touches T * S numbers a head, scaling the scores T * T. The gradient of the softmax sums over T
            # terms, so it is computed in float32 whatever the policy.
            scores = ops.matmul(q * self.scale, k)  # [B, H, T, T]
            probs = ops.softmax(ops.cast(scores, "float32") + bias, axis=-1)
            probs = self.dropout(ops.cast(probs, self.compute_dtype), training=True)
        else:
            # TensorFlow fuses scale and bias, in this order, with the product; its softmax sums in float32 anyway.
            scores = ops.matmul(q, k) * self.scale + ops.cast(bias, self.compute_dtype)
            probs = ops.softmax(scores, axis=-1)
        return _join_heads(ops.matmul(probs, v))

    def _split_heads(self, qkv: Any, num_texts: Any, num_tokens: Any) -> list[Any]:
        """[B * T, 3 D] -> queries, keys and values, [B, H, T, S] each."""
        qkv = ops.reshape(qkv, (num_texts, num_tokens, 3, self.num_heads, self.head_width))
        return ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), num=3)

    def prefill(self, states: Any, bias: Any, num_slots: Any) -> tuple[Any, LayerCache]:
        """Attends within one group of texts, without dropout, and returns keys and values as well.

        Args:
          states: [B * T, D].
          bias: [B, 1, T, T] float32.
          num_slots: L, T or more.

        Returns:
          [B * T, D], and the cache with keys and values in its first T slots.
        """
        qkv = self.query_key_value(states)
        mixed = self._attend(qkv, bias, training=False)
        _, *new = self._split_heads(qkv, ops.shape(bias)[0], ops.shape(bias)[3])
        room = ((0, 0), (0, 0), (0, num_slots - ops.shape(bias)[3]), (0, 0))
        return self.output_projection(mixed), tuple(ops.pad(x, room) for x in new)

    def decode_step(self, states: Any, cache: LayerCache, rows: "NewRows", bias: Any) -> tuple[Any, LayerCache]:
        """Attends from new tokens to the cached tokens and to one another.

        Args:
          states: [B * Q, D], of Q new tokens of each text.
          cache: keys and values. They are overwritten: use the returned cache from then on.
          rows: places of the new tokens' heads; see `new_rows`.
          bias: [B, 1, Q, L] float32.

        Returns:
          [B * Q, D], and the cache with the new tokens.
        """
        num_texts, num_tokens = ops.shape(bias)[0], ops.shape(bias)[2]
        qkv = ops.reshape(self.query_key_value(states), (-1, self.head_width))  # [B * Q * 3 * H, S]
        q, *new = (ops.take(qkv, rows.split + part * self.num_heads, axis=0) for part in range(3))
        q = ops.reshape(q, (num_texts, self.num_heads, num_tokens, self.head_width))
        k, v = (write_slots(old, rows.cache, x) for old, x in zip(cache, new, strict=True))
        q *= self.scale
        if bias.shape[2] == 1:
            mixed = tf.cond(
                tf.equal(num_texts, 1),
                lambda: attend_one(tf.reshape(q, (self.num_heads, -1)), k, v, tf.reshape(bias, (-1,)))[None, :, None],
                lambda: self._attend_cached(q, k, v, bias),
            )
        else:
            mixed = self._attend_cached(q, k, v, bias)
        mixed = ops.take(ops.reshape(mixed, (-1, self.head_width)), rows.join, axis=0)
        return self.output_projection(ops.reshape(mixed, (-1, self.num_heads * self.head_width))), (k, v)

    def _attend_cached(self, q: Any, k: Any, v: Any, bias: Any) -> Any:
        """Scaled queries [B, H, Q, S], keys and values [B, H, L, S] -> [B, H, Q, S]."""
        scores = ops.einsum("bhqs,bhls->bhql", q, k) + ops.cast(bias, self.compute_dtype)
        # For a few rows, dividing by the sum after the product is faster than TensorFlow's softmax.
        weights = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))  # [B, H, Q, L]
        return ops.matmul(weights, v) / ops.sum(weights, axis=-1, keepdims=True)


class CrossAttention(_Attention):
    """Attention of the tokens of a text to the states of an encoder."""

    def _make_inputs(self, width: int, dense: Callable[[int, str], keras.layers.Layer]) -> None:
        self.query, self.key_value = dense(width, "query"), dense(2 * width, "key_value")

    def build(self, states_shape: tuple[int | None, int], encoder_states_shape: tuple[int | None, ...]) -> None:
        """Makes the variables."""
        self.query.build(states_shape)
        self.key_value.build((None, encoder_states_shape[-1]))
        self.output_projection.build(states_shape)

    def keys_and_values(self, encoder_states: Any) -> LayerCache:
        """[B, E, D of the encoder] -> keys and values, [B, H, E, S] each."""
        num_texts, length, width = ops.shape(encoder_states)
        rows = self.key_value(ops.reshape(encoder_states, (-1, width)))
        rows = ops.reshape(rows, (num_texts, length, 2, self.num_heads, self.head_width))
        return tuple(ops.unstack(ops.transpose(rows, (2, 0, 3, 1, 4)), num=2))

    def call(self, states: Any, encoder_states: Any, bias: Any, training: bool = False) -> Any:
        """Attends to the states of an encoder.

        Args:
          states: [B * T, D].
          encoder_states: [B, E, D of the encoder].
          bias: [B, 1, 1, E] float32, see `padding_bias`.
          training: whether dropout is active.

        Returns:
          [B * T, D].
        """
        return self.attend(states, *self.keys_and_values(encoder_states), bias, training)

    def attend(self, states: Any, k: Any, v: Any, bias: Any, training: bool = False) -> Any:
        """Does what `call` does, with keys and values that `keys_and_values` returned."""
        q = ops.reshape(self.query(states) * self.scale, (ops.shape(k)[0], -1, self.num_heads, self.head_width))
        # Not `k` is transposed: it stays the same in a loop that writes, and with oneDNN TensorFlow then returns wrong
        # tensors from the loop.
        scores = ops.transpose(ops.matmul(k, ops.transpose(q, (0, 2, 3, 1))), (0, 1, 3, 2))  # [B, H, T, E]
        scores = ops.cast(scores, "float32")
        probs = ops.cast(ops.softmax(scores + bias, axis=-1), self.compute_dtype)
        mixed = ops.matmul(self.dropout(probs, training=training), v)
        return self.output_projection(_join_heads(mixed))


def head_width(width: int, num_heads: int) -> int:
    """Returns S = D / H.

    Raises:
      ValueError: H does not divide D.
    """
    if width % num_heads:
        raise ValueError(f"Width {width} cannot be divided among {num_heads} heads; expected a multiple.")
    return width // num_heads


class NewRows(NamedTuple):
    """Row numbers of the heads of Q new tokens, the same for all layers.

    For so few rows, gathering them is faster than transposing.

    Attributes:
      split: [B * H * Q] int32, the queries by text, head and token, in [B * Q * 3 * H, S]; keys are H rows further.
      cache: [B * H * Q] int32, their slots in a cache [B * H * L, S].
      join: [B * Q * H] int32, the results by text, token and head, in [B * H * Q, S].
    """

    split: Any
    cache: Any
    join: Any


def new_rows(num_texts: Any, num_heads: int, num_tokens: Any, num_slots: Any, start: Any) -> NewRows:
    """Returns the rows of Q new tokens of B texts, which take the slots from `start` on."""
    b, h, q = ops.arange(num_texts)[:, None, None], ops.arange(num_heads), ops.arange(num_tokens)
    by_head, by_token = h[:, None], q[:, None]
    rows = (
        (b * num_tokens + q) * 3 * num_heads + by_head,  # [B, H, Q]
        (b * num_heads + by_head) * num_slots + start + q,  # [B, H, Q]
        (b * num_heads + h) * num_tokens + by_token,  # [B, Q, H]
    )
    return NewRows(*(ops.reshape(x, (-1,)) for x in rows))


def write_slots(cache: Any, rows: Any, new: Any) -> Any:
    """Writes new keys or values into a cache [B, H, L, S], in place: a scatter would copy the whole cache.

    Args:
      cache: [B, H, L, S].
      rows: [B * H * Q] int32, rows in [B * H * L, S].
      new: [B, H, Q, S] or [B * H * Q, S].
    """
    flat, new = (tf.reshape(x, (-1, cache.shape[-1])) for x in (cache, new))
    return ops.reshape(tf.raw_ops.InplaceUpdate(x=flat, i=rows, v=new), tf.shape(cache))


def attend_one(q: Any, k: Any, v: Any, bias: Any) -> Any:
    """Attends from one new token of one text, with a product for each head of keys and values.

    1.3 to 1.5 times as fast as batched products of so few rows, see benchmarks/products.py.

    Args:
      q: [H, S], scaled; G = H / KV heads of queries share a head of keys and values.
      k: keys, [1, KV, L, S].
      v: values, the same.
      bias: [L] float32, added to the scores.

    Returns:
      [H, S].
    """
    keys, values = (tf.unstack(x[0], num=x.shape[1]) for x in (k, v))
    parts = tf.split(q, len(keys))  # [G, S] each
    scores = tf.concat([tf.matmul(a, b, transpose_b=True) for a, b in zip(parts, keys, strict=True)], axis=0)
    scores += tf.cast(bias, scores.dtype)  # [H, L]
    weights = tf.exp(scores - tf.reduce_max(scores, axis=-1, keepdims=True))
    parts = tf.split(weights, len(keys))
    mixed = tf.concat([tf.matmul(a, b) for a, b in zip(parts, values, strict=True)], axis=0)
    return mixed / tf.reduce_sum(weights, axis=-1, keepdims=True)


def _join_heads(mixed: Any) -> Any:
    """[B, H, T, S] -> [B * T, H * S]."""
    _, h, _, s = mixed.shape
    return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, h * s))


def causal_mask(segment_ids: Any, branch_ids: Any = None) -> Any:
    """Returns which tokens a token may attend to in texts that are read from left to right.

    Args:
      segment_ids: [B, T] int, the number of the text that a token belongs to, from 1; 0 for padding.
      branch_ids: [B, T] int, for texts that begin alike and end differently: 0 for a token of the common beginning,
        from 1 the number of the ending that a token belongs to. An ending sees the beginning and itself.

    Returns:
      [B, T, T] bool: whether column j is a real token of row i's text, and not after it.
    """
    steps = ops.arange(ops.shape(segment_ids)[1])
    own = (segment_ids[:, None, :] == segment_ids[:, :, None]) & (segment_ids > 0)[:, None, :]
    if branch_ids is not None:
        own &= (branch_ids == 0)[:, None, :] | (branch_ids[:, None, :] == branch_ids[:, :, None])
    return own & (steps[None, :] <= steps[:, None])


def text_positions(mask: Any) -> Any:
    """Returns each token's position in its text, [B, T] int, from a causal mask [B, T, T]; of padding it is 0."""
    return ops.maximum(ops.sum(ops.cast(mask, "int32"), axis=-1) - 1, 0)


def attention_bias(mask: Any) -> Any:
    """Returns what is added to the scores where a mask [B, Q, K] bool allows attention: [B, 1, Q, K] float32."""
    return ops.where(mask[:, None], 0.0, _MASKED)


def padding_bias(mask: Any) -> Any:
    """Returns the attention bias that excludes padding.

    Args:
      mask: [B, T], 1 for a real token.

    Returns:
      [B, 1, 1, T] float32.
    """
    return (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * _MASKED
