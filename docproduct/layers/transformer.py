"""Blocks that the transformers share: dense layers, normalization, the feed-forward network, pooling.

Source: Vaswani et al. 2017. States of all tokens are kept as one matrix [N, D]: a dense layer on it is one matrix
product with its bias fused, where on [B, T, D] TensorFlow would reshape around every product. The texts of a batch may
come in groups of like length, each padded on its own; only attention looks at the groups.

    B rows in a group, T its tokens, N = sum of B * T over the groups, D width, H heads, S = D / H
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
from keras import ops

from docproduct.layers import elementwise


def _gelu_erf(x: Any, training: bool = False, compiled: bool = False) -> Any:
    # Without a gradient, TensorFlow recognizes this form and makes it a part of the matrix product before it.
    return elementwise.gelu_erf(x, compiled) if training else ops.gelu(x, approximate=False)


# (x, training, compiled) -> y
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


def dense(units: int, initializer_range: float, seeds: Iterator[int], name: str, dtype: Any) -> keras.layers.Dense:
    """Returns a dense layer with BERT's and GPT-2's initial weights: a truncated normal, and zero biases."""
    initializer = keras.initializers.TruncatedNormal(stddev=initializer_range, seed=next(seeds))
    return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=dtype)


class LayerNorm(keras.layers.Layer):
    """Layer normalization of [N, D]; scale and shift are float32."""

    def __init__(self, epsilon: float, name: str, dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.epsilon = epsilon

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes scale and shift, [D]."""
        self.gamma = self.add_weight(shape=shape[1:], initializer="ones", name="gamma", autocast=False)
        self.beta = self.add_weight(shape=shape[1:], initializer="zeros", name="beta", autocast=False)

    def call(self, states: Any, compiled: bool = False) -> Any:
        """[N, D] -> [N, D]."""
        # Tensors: a hand-written gradient takes no variables. TensorFlow drops a product with 1, a sum with 0 it keeps.
        gamma, beta = self.gamma * 1.0, self.beta * 1.0
        return elementwise.layer_norm(states, gamma, beta, self.epsilon, compiled)


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
        dense: Callable[..., keras.layers.Layer] = dense,
    ):
        super().__init__(name=name, dtype=dtype)
        self.activation = ACTIVATIONS[activation]
        self.inner = dense(inner_width, initializer_range, seeds, "inner", dtype)
        self.output_projection = dense(width, initializer_range, seeds, "output", dtype)

    def call(self, states: Any, training: bool = False, compiled: bool = False) -> Any:
        """[N, D] -> [N, D]."""
        return self.output_projection(self.activation(self.inner(states), training, compiled))


def split_rows(x: Any, sizes: Sequence[Any]) -> list[Any]:
    """Cuts [N, D] into parts of the given numbers of rows, and what is left after them.

    The gradient is one concatenation; that of slices would fill [N, D] with zeros for each of them.
    """

    @ops.custom_gradient
    def split(x: Any) -> Any:
        parts, start = [], 0
        for size in sizes:
            parts.append(x[start : start + size])
            start = start + size
        parts.append(x[start:])
        # TensorFlow passes the parts' gradients one by one, JAX as one list.
        return parts, lambda *upstream: ops.concatenate(upstream if len(upstream) > 1 else upstream[0], axis=0)

    return split(x)


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
