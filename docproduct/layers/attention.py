"""Multi-head scaled dot-product attention: of a text to itself, of a text to an encoder, with a cache or without.

Source: Vaswani et al. 2017. States of all tokens are one matrix, see transformer.py; only attention looks at the texts.
For generation, `begin` and `extend` keep the keys and values of what was read.

    B texts, T tokens, N = sum of B * T over the groups, D width, H heads, S = D / H, L slots of a cache, E states of an
    encoder
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from docproduct.layers.transformer import dense, split_rows

Cache = tuple[Any, Any]  # keys and values of a layer, [B, H, L, S] each
HIDDEN = -1e9  # added to a score, it makes a probability of 0


class _Attention(keras.layers.Layer):
    """What both kinds of attention have: heads, their scale, dropout, and the projection of what they found."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout: float,
        initializer_range: float,
        seeds: Iterator[int],
        name: str,
        dtype: Any = None,
        scale: float | None = None,
        dense: Callable[..., keras.layers.Layer] = dense,
    ):
        """Makes the layer.

        Args:
          width: D.
          num_heads: H, divides D.
          dropout: rate on the attention probabilities.
          initializer_range: standard deviation of the kernels.
          seeds: of weights and dropout.
          name: of the layer.
          dtype: Keras dtype policy.
          scale: factor on the scores; None: 1 / sqrt(S).
          dense: makes the dense layers, see `transformer.dense`.
        """
        super().__init__(name=name, dtype=dtype, autocast=False)  # the attention bias stays in float32
        self.num_heads = num_heads
        self.head_width = head_width(width, num_heads)
        self.scale = 1 / math.sqrt(self.head_width) if scale is None else scale
        self._make_inputs(width, lambda units, name: dense(units, initializer_range, seeds, name, dtype))
        self.dropout = keras.layers.Dropout(dropout, seed=next(seeds), dtype=dtype)
        self.output_projection = dense(width, initializer_range, seeds, "output", dtype)


class SelfAttention(_Attention):
    """Multi-head scaled dot-product attention of a text to itself; queries, keys and values are one product."""

    def _make_inputs(self, width: int, make: Callable[[int, str], keras.layers.Layer]) -> None:
        self.query_key_value = make(3 * width, "query_key_value")

    def call(self, states: Any, attention_biases: Sequence[Any], training: bool = False) -> Any:
        """Attends, within each text.

        Args:
          states: [N, D], the groups one after the other; rows beyond them are carried along.
          attention_biases: for each group [B, 1, 1, T] or [B, 1, T, T] float32, added to the scores: 0 where a token
            may look, very negative where not.
          training: whether dropout acts.

        Returns:
          [N, D].
        """
        sizes = [ops.shape(bias)[0] * ops.shape(bias)[3] for bias in attention_biases]
        *groups, rest = split_rows(self.query_key_value(states), sizes)
        mixed = [self._attend(qkv, bias, training) for qkv, bias in zip(groups, attention_biases, strict=True)]
        mixed.append(rest[:, : self.num_heads * self.head_width])
        return self.output_projection(ops.concatenate(mixed, axis=0))

    def _attend(self, qkv: Any, bias: Any, training: bool) -> Any:
        """Attends within the texts of a group: [B * T, 3 D] -> [B * T, D]."""
        q, k, v = self._split_heads(qkv, ops.shape(bias)[0], ops.shape(bias)[3])
        k = ops.transpose(k, (0, 1, 3, 2))
        if training:
            # Scaling q touches T * S numbers a head, scaling the scores T * T. The gradient of softmax sums over T
            # terms: in float32 whatever the policy.
            scores = ops.matmul(q * self.scale, k)  # [B, H, T, T]
            probs = ops.softmax(ops.cast(scores, "float32") + bias, axis=-1)
            probs = self.dropout(ops.cast(probs, self.compute_dtype), training=True)
        else:
            # TensorFlow makes scale and bias, in this order, a part of the product; its softmax sums in float32 anyway.
            scores = ops.matmul(q, k) * self.scale + ops.cast(bias, self.compute_dtype)
            probs = ops.softmax(scores, axis=-1)
        return _join_heads(ops.matmul(probs, v))

    def _split_heads(self, qkv: Any, texts: Any, tokens: Any) -> list[Any]:
        """[B * T, 3 D] -> queries, keys and values, [B, H, T, S] each."""
        qkv = ops.reshape(qkv, (texts, tokens, 3, self.num_heads, self.head_width))
        return ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), num=3)

    def begin(self, states: Any, bias: Any, length: Any) -> tuple[Any, Cache]:
        """Attends as `call` does to one group of texts, and keeps keys and values.

        Args:
          states: [B * T, D].
          bias: [B, 1, T, T] float32.
          length: slots of the cache that is returned, T or more.

        Returns:
          [B * T, D], and keys and values in the first T slots of [B, H, length, S] each.
        """
        qkv = self.query_key_value(states)
        mixed = self._attend(qkv, bias, training=False)
        _, *new = self._split_heads(qkv, ops.shape(bias)[0], ops.shape(bias)[3])
        room = ((0, 0), (0, 0), (0, length - ops.shape(bias)[3]), (0, 0))
        return self.output_projection(mixed), tuple(ops.pad(kept, room) for kept in new)

    def extend(self, states: Any, cache: Cache, rows: "NewRows", bias: Any) -> tuple[Any, Cache]:
        """Attends from new tokens to what is in the cache and to one another.

        Args:
          states: [B * Q, D], of Q new tokens of each text.
          cache: keys and values, [B, H, L, S] each. TensorFlow writes the new ones into them: use the result instead.
          rows: where the new tokens' heads stand; see `new_rows`.
          bias: [B, 1, Q, L] float32.

        Returns:
          [B * Q, D], and the cache with the new tokens in it.
        """
        texts, tokens = ops.shape(bias)[0], ops.shape(bias)[2]
        qkv = ops.reshape(self.query_key_value(states), (-1, self.head_width))  # [B * Q * 3 * H, S]
        q, *new = (ops.take(qkv, rows.split + part * self.num_heads, axis=0) for part in range(3))
        q = ops.reshape(q, (texts, self.num_heads, tokens, self.head_width))
        k, v = (_write(old, rows.cache, x) for old, x in zip(cache, new, strict=True))
        scores = ops.einsum("bhqs,bhls->bhql", q * self.scale, k) + ops.cast(bias, self.compute_dtype)
        # A softmax that is divided by its sum after the product: for a few rows faster than TensorFlow's own.
        likeness = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))  # [B, H, Q, L]
        mixed = ops.matmul(likeness, v) / ops.sum(likeness, axis=-1, keepdims=True)  # [B, H, Q, S]
        mixed = ops.take(ops.reshape(mixed, (-1, self.head_width)), rows.join, axis=0)
        return self.output_projection(ops.reshape(mixed, (-1, self.num_heads * self.head_width))), (k, v)


class CrossAttention(_Attention):
    """Multi-head scaled dot-product attention of texts to the states of an encoder."""

    def _make_inputs(self, width: int, make: Callable[[int, str], keras.layers.Layer]) -> None:
        self.query, self.key_value = make(width, "query"), make(2 * width, "key_value")

    def keys_and_values(self, encoder_states: Any) -> Cache:
        """[B, E, D of the encoder] -> keys and values, [B, H, E, S] each."""
        texts, length, width = ops.shape(encoder_states)
        rows = self.key_value(ops.reshape(encoder_states, (-1, width)))
        rows = ops.reshape(rows, (texts, length, 2, self.num_heads, self.head_width))
        return tuple(ops.unstack(ops.transpose(rows, (2, 0, 3, 1, 4)), num=2))

    def call(self, states: Any, encoder_states: Any, bias: Any, training: bool = False) -> Any:
        """Attends.

        Args:
          states: [B * T, D].
          encoder_states: [B, E, D of the encoder].
          bias: [B, 1, 1, E] float32, see `padding_bias`.
          training: whether dropout acts.

        Returns:
          [B * T, D].
        """
        return self.attend(states, *self.keys_and_values(encoder_states), bias, training)

    def attend(self, states: Any, k: Any, v: Any, bias: Any, training: bool = False) -> Any:
        """`call`, with what `keys_and_values` has computed before."""
        q = ops.reshape(self.query(states), (ops.shape(k)[0], -1, self.num_heads, self.head_width))
        q = ops.transpose(q, (0, 2, 1, 3))  # [B, H, T, S]
        scores = ops.cast(ops.einsum("bhqs,bhes->bhqe", q * self.scale, k), "float32")
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
    """Where the heads of Q new tokens stand, for all layers: for so few rows, gathering is faster than transposing.

    Attributes:
      split: [B * H * Q] int32, the queries by text, head, token, in [B * Q * 3 * H, S]; keys follow H rows behind.
      cache: [B * H * Q] int32, the slots of the same in a cache [B * H * L, S].
      join: [B * Q * H] int32, what was found, by text, token, head, in [B * H * Q, S].
    """

    split: Any
    cache: Any
    join: Any


def new_rows(texts: Any, heads: int, tokens: Any, length: Any, start: Any) -> NewRows:
    """Returns the rows of Q = `tokens` new tokens of B = `texts` texts, from slot `start` of `length` on."""
    b, h, q = ops.arange(texts)[:, None, None], ops.arange(heads), ops.arange(tokens)
    by_head, by_token = h[:, None], q[:, None]
    rows = (
        (b * tokens + q) * 3 * heads + by_head,  # [B, H, Q]
        (b * heads + by_head) * length + start + q,  # [B, H, Q]
        (b * heads + h) * tokens + by_token,  # [B, Q, H]
    )
    return NewRows(*(ops.reshape(x, (-1,)) for x in rows))


def _write(cache: Any, places: Any, rows: Any) -> Any:
    """Puts [B * H * Q, S] into a cache [B, H, L, S]."""
    flat = ops.reshape(cache, (-1, rows.shape[-1]))
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # In place: a scatter copies the whole cache, for every token and layer.
        flat = tf.raw_ops.InplaceUpdate(x=flat, i=places, v=rows)
    else:
        flat = ops.scatter_update(flat, places[:, None], rows)
    return ops.reshape(flat, ops.shape(cache))


def _join_heads(mixed: Any) -> Any:
    """[B, H, T, S] -> [B * T, H * S]."""
    _, h, _, s = mixed.shape
    return ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, h * s))


def read_before(texts: Any) -> Any:
    """Returns what a token sees of texts that are read from left to right.

    Args:
      texts: [B, T] int, the text that a token belongs to, from 1; 0 for padding.

    Returns:
      [B, T, T] bool: whether column j is a real token of row i's text and not after it.
    """
    steps = ops.arange(ops.shape(texts)[1])
    own = (texts[:, None, :] == texts[:, :, None]) & (texts > 0)[:, None, :]
    return own & (steps[None, :] <= steps[:, None])


def hide(seen: Any) -> Any:
    """Returns the attention bias of [B, Q, K] bool, what each token sees: [B, 1, Q, K] float32."""
    return ops.where(seen[:, None], 0.0, HIDDEN)


def padding_bias(mask: Any) -> Any:
    """Returns the attention bias that hides padding.

    Args:
      mask: [B, T], 1 for a real token.

    Returns:
      [B, 1, 1, T] float32.
    """
    return (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * HIDDEN
