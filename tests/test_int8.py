"""int8 products against their definition in NumPy, and the processors that they are offered on."""

import numpy as np
import pytest
import tensorflow as tf

from docproduct.layers import int8, precision
from docproduct.layers.int8 import Int8Dense

NEEDS_INT8 = pytest.mark.skipif(not int8.available(), reason=f"int8 needs {int8.NEEDED}")


def make(kernel, bias):
    layer = Int8Dense(kernel.shape[1], "dense")
    layer.build((None, kernel.shape[0]))
    layer.take(kernel, bias)
    return tf.function(layer.call, input_signature=[tf.TensorSpec([None, kernel.shape[0]])], autograph=False)


def by_definition(x, kernel, bias):
    scale = np.abs(kernel).max(axis=0) / 127
    size = np.abs(x).max(axis=1, keepdims=True)
    high = np.round(x * (127 / size))
    low = np.round((x * (127 / size) - high) * 254)
    rounded = (high + low / 254) * size / 127
    return rounded @ (np.round(kernel / scale) * scale) + bias


@NEEDS_INT8
@pytest.mark.parametrize("rows", [1, 8, 50])
def test_products_equal_the_definition(rows):
    random = np.random.default_rng(0)
    kernel = random.normal(0, 0.02, (64, 96)).astype(np.float32) * random.uniform(0.1, 10, 96).astype(np.float32)
    bias = random.normal(size=96).astype(np.float32)
    x = random.normal(0.3, 1, (rows, 64)).astype(np.float32) * random.uniform(0.01, 100, (rows, 1)).astype(np.float32)
    received = make(kernel, bias)(x)
    np.testing.assert_allclose(received, by_definition(x, kernel, bias), rtol=1e-4, atol=1e-4)
    exact = x @ kernel + bias
    # A column of W is rounded in steps of scale: the error is half a step at most.
    error = np.abs(received - exact).max(axis=1) / np.abs(exact).max(axis=1)
    assert error.max() < 0.02


@NEEDS_INT8
def test_a_large_input_does_not_make_the_others_coarse():
    """The large one meets zeros; with one step for all, of 100 / 127, the others would be rounded to 0."""
    random = np.random.default_rng(2)
    kernel = random.normal(size=(64, 96)).astype(np.float32)
    kernel[0] = 0
    x = random.uniform(-0.3, 0.3, size=(3, 64)).astype(np.float32)
    x[:, 0] = 100
    exact = x @ kernel
    received = make(kernel, np.zeros(96, np.float32))(x)
    assert np.abs(received - exact).max() / np.abs(exact).max() < 0.02


@NEEDS_INT8
def test_a_row_does_not_depend_on_the_others():
    random = np.random.default_rng(1)
    product = make(random.normal(size=(16, 8)).astype(np.float32), np.zeros(8, np.float32))
    x = random.normal(size=(5, 16)).astype(np.float32)
    loud = x.copy()
    loud[1:] *= 1_000
    np.testing.assert_array_equal(product(x)[0], product(loud)[0])


@NEEDS_INT8
def test_rows_and_columns_of_one_value():
    kernel = np.zeros((4, 3), np.float32)
    kernel[:, 1] = 0.5
    x = np.array([[0, 0, 0, 0], [2, 2, 2, 2]], np.float32)
    received = make(kernel, np.array([1, 0, 0], np.float32))(x)
    np.testing.assert_allclose(received, [[1, 0, 0], [1, 4, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("fpu avx2 avx512f amx_int8", True),
        ("fpu avx2 avx_vnni", True),
        ("fpu avx512_vnni", True),
        ("fpu avx2 avx512f", False),  # 16-bit sums overflow there
        ("", False),
    ],
)
def test_int8_is_offered_only_where_products_are_exact(flags, expected, tmp_path, monkeypatch):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n")
    monkeypatch.setattr(precision, "_PROCESSOR_FILE", str(tmp_path / "cpuinfo"))
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert int8.available() == expected
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert not int8.available()
