"""TensorFlow's own operations under names that also work with JAX as Keras' backend, where keras.ops computes them.

Layers that train in both engines use these where keras.ops adds operations to TensorFlow's graphs, or lacks one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

USES_JAX = keras.backend.backend() == "jax"


def _split(x: Any, sizes: Sequence[int], axis: int) -> list[Any]:
    return ops.split(x, np.cumsum(sizes)[:-1].tolist(), axis=axis)


def _matmul(a: Any, b: Any, transpose_b: bool = False) -> Any:
    return ops.matmul(a, ops.swapaxes(b, -1, -2) if transpose_b else b)


def _without_gradient(function: Callable[..., tuple[Any, Any]]) -> Callable[..., Any]:
    """Leaves the gradient to automatic differentiation: XLA fuses what that makes."""
    return lambda *inputs: function(*inputs)[0]


if USES_JAX:
    custom_gradient = _without_gradient
    reshape, transpose = ops.reshape, ops.transpose
    matmul, split = _matmul, _split
else:
    custom_gradient = tf.custom_gradient
    reshape, transpose = tf.reshape, tf.transpose
    matmul, split = tf.matmul, tf.split
