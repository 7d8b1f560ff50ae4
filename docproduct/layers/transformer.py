"""Blocks that the transformers share: self-attention, the feed-forward network, pooling.

Source: Vaswani et al. 2017. States of all tokens are kept as one matrix [B * T, D]: a dense layer on it is one matrix
product with its bias fused, where on [B, T, D] TensorFlow would reshape around every product.

    B rows in a batch, T tokens, N = B * T, D width, H heads, S = D / H
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu_erf": lambda x: ops.gelu(x, approximate=False),
    "gelu_tanh": lambda x: ops.gelu(x, approximate=True),
    "relu": ops.relu,
}


def dense(units: int, initializer_range: float, seeds: Iterator[int], name: str, dtype: Any) -> keras.layers.Dense:
    """Returns a dense layer with BERT's and GPT-2's initial weights: a truncated normal, and zero biases."""
    initializer = keras.initializers.TruncatedNormal(stddev=initializer_range, seed=next(seeds))
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=dtype)


class SelfAttention(keras.layers.Layer):
    """Multi-head scaled dot-product attention of a text to itself; queries, keys and values are one product."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout: float,
        initializer_range: float,
        seeds: Iterator[int],
        name: str,
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype, autocast=False)  # the attention bias stays in float32
        if width % num_heads:
            raise ValueError(f"Width {width} cannot be divided among {num_heads} heads; expected a multiple.")
        self.num_heads = num_heads
        self.head_width = width // num_heads
        self.query_key_value = dense(3 * width, initializer_range, seeds, "query_key_value", dtype)
        self.dropout = keras.layers.Dropout(dropout, seed=next(seeds), dtype=dtype)
        self.output_projection = dense(width, initializer_range, seeds, "output", dtype)

    def call(self, states: Any, attention_bias: Any, training: bool = False) -> Any:
        """Attends.

        Args:
          states: [N, D].
          attention_bias: [B, 1, 1, T] or [B, 1, T, T] float32, added to the scores: 0 where a token may look, very
            negative where not.
          training: whether dropout acts.

        Returns:
          [N, D].
        """
        h, s = self.num_heads, self.head_width
        b, t = ops.shape(attention_bias)[0], ops.shape(attention_bias)[3]
        qkv = ops.reshape(self.query_key_value(states), (b, t, 3, h, s))
        q, k, v = ops.unstack(ops.transpose(qkv, (2, 0, 3, 1, 4)), num=3)  # 3 x [B, H, T, S]
        # Scaling q touches T * S numbers a head, scaling the scores T * T.
        scores = ops.matmul(q * (1 / math.sqrt(s)), ops.transpose(k, (0, 1, 3, 2)))  # [B, H, T, T]
        # Softmax sums over up to T terms: in float32 whatever the policy.
        probs = ops.softmax(ops.cast(scores, "float32") + attention_bias, axis=-1)
        probs = self.dropout(ops.cast(probs, self.compute_dtype), training=training)
        mixed = ops.transpose(ops.matmul(probs, v), (0, 2, 1, 3))  # [B, T, H, S]
        return self.output_projection(ops.reshape(mixed, (-1, h * s)))


class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between them, for each token alone."""

    def __init__(
        self,
        width: int,
        inner_width: int,
        activation: str,
        initializer_range: float,
        seeds: Iterator[int],
        name: str,
        dtype: Any = None,
    ):
        super().__init__(name=name, dtype=dtype)
        self.activation = ACTIVATIONS[activation]
        self.inner = dense(inner_width, initializer_range, seeds, "inner", dtype)
        self.output_projection = dense(width, initializer_range, seeds, "output", dtype)

    def call(self, states: Any) -> Any:
        """[N, D] -> [N, D]."""
        return self.output_projection(self.activation(self.inner(states)))


def padding_bias(mask: Any) -> Any:
    """Returns the attention bias that hides padding.

    Args:
      mask: [B, T], 1 for a real token.

    Returns:
      [B, 1, 1, T] float32.
    """
    return (1.0 - ops.cast(mask, "float32"))[:, None, None, :] * -1e9


def masked_mean(states: Any, mask: Any) -> Any:
    """Averages token states over real tokens.

    Args:
      states: [B, T, D] float.
      mask: [B, T], 1 for a real token; at least one 1 in every row.

    Returns:
      [B, D] float32, the same however far the row was padded.
    """
    weights = ops.cast(mask, "float32")[:, :, None]  # [B, T, 1]
    return ops.sum(ops.cast(states, "float32") * weights, axis=1) / ops.sum(weights, axis=1)
