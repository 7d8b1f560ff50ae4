"""Measures the hand-written gradients of docproduct/layers beside the operations of Keras.

    python -m benchmarks.gradients

GELU and layer normalization are timed in one operation (value and gradient, on 2,048 tokens of a MiniLM) and in a
training step of a BERT (two layers of MiniLM's sizes) and of a GPT-2 (three layers). The peers are keras.ops.gelu and
keras.ops.layer_normalization. Gradient checkpointing is measured by time and peak memory of a GPT-2's training step,
beside a step that keeps its activations. All work in turn on the same input, with one thread for each core. Ends with
one line of JSON.
"""

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from keras import ops

from benchmarks import measuring
from docproduct.layers import elementwise
from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.training.devices import set_up

_BERT = BertConfig(vocab_size=1_000, width=384, num_layers=2, num_heads=12, inner_width=1_536)
_GPT2 = GPT2Config(vocab_size=1_000, width=256, num_layers=3, num_heads=4, max_positions=256)
_DEEP_GPT2 = GPT2Config(vocab_size=1_000, width=256, num_layers=12, num_heads=4, max_positions=256)
_TOKENS = 2_048
_OURS, _WITHOUT_XLA, _LIBRARY = ("docproduct", "docproduct without XLA", "keras")

Step = Callable[..., Any]


def _library_gelu(x: Any, compiled: bool = False) -> Any:
    return ops.gelu(x, approximate=False)


def _library_norm(x: Any, gamma: Any, beta: Any, epsilon: float, compiled: bool = False) -> Any:
    return ops.layer_normalization(x, gamma, beta, axis=-1, epsilon=epsilon)


@contextlib.contextmanager
def _library() -> Any:
    """Makes layers that are traced inside this context use the operations of Keras."""
    with (
        mock.patch.object(elementwise, "gelu_erf", _library_gelu),
        mock.patch.object(elementwise, "layer_norm", _library_norm),
    ):
        yield


def operations(dtype: str) -> dict[str, dict[str, Step]]:
    """Returns, for each operation, the ways to compute its value and gradient."""
    random = np.random.default_rng(0)
    narrow, wide = (tf.cast(random.normal(size=(_TOKENS, n)), dtype) for n in (_BERT.width, _BERT.inner_width))
    gamma = tf.ones(_BERT.width)

    def gelu(function: Callable[..., Any], compiled: bool = False) -> Step:
        return _gradient(lambda x: function(x, compiled), [wide])

    def norm(function: Callable[..., Any], compiled: bool = False) -> Step:
        return _gradient(lambda x, gamma, beta: function(x, gamma, beta, 1e-5, compiled), [narrow, gamma, gamma])

    return {
        "gelu": {
            _OURS: gelu(elementwise.gelu_erf, True),
            _WITHOUT_XLA: gelu(elementwise.gelu_erf),
            _LIBRARY: gelu(_library_gelu),
        },
        "layer_norm": {
            _OURS: norm(elementwise.layer_norm, True),
            _WITHOUT_XLA: norm(elementwise.layer_norm),
            _LIBRARY: norm(_library_norm),
        },
    }


def _gradient(function: Callable[..., Any], inputs: list[tf.Tensor]) -> Step:
    @tf.function
    def step() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return tape.gradient(value, inputs, value)

    return step


def steps() -> dict[str, dict[str, Step]]:
    """Returns, for each model, the ways to take a training step; XLA compiles parts of the BERT, as in training."""
    random = np.random.default_rng(0)
    groups = [tf.constant(random.integers(1, 999, shape), tf.int32) for shape in ((16, 48), (10, 128))]
    text = tf.constant(random.integers(1, 999, (8, 256)), tf.int32)
    return {
        "bert_step": {
            _OURS: _bert_step(groups, 1_024),
            _WITHOUT_XLA: _bert_step(groups),
            _LIBRARY: _traced_by_library(lambda: _bert_step(groups)),
        },
        "gpt2_step": {_OURS: _gpt2_step(_GPT2, text), _LIBRARY: _traced_by_library(lambda: _gpt2_step(_GPT2, text))},
    }


def _traced_by_library(make: Callable[[], Step]) -> Step:
    with _library():
        step = make()
        step()
    return step


def _bert_step(groups: list[tf.Tensor], row_multiple: int = 1) -> Step:
    bert = Bert(_BERT)
    bert.row_multiple = row_multiple
    bert(groups)
    return _training_step(bert, groups)


def _gpt2_step(config: GPT2Config, text: tf.Tensor, recompute: bool = False) -> Step:
    return _training_step(GPT2(config).make_variables(), text, recompute=recompute)


def _training_step(model: keras.layers.Layer, inputs: Any, **options: bool) -> Step:
    @tf.function
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            states = tf.nest.flatten(model(inputs, training=True, **options))
            loss = tf.add_n([tf.reduce_sum(x * x) for x in states])
        return [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_variables, loss) if g is not None]

    return step


def contestant(recompute: bool) -> None:
    """Takes steps of a deep GPT-2: each line of standard input is a number of steps."""
    text = tf.constant(np.random.default_rng(0).integers(1, 999, (16, 256)), tf.int32)
    step = _gpt2_step(_DEEP_GPT2, text, recompute)
    for line in sys.stdin:
        start = time.perf_counter()
        for _ in range(int(line)):
            step()[0].numpy()
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def main(argv: list[str]) -> None:
    """Measures, or runs as one of the contestants."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    set_up()
    if values.contestant:
        contestant(values.contestant == "recompute")
        return
    rounds = 3 if values.quick else values.rounds
    metrics = []
    for dtype in ("float32", "bfloat16"):
        for name, ways in operations(dtype).items():
            metrics.append(_compare(f"{name}_{dtype}_ms", ways, 4 * rounds))
    for name, ways in steps().items():
        metrics.append(_compare(f"{name}_ms", ways, rounds))
    measuring.finish("gradients", ["tensorflow", "keras"], metrics + _recompute(1 if values.quick else 3))


def _compare(name: str, ways: dict[str, Step], rounds: int) -> dict[str, Any]:
    """Runs all ways in turn; prints and returns the milliseconds of each."""
    milliseconds: dict[str, list[float]] = {way: [] for way in ways}
    for round_number in range(rounds + 2):
        for way, step in ways.items():
            start = time.perf_counter()
            step()[0].numpy()
            if round_number >= 2:  # the first ones warm up
                milliseconds[way].append(1_000 * (time.perf_counter() - start))
    measuring.show(name, [(way, ms, "ms") for way, ms in milliseconds.items()])
    peers = {way: statistics.median(ms) for way, ms in milliseconds.items()}
    return measuring.metric(name, "ms", peers.pop(_OURS), peers, _LIBRARY)


def _recompute(rounds: int) -> list[dict[str, Any]]:
    """Prints and returns time and peak memory of a step, with gradient checkpointing and without."""
    command = [sys.executable, "-m", "benchmarks.gradients", "--contestant"]
    ways = {way: measuring.Contestant([*command, way], dict(os.environ)) for way in ("recompute", "keep")}
    figures: dict[str, dict[str, list[float]]] = {way: {"s": [], "MiB": []} for way in ways}
    try:
        for way in ways:
            ways[way].round("1")
        for _ in range(rounds):
            for way, process in ways.items():
                with measuring.PeakMemory(process.pid, 0.01) as peak:
                    figures[way]["s"].append(process.round("2")["seconds"] / 2)
                figures[way]["MiB"].append(peak.mib)
    finally:
        for process in ways.values():
            process.stop()
    metrics = []
    for name, unit in (("recompute_step_seconds", "s"), ("recompute_peak_mib", "MiB")):
        measuring.show(name, [(way, values[unit], unit) for way, values in figures.items()])
        ours, peer = (statistics.median(figures[way][unit]) for way in ("recompute", "keep"))
        metrics.append(measuring.metric(name, unit, ours, {"activations kept": peer}, "activations kept"))
    return metrics


if __name__ == "__main__":
    flags.DEFINE_integer("rounds", 20, "Number of measured rounds.")
    flags.DEFINE_bool("quick", False, "A few rounds.")
    flags.DEFINE_enum("contestant", None, ["recompute", "keep"], "Used by this benchmark itself.")
    app.run(main)
