"""Dense layers with int8 weights. Decoding is bound by reading the weights, and int8 is a quarter of float32.

The product is oneDNN's, `_QuantizedMatMul`, an operation of TensorFlow for x86 processors that exists in graphs only.
It is exact with VNNI instructions; without them oneDNN adds products in 16 bits, which overflow. Weights are quantized
once, by column; inputs are quantized by row as they come, and what that leaves once more:

    x = size / 127 * (high + low / 254), high and low in -127 ... 127       size: largest magnitude of the row, [N, 1]
    W = scale * w, w in -127 ... 127                                        scale: [M]

High and low are two rows of the same product, which costs little more than one: the weights are read once. High alone
is too coarse where a few inputs of a row are far larger than the others, as in LLaMA's family.
"""

import itertools
import os

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2

from docproduct.layers.precision import processor_flags
from docproduct.layers.transformer import Blocks

_PRODUCT = "_QuantizedMatMul"
_LOW = 254.0  # what is left of a rounded input is at most a half
_EXACT_INSTRUCTIONS = {"avx512_vnni", "avx_vnni", "amx_int8"}
NEEDED = "an x86 processor with VNNI or AMX instructions, and TensorFlow with oneDNN"


def available() -> bool:
    """Returns whether this machine computes int8 products exactly."""
    return bool(_EXACT_INSTRUCTIONS & processor_flags()) and os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0"


class Int8Dense(keras.layers.Layer):
    """A dense layer for inference that holds the weights of a float layer as int8."""

    def __init__(self, units: int, name: str, bias: bool = True):
        super().__init__(name=name, dtype="float32")
        self.units, self.has_bias = units, bias

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the kernel, [K, M] int8, and the scale of each column and the bias, [M] float32."""
        constant = {"initializer": "zeros", "trainable": False}
        self.kernel = self.add_weight(shape=(shape[1], self.units), dtype="int8", name="kernel", **constant)
        self.scale = self.add_weight(shape=(self.units,), name="scale", **constant)
        self.bias = self.add_weight(shape=(self.units,), name="bias", **constant) if self.has_bias else None

    def take(self, kernel: np.ndarray, bias: np.ndarray | None = None) -> None:
        """Takes the weights of a float layer: kernel [K, M], and bias [M]; None: zeros."""
        scale = np.maximum(np.abs(kernel).max(axis=0), 1e-30) / 127
        self.kernel.assign(np.round(kernel / scale).astype(np.int8))
        self.scale.assign(scale)
        if bias is not None:
            self.bias.assign(bias)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """[N, K] float32 -> [N, M] float32."""
        size = tf.maximum(tf.reduce_max(tf.abs(x), axis=-1, keepdims=True), 1e-30)
        scaled = x * (127 / size)
        high = tf.round(scaled)
        rows = tf.concat([high, tf.round((scaled - high) * _LOW)], axis=0)  # [2 * N, K]
        kernel = tf.bitcast(tf.convert_to_tensor(self.kernel), tf.qint8)
        high, low = tf.split(_quantized_matmul(tf.bitcast(tf.cast(rows, tf.int8), tf.qint8), kernel), 2)
        product = (high + low * (1 / _LOW)) * (size / 127) * tf.convert_to_tensor(self.scale)
        return product if self.bias is None else product + tf.convert_to_tensor(self.bias)


class Int8Blocks(Blocks):
    """Makes int8 layers where `Blocks` makes dense ones.

    The head is such a layer, too: the token table stays in float32.

    Attributes:
      dense_layers: all that were made.
    """

    ties_head = False

    def __init__(self) -> None:
        super().__init__(0.0, itertools.count())
        self.dense_layers: list[Int8Dense] = []

    def dense(self, units: int, name: str, bias: bool = True) -> Int8Dense:
        """Returns an int8 layer."""
        self.dense_layers.append(Int8Dense(units, name, bias))
        return self.dense_layers[-1]


def _quantized_matmul(q: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """Returns q @ kernel.

    The operation could apply a scale of each column, too; copying them takes half of its time for a single row.

    Args:
      q: [N, K] qint8.
      kernel: [K, M] qint8. It must not change: oneDNN keeps a copy in its own order.

    Returns:
      [N, M] float32.
    """
    operands = [q, kernel, tf.zeros(kernel.shape[1])]
    ranges = [tf.constant(limit) for limit in (-127.0, 127.0)] * 2  # what -127 and 127 stand for, of q and of kernel
    types = {
        "T1": tf.qint8,
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
