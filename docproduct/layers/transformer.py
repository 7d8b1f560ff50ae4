"""The blocks that all transformers here share: dense layers, normalization, the feed-forward network, the masked mean.

Source: Vaswani et al. 2017. The states of all tokens are one matrix [N, D], so that a dense layer is one matrix product
with a fused bias; on [B, T, D] TensorFlow would reshape around every product. The texts of a batch may come in groups
of similar length, each group padded on its own; only attention needs to know the groups.

    B rows in a group, T its tokens, N = sum of B * T over the groups, D width, H heads, S = D / H
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from docproduct.layers import array_ops, elementwise


def _gelu_erf(x: Any, training: bool = False, compiled: bool = False) -> Any:
    # Without a gradient, TensorFlow recognizes this form and fuses it with the matrix product before it.
    return elementwise.gelu_erf(x, compiled) if training else ops.gelu(x, approximate=False)


# Each is called with (x, training, compiled).
ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "gelu_erf": _gelu_erf,
    "gelu_tanh": lambda x, training=False, compiled=False: ops.gelu(x, approximate=True),
    "relu": lambda x, training=False, compiled=False: ops.relu(x),
}
HUGGING_FACE_ACTIVATIONS = {
    "gelu": "gelu_erf",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def dense(
    units: int, initializer_range: float, seeds: Iterator[int], name: str, dtype: Any, bias: bool = True
) -> keras.layers.Dense:
    """Returns a dense layer with BERT's and GPT-2's initial weights: a truncated normal, and zero biases."""
    initializer = _initializer(initializer_range, next(seeds))
    return keras.layers.Dense(units, use_bias=bias, kernel_initializer=initializer, name=name, dtype=dtype)


def _initializer(initializer_range: float, seed: int) -> keras.initializers.Initializer:
    if not initializer_range:
        return keras.initializers.Zeros()  # drawing what a file will replace takes seconds
    return keras.initializers.TruncatedNormal(stddev=initializer_range, seed=seed)


class Blocks:
    """Makes the basic layers of a model, which share its initializer, seeds and dtype.

    Attributes:
      dtype: Keras dtype policy.
      ties_head: whether the head of a language model is the product with its token table.
    """

    ties_head = True

    def __init__(self, initializer_range: float, seeds: Iterator[int], dtype: Any = None):
        """Takes what the layers share.

        Args:
          initializer_range: standard deviation of random weights; 0: zeros, for weights that are read from a file.
          seeds: one is drawn for each layer with random weights or dropout.
          dtype: Keras dtype policy.
        """
        self.dtype, self._initializer_range, self._seeds = dtype, initializer_range, seeds

    def dense(self, units: int, name: str, bias: bool = True) -> keras.layers.Layer:
        """Returns a dense layer."""
        return dense(units, self._initializer_range, self._seeds, name, self.dtype, bias)

    def dropout(self, rate: float) -> keras.layers.Dropout:
        """Returns a dropout layer."""
        return keras.layers.Dropout(rate, seed=next(self._seeds), dtype=self.dtype)

    def embedding(self, rows: int, width: int, name: str) -> keras.layers.Embedding:
        """Returns an embedding table."""
        initializer = _initializer(self._initializer_range, next(self._seeds))
        return keras.layers.Embedding(rows, width, initializer, name=name, dtype=self.dtype)

    def layer_norm(self, epsilon: float, name: str) -> "LayerNorm":
        """Returns a layer normalization."""
        return LayerNorm(epsilon, name, self.dtype)

    def rms_norm(self, epsilon: float, name: str) -> "RMSNorm":
        """Returns a normalization by the root mean square."""
        return RMSNorm(epsilon, name, self.dtype)


class LayerNorm(keras.layers.Layer):
    """Layer normalization of [N, D]; scale and shift are float32."""

    def __init__(self, epsilon: float, name: str, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.epsilon = epsilon

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes scale and shift, [D]."""
        self.gamma = self.add_weight(shape=shape[1:], initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=shape[1:], initializer="zeros", name="beta", autocast=False)

    def call(self, states: Any, training: bool = False, compiled: bool = False) -> Any:
        """[N, D] -> [N, D]; `training`: whether a gradient will be taken; `compiled`: see elementwise.py."""
        # A function with a gradient of its own takes tensors, not variables. TensorFlow drops a product with 1.
        gamma, beta = self.gamma * 1.0, self.beta * 1.0
        norm = elementwise.layer_norm if training else elementwise.layer_norm_value
        return norm(states, gamma, beta, self.epsilon, compiled)


class RMSNorm(keras.layers.Layer):
    """Division of the last axis by its root mean square; the scale is float32."""

    def __init__(self, epsilon: float, name: str, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.epsilon = epsilon

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Makes the scale, [D]."""
        self.gamma = self.add_weight(shape=shape[-1:], initializer="ones", name="gamma", autocast=False)

    def call(self, states: Any, training: bool = False) -> Any:
        """[..., D] -> [..., D]."""
        if training:
            return elementwise.rms_norm(states, self.gamma * 1.0, self.epsilon)  # a tensor, see LayerNorm
        wide = ops.cast(states, "float32")
        scale = ops.rsqrt(ops.mean(wide * wide, axis=-1, keepdims=True) + self.epsilon)
        return ops.cast(wide * scale * self.gamma, states.dtype)


class FeedForward(keras.layers.Layer):
    """Two dense layers with an activation between them, applied to each token alone."""

    def __init__(self, width: int, inner_width: int, activation: str, blocks: Blocks, name: str):
        """Makes the layer.

        Args:
          width: D.
          inner_width: width between the two dense layers.
          activation: a key of `ACTIVATIONS`.
          blocks: makes the dense layers.
          name: of the layer.
        """
        super().__init__(name=name, dtype=blocks.dtype)
        self.activation = ACTIVATIONS[activation]
        self.inner = blocks.dense(inner_width, "inner")
        self.output_projection = blocks.dense(width, "output")
        self._inner_width = inner_width

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables; Keras would run the layer to make them, which takes long."""
        self.inner.build(shape)
        self.output_projection.build((None, self._inner_width))

    def call(self, states: Any, training: bool = False, compiled: bool = False) -> Any:
        """[N, D] -> [N, D]."""
        return self.output_projection(self.activation(self.inner(states), training, compiled))


class GatedFeedForward(keras.layers.Layer):
    """SwiGLU: a product of two dense layers, one of them after SiLU, and a third dense layer.

    Source: Shazeer 2020, "GLU Variants Improve Transformer". The first two are one matrix product.
    """

    def __init__(self, width: int, inner_width: int, blocks: Blocks, name: str, bias: bool = False):
        """Makes the layer.

        Args:
          width: D.
          inner_width: width between the dense layers.
          blocks: makes the dense layers.
          name: of the layer.
          bias: whether the dense layers have biases.
        """
        super().__init__(name=name, dtype=blocks.dtype)
        self.gate_and_inner = blocks.dense(2 * inner_width, "gate_and_inner", bias=bias)
        self.output_projection = blocks.dense(width, "output", bias=bias)
        self._inner_width = inner_width

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        self.gate_and_inner.build(shape)
        self.output_projection.build((None, self._inner_width))

    def call(self, states: Any, training: bool = False) -> Any:
        """[N, D] -> [N, D]; `training`: whether a gradient will be taken."""
        gate, inner = ops.split(self.gate_and_inner(states), 2, axis=-1)
        # TensorFlow's SiLU has a faster gradient of its own, which a SavedModel would hold, too.
        active = ops.silu(gate) if training else gate * ops.sigmoid(gate)
        return self.output_projection(active * inner)


def split_rows(x: Any, sizes: Sequence[Any]) -> list[Any]:
    """Cuts [N, D] into parts with the given numbers of rows, and a last part with the remaining rows."""
    if array_ops.USES_JAX:
        return ops.split(x, np.cumsum(sizes).tolist(), axis=0)
    rest = tf.shape(x)[0] - tf.add_n([tf.convert_to_tensor(size) for size in sizes])
    return tf.split(x, tf.stack([*sizes, rest]), num=len(sizes) + 1)


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
