"""Times parts of a step of decoders, computed in several ways.

The matrix products of GPT-2 124M, for one token and for eight, and the attention of one token of one text to the cache,
of GPT-2 124M and SmolLM2 135M.

    python -m benchmarks.products

Uses random weights in a graph session with one thread for each core; all ways run in turn. Eight tokens are what prompt
look-up verifies at once, or a step of eight texts. Ends with one line of JSON.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import measuring
from docproduct.exports.graph_session import GraphSession
from docproduct.layers import int8
from docproduct.layers.attention import attend_one
from docproduct.layers.int8 import Int8Dense
from docproduct.training.devices import set_up

_WIDTH, _VOCAB_SIZE, _LAYERS = 768, 50_257, 12
_SHAPES = [(_WIDTH, 3 * _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, 4 * _WIDTH), (4 * _WIDTH, _WIDTH)]
_KINDS = ("float32", "bfloat16", "float32 by XLA", "int8")
# Heads of queries, heads of keys and values, layers; each head is 64 numbers wide.
_ATTENTION = {"GPT-2 124M": (12, 12, 12), "SmolLM2 135M": (9, 3, 30)}
_HEAD_WIDTH, _SLOTS = 64, 620
_WAYS = ("batched", "head by head")


def save(kind: str, rows: int, folder: str) -> None:
    """Writes a SavedModel that computes all products of a step for [rows, 768] and [rows, 3072]."""
    random = np.random.default_rng(0)
    layers = []
    module = tf.Module()
    module.weights = []
    for number, (width, units) in enumerate([*_SHAPES * _LAYERS, (_WIDTH, _VOCAB_SIZE)]):
        kernel = random.normal(0, 0.02, (width, units)).astype(np.float32)
        if kind == "int8":
            layer = Int8Dense(units, f"dense_{number}")
            layer.build((None, width))
            layer.take(kernel, np.zeros(units, np.float32))
            module.weights += [variable.value for variable in layer.weights]
            layers.append((width, layer.call))
        else:
            dtype = tf.bfloat16 if kind == "bfloat16" else tf.float32
            variable = tf.Variable(tf.cast(kernel, dtype))
            module.weights.append(variable)
            multiply = tf.function(tf.matmul, jit_compile="XLA" in kind)
            layers.append((width, lambda x, v=variable, f=multiply: f(tf.cast(x, v.dtype), v.read_value())))

    @tf.function(autograph=False)
    def products(narrow: tf.Tensor, wide: tf.Tensor) -> dict[str, tf.Tensor]:
        inputs = {_WIDTH: narrow, 4 * _WIDTH: wide}
        results = [tf.cast(multiply(inputs[width]), tf.float32) for width, multiply in layers]
        return {
            "sum": tf.add_n([tf.reduce_sum(result) for result in results])
        }  # a scalar, so that fetching costs nothing

    specs = [tf.TensorSpec([rows, width]) for width in (_WIDTH, 4 * _WIDTH)]  # XLA needs static shapes
    tf.saved_model.save(module, folder, {"products": products.get_concrete_function(*specs)})


def save_attention(way: str, heads: tuple[int, int, int], folder: str) -> None:
    """Writes a SavedModel that computes the attention of all layers for queries [H, 64]."""
    num_heads, num_kv, num_layers = heads
    random, module, shape = np.random.default_rng(0), tf.Module(), (1, num_kv, _SLOTS, _HEAD_WIDTH)
    module.caches = [tf.Variable(random.normal(size=shape).astype(np.float32)) for _ in range(2 * num_layers)]
    bias = np.zeros(_SLOTS, np.float32)

    def batched(q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, bias: np.ndarray) -> tf.Tensor:
        grouped = tf.reshape(q, (1, num_kv, -1, _HEAD_WIDTH))
        probs = tf.nn.softmax(tf.matmul(grouped, k, transpose_b=True) + bias)
        return tf.reshape(tf.matmul(probs, v), q.shape)

    attend = batched if way == "batched" else attend_one

    @tf.function(autograph=False)
    def attention(q: tf.Tensor) -> dict[str, tf.Tensor]:
        for k, v in zip(module.caches[::2], module.caches[1::2], strict=True):
            q = attend(q, k.read_value(), v.read_value(), bias)
        return {"mixed": q}

    spec = tf.TensorSpec([num_heads, _HEAD_WIDTH])
    tf.saved_model.save(module, folder, {"attention": attention.get_concrete_function(spec)})


def in_turn(
    title: str,
    signature: str,
    ways: Sequence[str],
    save_one: Callable[[str, str], None],
    inputs: dict[str, np.ndarray],
    rounds: int,
) -> dict[str, float]:
    """Prints milliseconds of a signature that `save_one` saves in several ways, and returns the medians."""
    sessions = {}
    for way in ways:
        with tempfile.TemporaryDirectory() as folder:
            save_one(way, os.path.join(folder, "model"))
            sessions[way] = GraphSession(os.path.join(folder, "model"))
    milliseconds: dict[str, list[float]] = {way: [] for way in ways}
    for round_number in range(rounds + 2):
        for way, session in sessions.items():
            start = time.perf_counter()
            session.run(signature, inputs)
            if round_number >= 2:  # the first ones warm up
                milliseconds[way].append(1000 * (time.perf_counter() - start))
    measuring.show(title, [(way, ms, "ms") for way, ms in milliseconds.items()])
    for session in sessions.values():
        session.close()
    return {way: float(np.median(ms)) for way, ms in milliseconds.items()}


def main(argv: list[str]) -> None:
    """Measures all ways in turn."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    set_up()
    if not int8.available():
        sys.exit(f"error: int8 needs {int8.NEEDED}; this machine lacks them.")
    metrics, rounds = [], flags.FLAGS.rounds
    for rows in (1, 8):
        inputs = {"narrow": np.ones((rows, _WIDTH), np.float32), "wide": np.ones((rows, 4 * _WIDTH), np.float32)}
        title, save_one = f"Products of a step, {rows} tokens", lambda kind, folder, n=rows: save(kind, n, folder)
        medians = in_turn(title, "products", _KINDS, save_one, inputs, rounds)
        metrics.append(measuring.metric(f"products_{rows}_int8", "ms", medians.pop("int8"), medians, "float32"))
    for name, heads in _ATTENTION.items():
        inputs = {"q": np.ones((heads[0], _HEAD_WIDTH), np.float32)}
        title, save_one = f"Attention of a step, {name}", lambda way, folder, h=heads: save_attention(way, h, folder)
        medians = in_turn(title, "attention", _WAYS, save_one, inputs, rounds)
        metrics.append(measuring.metric(f"attention {name}", "ms", medians.pop("head by head"), medians, "batched"))
    measuring.finish("products", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 12, "Number of measured rounds.")
    app.run(main)
