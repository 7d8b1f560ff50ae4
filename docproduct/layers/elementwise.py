"""GELU and layer normalization as one pass forward and one back, with gradients written by hand.

Left to automatic differentiation, each is a dozen passes over memory. With `compiled=True` XLA makes one kernel of each
(TensorFlow only); it compiles for every shape, so that shapes have to be bounded: see `Bert.row_multiple`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    if keras.backend.backend() != "tensorflow":
        return function  # JAX compiles the whole step anyway
    import tensorflow as tf

    return tf.function(function, jit_compile=True)


def _pick(function: Callable[..., Any]) -> Callable[[bool], Callable[..., Any]]:
    """Returns a function of `compiled` that returns `function` as it is, or compiled once."""
    compile_once = functools.cache(lambda: _compile(function))
    return lambda compiled: compile_once() if compiled else function


def _single(arguments: tuple[Any, ...], upstream: Any) -> Any:
    return arguments[0] if upstream is None else upstream  # Keras' backends pass it either way


def gelu_erf(x: Any, compiled: bool = False) -> Any:
    """The erf form of GELU, x * Phi(x), with Phi the normal distribution function.

    Source: Hendrycks & Gimpel 2016, equation 1. Computed in float32; the result has the dtype of x.
    """

    @ops.custom_gradient
    def gelu(x: Any) -> Any:
        def grad(*arguments: Any, upstream: Any = None) -> Any:
            return _gelu_erf_gradient(compiled)(x, _single(arguments, upstream))

        return _gelu_erf_value(compiled)(x), grad

    return gelu(x)


def _phi(x: Any) -> Any:
    return 0.5 * (1.0 + ops.erf(x * math.sqrt(0.5)))


@_pick
def _gelu_erf_value(x: Any) -> Any:
    wide = ops.cast(x, "float32")
    return ops.cast(wide * _phi(wide), x.dtype)


@_pick
def _gelu_erf_gradient(x: Any, upstream: Any) -> Any:
    wide = ops.cast(x, "float32")
    density = ops.exp(-0.5 * wide * wide) * (1 / math.sqrt(2 * math.pi))
    # (x Phi(x))' = Phi(x) + x phi(x)
    return ops.cast(ops.cast(upstream, "float32") * (_phi(wide) + wide * density), x.dtype)


def layer_norm(x: Any, gamma: Any, beta: Any, epsilon: float, compiled: bool = False) -> Any:
    """Normalizes rows to mean 0 and variance 1, then scales and shifts them.

    Source: Ba et al. 2016. Sums are in float32.

    Args:
      x: [N, D] float.
      gamma: [D] float32.
      beta: [D] float32.
      epsilon: added to the variance.
      compiled: by XLA.

    Returns:
      [N, D] of the dtype of x.
    """

    @ops.custom_gradient
    def normalize(x: Any, gamma: Any, beta: Any) -> Any:
        y, mean, scale = _norm_value(compiled)(x, gamma, beta, ops.cast(epsilon, "float32"))

        def grad(*arguments: Any, upstream: Any = None) -> Any:
            return _norm_gradient(compiled)(x, gamma, mean, scale, _single(arguments, upstream))

        return y, grad

    return normalize(x, gamma, beta)


@_pick
def _norm_value(x: Any, gamma: Any, beta: Any, epsilon: Any) -> tuple[Any, Any, Any]:
    wide = ops.cast(x, "float32")
    mean = ops.mean(wide, axis=-1, keepdims=True)  # [N, 1]
    centered = wide - mean
    scale = ops.rsqrt(ops.mean(centered * centered, axis=-1, keepdims=True) + epsilon)  # [N, 1]
    return ops.cast(centered * scale * gamma + beta, x.dtype), mean, scale


@_pick
def _norm_gradient(x: Any, gamma: Any, mean: Any, scale: Any, upstream: Any) -> tuple[Any, Any, Any]:
    upstream = ops.cast(upstream, "float32")
    normal = (ops.cast(x, "float32") - mean) * scale
    g = upstream * gamma
    # Moving x along 1 or along itself changes nothing: both parts are taken out of the gradient.
    along_one, along_x = (ops.mean(part, axis=-1, keepdims=True) for part in (g, g * normal))
    gradient = scale * (g - along_one - normal * along_x)
    return ops.cast(gradient, x.dtype), ops.sum(upstream * normal, axis=0), ops.sum(upstream, axis=0)
