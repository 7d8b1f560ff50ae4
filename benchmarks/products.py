"""Times the matrix products of one step of GPT-2 124M, computed in several ways, for one token and for eight.

    python -m benchmarks.products

Uses random weights in a graph session with one thread for each core; all ways run in turn. Eight tokens are what prompt
look-up verifies at once, or a step of eight texts. Ends with one line of JSON.
"""

import os
import sys
import tempfile
import time

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import measuring
from docproduct.exports.graph_session import GraphSession
from docproduct.layers import int8
from docproduct.layers.int8 import Int8Dense
from docproduct.training.devices import set_up

_WIDTH, _VOCAB_SIZE, _LAYERS = 768, 50_257, 12
_SHAPES = [(_WIDTH, 3 * _WIDTH), (_WIDTH, _WIDTH), (_WIDTH, 4 * _WIDTH), (4 * _WIDTH, _WIDTH)]
_KINDS = ("float32", "bfloat16", "float32 by XLA", "int8")


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


def main(argv: list[str]) -> None:
    """Measures all kinds in turn."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    set_up()
    if not int8.available():
        sys.exit(f"error: int8 needs {int8.NEEDED}; this machine lacks them.")
    metrics = []
    for rows in (1, 8):
        inputs = {"narrow": np.ones((rows, _WIDTH), np.float32), "wide": np.ones((rows, 4 * _WIDTH), np.float32)}
        sessions = {}
        for kind in _KINDS:
            with tempfile.TemporaryDirectory() as folder:
                save(kind, rows, os.path.join(folder, "model"))
                sessions[kind] = GraphSession(os.path.join(folder, "model"))
        milliseconds: dict[str, list[float]] = {kind: [] for kind in _KINDS}
        for round_number in range(flags.FLAGS.rounds + 2):
            for kind, session in sessions.items():
                start = time.perf_counter()
                session.run("products", inputs)
                if round_number >= 2:  # the first ones warm up
                    milliseconds[kind].append(1000 * (time.perf_counter() - start))
        measuring.show(f"Products of a step, {rows} tokens", [(kind, ms, "ms") for kind, ms in milliseconds.items()])
        for session in sessions.values():
            session.close()
        medians = {kind: float(np.median(ms)) for kind, ms in milliseconds.items()}
        others = {kind: ms for kind, ms in medians.items() if kind != "int8"}
        metrics.append(measuring.metric(f"products_{rows}_int8", "ms", medians["int8"], others, "float32"))
    measuring.finish("products", ["tensorflow", "keras"], metrics)


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 12, "Number of measured rounds.")
    app.run(main)
