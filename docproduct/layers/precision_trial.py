"""How long layers of a BERT take in float32 and in bfloat16 on this machine: timed once, and kept in the user's cache.

$XDG_CACHE_HOME/docproduct/precision.json, or ~/.cache/docproduct/precision.json:
  {processor, cores and TensorFlow: {"encoding": {"float32": seconds, "bfloat16": seconds}, "training": ...}}
"""

import concurrent.futures
import contextlib
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import tensorflow as tf
from absl import logging

from data_pipeline.folders import files
from docproduct.layers.bert import BertConfig, BertLayer
from docproduct.layers.transformer import Blocks

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16"}
_MINILM = BertConfig(width=384, num_layers=2, num_heads=12, inner_width=1536, dropout=0.0, attention_dropout=0.0)
_TEXTS, _TOKENS = 16, 64
_ROUNDS = 5


def seconds(training: bool, machine: str) -> dict[str, float]:
    """Returns the seconds of a forward pass, or in training of a pass forward and back, for float32 and bfloat16.

    They are timed where the cache does not have them. A cache that cannot be read or written is no error.

    Args:
      training: Which of the two passes.
      machine: What the times depend on, in words.
    """
    path, use = files.user_cache("precision.json"), "training" if training else "encoding"
    known = _read(path)
    if not _is_complete(known.get(machine, {}).get(use)):
        times = measure(training)
        logging.info("Timed once for --precision=auto, %s: %s.", use, times)
        known = _read(path)  # another process may have written meanwhile
        known[machine] = known.get(machine, {}) | {use: times}
        _write(path, known)
        return times
    return known[machine][use]


def measure(training: bool) -> dict[str, float]:
    """Times two layers of MiniLM's size in both precisions, in turn; returns the seconds of the fastest round."""
    # In a thread of its own, which no tf.distribute strategy is in the scope of: workers need not all measure.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        return thread.submit(_measure, training).result()


def _measure(training: bool) -> dict[str, float]:
    passes = {name: _make_pass(policy, training) for name, policy in POLICIES.items()}
    times: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(_ROUNDS):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: min(rounds) for name, rounds in times.items()}


def _make_pass(policy: str, training: bool) -> Callable[[], Any]:
    """Returns a traced pass through the layers as encoding and training many texts use them."""
    blocks = Blocks(_MINILM.initializer_range, itertools.count(), policy)
    layers = [BertLayer(_MINILM, blocks, f"layer_{i}") for i in range(_MINILM.num_layers)]
    states = tf.random.stateless_normal([_TEXTS * _TOKENS, _MINILM.width], seed=[0, 0])  # [N, D]
    states = tf.cast(states, layers[0].compute_dtype)
    biases = [tf.zeros([_TEXTS, 1, 1, _TOKENS])]

    def forward() -> tf.Tensor:
        result = states
        for layer in layers:
            result = layer(result, biases, training=training, compiled=True)
        return tf.reduce_sum(tf.cast(result, tf.float32) ** 2)

    @tf.function
    def run() -> Any:
        if not training:
            return forward()
        with tf.GradientTape() as tape:
            loss = forward()
        return tape.gradient(loss, [variable.value for layer in layers for variable in layer.trainable_variables])

    run()
    return lambda: tf.nest.map_structure(lambda tensor: tensor.numpy(), run())  # waits for the result


def _is_complete(times: Any) -> bool:
    """Returns whether the cache holds times that can be compared."""
    return isinstance(times, dict) and all(isinstance(times.get(name), float) and times[name] > 0 for name in POLICIES)


def _read(path: str | None) -> dict[str, Any]:
    """Returns what the cache holds; a damaged one holds nothing."""
    with contextlib.suppress(OSError, ValueError):
        content = files.read_json(path) if path else None
        if isinstance(content, dict):
            return {name: entry for name, entry in content.items() if isinstance(entry, dict)}
    return {}


def _write(path: str | None, content: dict[str, Any]) -> None:
    """Writes the cache if that is possible."""
    with contextlib.suppress(OSError):
        if path:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            files.write_json(path, content)
