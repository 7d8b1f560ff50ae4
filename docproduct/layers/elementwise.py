"""GELU and normalizations, each as one pass forward and one pass back, with hand-written gradients.

Automatic differentiation makes a dozen passes over memory of each. With `compiled=True` XLA makes one kernel of each
pass; it compiles once for every shape, so the number of shapes must be bounded: see `Bert.row_multiple`.

Times as fast as keras.ops, by `python -m benchmarks.gradients` on two AMD EPYC cores with AVX2:

                                     without XLA    with XLA
    GELU, float32 / bfloat16           1.8 / 2.7    4.7 / 6.4
    normalization, float32 / bfloat16  1.5 / 1.2    1.9 / 2.4
    a BERT's training step, float32       1.05         1.14
    a GPT-2's training step, float32      1.16
"""

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from keras import ops

from docproduct.layers.array_ops import custom_gradient


def gelu_erf(x: Any, compiled: bool = False) -> Any:
    """Computes the erf form of GELU, x * Phi(x), where Phi is the normal distribution function.

    Source: Hendrycks & Gimpel 2016, equation 1. Computed in float32; the result has the dtype of x.

    Args:
      x: float, of any shape.
      compiled: whether XLA compiles it.
    """

    @custom_gradient
    def gelu(x: Any) -> Any:
        return _run(_gelu_erf_value, compiled)(x), lambda upstream: _run(_gelu_erf_gradient, compiled)(x, upstream)

    return gelu(x)


def _phi(x: Any) -> Any:
    return 0.5 * (1.0 + ops.erf(x * math.sqrt(0.5)))


def _gelu_erf_value(x: Any) -> Any:
    wide = ops.cast(x, "float32")
    return ops.cast(wide * _phi(wide), x.dtype)


def _gelu_erf_gradient(x: Any, upstream: Any) -> Any:
    wide = ops.cast(x, "float32")
    density = ops.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
    # (x Phi(x))' = Phi(x) + x phi(x)
    return ops.cast(ops.cast(upstream, "float32") * (_phi(wide) + wide * density), x.dtype)


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float, compiled: bool = False) -> Any:
    """Normalizes rows to mean 0 and variance 1, then scales and shifts them.

    Source: Ba et al. 2016. Computed in float32; the result has the dtype of x.

    Args:
      x: [N, D] float.
      gamma: [D] float32.
      beta: [D] float32.
      epsilon: added to the variance.
      compiled: whether XLA compiles it.

    Returns:
      [N, D].
    """

    @custom_gradient
    def normalize(x: Any, gamma: Any, beta: Any) -> Any:
        y, mean, scale = _run(_norm_value, compiled)(x, gamma, beta, ops.cast(epsilon, "float32"))
        return y, lambda upstream: _run(_norm_gradient, compiled)(x, gamma, mean, scale, upstream)

    return normalize(x, gamma, beta)


def layer_norm_value(x: Any, gamma: Any, beta: Any, epsilon: float, compiled: bool = False) -> Any:
    """Returns what `layer_norm` returns, without its gradient.

    TensorFlow never frees a graph that holds a gradient of our own, nor the model's variables with it.
    """
    return _run(_norm_value, compiled)(x, gamma, beta, ops.cast(epsilon, "float32"))[0]


def _norm_value(x: Any, gamma: Any, beta: Any, epsilon: Any) -> tuple[Any, Any, Any]:
    wide = ops.cast(x, "float32")
    mean = ops.mean(wide, axis=-1, keepdims=True)  # [N, 1]
    centered = wide - mean
    scale = ops.rsqrt(ops.mean(centered * centered, axis=-1, keepdims=True) + epsilon)  # [N, 1]
    return ops.cast(centered * scale * gamma + beta, x.dtype), mean, scale


def _norm_gradient(x: Any, gamma: Any, mean: Any, scale: Any, upstream: Any) -> tuple[Any, Any, Any]:
    upstream = ops.cast(upstream, "float32")
    normal = (ops.cast(x, "float32") - mean) * scale
    g = upstream * gamma
    # Moving x along 1 or along itself changes nothing: both parts are taken out of the gradient.
    along_one, along_x = (ops.mean(part, axis=-1, keepdims=True) for part in (g, g * normal))
    gradient = scale * (g - along_one - normal * along_x)
    return ops.cast(gradient, x.dtype), ops.sum(upstream * normal, axis=0), ops.sum(upstream, axis=0)


def rms_norm(x: Any, gamma: Any, epsilon: float) -> Any:
    """Divides by the root mean square of the last axis, then scales.

    Source: Zhang & Sennrich 2019. Computed in float32; the result has the dtype of x.

    Args:
      x: [..., D] float.
      gamma: [D] float32.
      epsilon: added to the mean square.

    Returns:
      [..., D].
    """

    @custom_gradient
    def normalize(x: Any, gamma: Any) -> Any:
        wide = ops.cast(x, "float32")
        scale = ops.rsqrt(ops.mean(wide * wide, axis=-1, keepdims=True) + epsilon)  # [..., 1]
        normal = wide * scale

        def gradient(upstream: Any) -> tuple[Any, Any]:
            upstream = ops.cast(upstream, "float32")
            normal = ops.cast(x, "float32") * scale
            g = upstream * gamma
            # Stretching x changes nothing: that part is taken out of the gradient.
            along_x = ops.mean(g * normal, axis=-1, keepdims=True)
            of_gamma = ops.sum(upstream * normal, axis=tuple(range(len(x.shape) - 1)))
            return ops.cast(scale * (g - normal * along_x), x.dtype), of_gamma

        return ops.cast(normal * gamma, x.dtype), gradient

    return normalize(x, gamma)


_COMPILED = {
    function: tf.function(function, jit_compile=True)
    for function in (_gelu_erf_value, _gelu_erf_gradient, _norm_value, _norm_gradient)
}


def _run(function: Callable[..., Any], compiled: bool) -> Callable[..., Any]:
    return _COMPILED[function] if compiled else function
