"""Dense layers whose weights are int8: a quarter of the memory to read, which is what writing texts takes its time for.

The product is oneDNN's, `_QuantizedMatMul`, an operation that TensorFlow for x86 processors brings along; it exists in
graphs only. Weights are quantized by column and once, inputs by row and as they come:

    x = low + span / 255 * q, q in 0 ... 255     low, span: [N, 1]
    W = w * scale, w in -127 ... 127             scale: [M]
    x W = span (q / 255) W + low (1 W)           1 W: sums of W's columns, [M]
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

_PRODUCT = "_QuantizedMatMul"


class Int8Dense(keras.layers.Layer):
    """A dense layer of another one's weights, for inference."""

    def __init__(self, units: int, name: str):
        super().__init__(name=name, dtype="float32")
        self.units = units

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes kernel [K, M] int8, and scale, sums of columns and bias, [M] float32 each."""
        constant = {"initializer": "zeros", "trainable": False}
        self.kernel = self.add_weight(shape=(shape[1], self.units), dtype="int8", name="kernel", **constant)
        self.scale, self.sums, self.bias = (
            self.add_weight(shape=(self.units,), name=name, **constant) for name in ("scale", "sums", "bias")
        )

    def take(self, kernel: np.ndarray, bias: np.ndarray) -> None:
        """Takes the weights of a float layer: kernel [K, M], bias [M]."""
        scale = np.maximum(np.abs(kernel).max(axis=0), 1e-30) / 127
        rounded = np.round(kernel / scale).astype(np.int8)
        for variable, value in ((self.kernel, rounded), (self.scale, scale), (self.bias, bias)):
            variable.assign(value)
        self.sums.assign((rounded * scale).sum(axis=0))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[N, K] float32 -> [N, M] float32."""
        return int8_product(x, *(tf.convert_to_tensor(v) for v in (self.kernel, self.scale, self.sums, self.bias)))


def dense(units: int, initializer_range: float, seeds: Iterator[int], name: str, dtype: Any) -> Int8Dense:
    """Returns an int8 layer where `transformer.dense` returns a float one."""
    del initializer_range, dtype
    next(seeds)  # later layers draw the seeds that they draw in a float model
    return Int8Dense(units, name)


def int8_product(x: tf.Tensor, kernel: tf.Tensor, scale: tf.Tensor, sums: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Returns x W + bias; see the head of this file.

    Args:
      x: [N, K] float32.
      kernel: [K, M] int8, which never changes: oneDNN keeps it in its own order.
      scale: [M] float32, by column.
      sums: [M] float32, of W's columns.
      bias: [M] float32.

    Returns:
      [N, M] float32.
    """
    low = tf.reduce_min(x, axis=-1, keepdims=True)
    span = tf.maximum(tf.reduce_max(x, axis=-1, keepdims=True) - low, 1e-30)
    q = tf.bitcast(tf.cast(tf.round((x - low) * (255.0 / span)), tf.uint8), tf.quint8)
    product = _quantized_matmul(q, tf.bitcast(kernel, tf.qint8), scale)
    return product * span + (low * sums + bias)


def _quantized_matmul(q: tf.Tensor, kernel: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """[N, K] quint8, [K, M] qint8, [M] float32 -> (q / 255) @ (kernel * scale), [N, M] float32."""
    operands = [q, kernel, tf.zeros_like(scale)]
    ranges = [tf.constant(0.0), tf.constant(1.0), -127.0 * scale, 127.0 * scale]
    types = {
        "T1": tf.quint8,
        "T2": tf.qint8,
        "Tbias": tf.float32,
        "U": tf.float32,
        "Tout": tf.float32,
        "Tdevice_inputs": [operand.dtype for operand in operands],
        "Thost_inputs": [tf.float32] * len(ranges),
        "Tdevice_outputs": [tf.float32],
        "Thost_outputs": [],
    }
    attributes = {name: _types(value) for name, value in types.items()}
    attributes |= {name: attr_value_pb2.AttrValue(b=True) for name in ("is_weight_const", "is_bias_const")}
    attributes |= {name: attr_value_pb2.AttrValue(s=b"SCALED") for name in ("input_quant_mode", "output_quant_mode")}
    fused = attr_value_pb2.AttrValue.ListValue(s=[b"BiasAdd", b"Dequantize"])
    attributes["fused_ops"] = attr_value_pb2.AttrValue(list=fused)
    operation = q.graph.create_op(_PRODUCT, operands + ranges, [tf.float32], attrs=attributes, name="int8_product")
    (product,) = operation.outputs
    product.set_shape([q.shape[0], kernel.shape[1]])
    return product


def _types(value: tf.DType | list[tf.DType]) -> attr_value_pb2.AttrValue:
    if isinstance(value, tf.DType):
        return attr_value_pb2.AttrValue(type=value.as_datatype_enum)
    listed = attr_value_pb2.AttrValue.ListValue(type=[t.as_datatype_enum for t in value])
    return attr_value_pb2.AttrValue(list=listed)
