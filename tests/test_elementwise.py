"""Values and gradients of the element-wise functions equal TensorFlow's, plain and compiled."""

import numpy as np
import pytest
import tensorflow as tf

from docproduct.layers import elementwise
from docproduct.layers.transformer import split_rows

X = np.random.default_rng(0).normal(size=(7, 10)).astype(np.float32) * 3
UPSTREAM = np.random.default_rng(1).normal(size=(7, 10)).astype(np.float32)


def value_and_gradients(function, *inputs):
    inputs = [tf.constant(values) for values in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(*inputs)
    return value, tape.gradient(value, inputs, tf.cast(tf.reshape(UPSTREAM, value.shape), value.dtype))


@pytest.mark.parametrize("compiled", [False, True])
def test_gelu(compiled):
    expected = value_and_gradients(lambda x: tf.nn.gelu(x, approximate=False), X)
    received = value_and_gradients(lambda x: elementwise.gelu_erf(x, compiled), X)
    np.testing.assert_allclose(received[0], expected[0], atol=1e-6)
    np.testing.assert_allclose(received[1][0], expected[1][0], atol=1e-6)


def normalize(x, gamma, beta):
    mean = tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean((x - mean) ** 2, axis=-1, keepdims=True)
    return (x - mean) / tf.sqrt(variance + 1e-3) * gamma + beta


@pytest.mark.parametrize("compiled", [False, True])
def test_layer_norm(compiled):
    gamma, beta = np.linspace(0.5, 2, 10, dtype=np.float32), np.linspace(-1, 1, 10, dtype=np.float32)
    expected = value_and_gradients(normalize, X, gamma, beta)
    received = value_and_gradients(lambda *inputs: elementwise.layer_norm(*inputs, 1e-3, compiled), X, gamma, beta)
    np.testing.assert_allclose(received[0], expected[0], atol=1e-5)
    for ours, theirs in zip(received[1], expected[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("shape", [(7, 10), (7, 2, 5)])
def test_rms_norm(shape):
    gamma = np.linspace(0.5, 2, shape[-1], dtype=np.float32)
    root = lambda x: tf.sqrt(tf.reduce_mean(x**2, axis=-1, keepdims=True) + 1e-3)  # noqa: E731
    expected = value_and_gradients(lambda x, gamma: x / root(x) * gamma, X.reshape(shape), gamma)
    found = value_and_gradients(lambda *inputs: elementwise.rms_norm(*inputs, 1e-3), X.reshape(shape), gamma)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    for ours, theirs in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_bfloat16_is_computed_in_float32(compiled):
    x = tf.cast(X, tf.bfloat16)
    received, (gradient,) = value_and_gradients(lambda x: elementwise.gelu_erf(x, compiled), x)
    assert received.dtype == gradient.dtype == tf.bfloat16
    wide = value_and_gradients(lambda x: elementwise.gelu_erf(x), tf.cast(x, tf.float32))
    # One rounding at the end: at most half of the last of eight bits.
    np.testing.assert_allclose(tf.cast(received, tf.float32), wide[0], rtol=2**-8, atol=1e-6)


def test_split_rows():
    parts, (gradient,) = value_and_gradients(lambda x: tf.concat(split_rows(x, [2, 0, 4])[::-1], axis=0), X)
    np.testing.assert_array_equal(parts, np.concatenate([X[6:], X[2:6], X[:2]]))
    np.testing.assert_array_equal(gradient, np.concatenate([UPSTREAM[5:], UPSTREAM[1:5], UPSTREAM[:1]]))
