"""Encoding speed: answers and questions to vectors, texts in, beside sentence-transformers.

    python -m benchmarks.encode --prepared_dir=prepared --encoder_dir=ENCODER --peer_python=PYTHON

Encodes 2,000 answers and 8,000 questions of the train split, at most 256 tokens each, tokenizing included. The peer's
`encode` runs in every backend of --peer_backends, with batches of 32, 64 and 128 texts: torch in float32 and bfloat16;
openvino in the precision that it takes by itself, and onnx dynamically quantized to int8 (these need
`sentence-transformers[openvino,onnx]`). Ours has batches of 4,096 to 16,384 tokens. A first round finds the fastest
batches of each contestant. All processes are warm and work in turn. Where --precision=auto is bfloat16, ours also runs
in float32. The ratio in the JSON line compares with the fastest peer that is not quantized. Also prints the lowest
cosine of our vectors with those in float32. Ends with one line of JSON.
"""

import json
import sys
import time
from typing import Any

import numpy as np
from absl import app, flags

from benchmarks import measuring
from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.schemas import SIDES
from docproduct.layers.precision import dtype_policy
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up

_QUESTIONS = 4  # times as many as answers: they are short
_PEER_BATCHES = (32, 64, 128)  # texts
# Backends of the peer, with the arguments of each precision that it runs in.
_BACKENDS = {"torch": measuring.PEER_PRECISIONS, "openvino": {"own precision": []}, "onnx": {"int8": ["--int8"]}}
_OURS, _OURS_PLAIN = "docproduct", "docproduct float32"
_OUR_BATCHES = (4_096, 8_192, 16_384)  # tokens


def texts_of(prepared_dir: str, side: str, count: int) -> list[str]:
    """Returns the first `count` texts of the train split."""
    return PreparedFolder(prepared_dir).table([side], splits.TRAIN)[side][:count].to_pylist()


def ours(prepared_dir: str, encoder_dir: str, precision: str) -> None:
    """Encodes one round of texts for each line of standard input: side, number of texts, tokens per batch."""
    set_up()
    retriever = TrainedRetriever.load_for_many(encoder_dir, precision)
    for line in sys.stdin:
        side, count, batch_tokens = line.split()
        texts = texts_of(prepared_dir, side, int(count))
        start = time.perf_counter()
        retriever.embed(texts, side, int(batch_tokens))
        print(json.dumps({"seconds": time.perf_counter() - start}), flush=True)


def lowest_cosine(values: flags.FlagValues, count: int) -> float:
    """Returns the lowest cosine of a vector in the fast precision with the float32 vector of its text."""
    lowest = 1.0
    plain = TrainedRetriever.load(values.encoder_dir)
    fast = TrainedRetriever.load_for_many(values.encoder_dir, values.precision)
    for side in SIDES:
        texts = texts_of(values.prepared_dir, side, count)
        lowest = min(lowest, float(np.sum(plain.embed(texts, side).head * fast.embed(texts, side).head, axis=1).min()))
    return lowest


def main(argv: list[str]) -> None:
    """Measures, or runs as one of the contestants."""
    values = flags.FLAGS
    if values.contestant:
        ours(values.prepared_dir, values.encoder_dir, values.precision)
        return
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    if unknown := set(values.peer_backends) - _BACKENDS.keys():
        raise app.UsageError(f"Unknown backends {sorted(unknown)}; expected {', '.join(_BACKENDS)}.")
    folders = [f"--prepared_dir={values.prepared_dir}", f"--encoder_dir={values.encoder_dir}"]
    environment = measuring.all_cores()
    commands = {
        label: [sys.executable, "-m", "benchmarks.encode", *folders, "--contestant", f"--precision={precision}"]
        for label, precision in ((_OURS, values.precision), (_OURS_PLAIN, "float32"))
        if label == _OURS or dtype_policy(values.precision) != dtype_policy(precision)
    }
    if values.peer_python:
        peer = [values.peer_python, measuring.PEER_SCRIPT, "encode_speed", *folders]
        for backend in values.peer_backends:
            for name, more in _BACKENDS[backend].items():
                commands[f"sentence-transformers {backend} {name}"] = [*peer, f"--backend={backend}", *more]
    contestants = {label: measuring.Contestant(command, environment) for label, command in commands.items()}
    try:
        metrics = _measure(
            contestants, 128 if values.quick else values.count, 1 if values.quick else values.rounds, values
        )
    finally:
        for contestant in contestants.values():
            contestant.stop()
    lowest = lowest_cosine(values, 64 if values.quick else min(values.count, 512))
    print(f"\nLowest cosine with the vector in float32: {lowest:.6f}")
    metrics.append(measuring.metric("lowest_cosine_with_float32", "cosine", lowest))
    measuring.finish("encode", ["tensorflow", "keras"], metrics)


def _measure(
    contestants: dict[str, measuring.Contestant], answers: int, rounds: int, values: flags.FlagValues
) -> list[dict[str, Any]]:
    tokenizer = PreparedFolder(values.prepared_dir).tokenizer()
    metrics = []
    measured = (("answer", "answer_tokens_per_s", "tokens/s"), ("question", "questions_per_s", "texts/s"))
    for side, name, unit in measured:
        count = answers if side == "answer" else _QUESTIONS * answers
        texts = texts_of(values.prepared_dir, side, count)  # the split may have fewer
        work = int(tokenizer.encode(texts, 256).flat_values.shape[0]) if side == "answer" else len(texts)
        # Warms up, and tries every contestant with every batch size on a quarter of the texts.
        trial = {
            (label, size): contestants[label].round(f"{side} {max(count // 4, 64)} {size}")["seconds"]
            for _ in range(2)
            for label in contestants
            for size in (_OUR_BATCHES if label in (_OURS, _OURS_PLAIN) else _PEER_BATCHES)
        }
        order = sorted(trial, key=trial.__getitem__)  # the fastest first
        fastest = dict(reversed(order))  # {label: batch size}
        chosen = [(label, fastest[label]) for label in contestants]
        speeds: dict[str, list[float]] = {label: [] for label, _ in chosen}
        for _ in range(rounds):
            for label, size in chosen:
                speeds[label].append(work / contestants[label].round(f"{side} {count} {size}")["seconds"])
        units = {_OURS: "tokens", _OURS_PLAIN: "tokens"}
        rows = [
            (f"{label}, batches of {size} {units.get(label, 'texts')}", speeds[label], unit) for label, size in chosen
        ]
        measuring.show(f"Encoding {count} {side}s", rows)
        medians = {label: float(np.median(rates)) for label, rates in speeds.items()}
        others = {label: median for label, median in medians.items() if label != _OURS}
        compared = [label for label in others if label != _OURS_PLAIN and "int8" not in label]
        against = max(compared, key=others.__getitem__, default=None)
        metrics.append(measuring.metric(name, unit, medians[_OURS], others, against))
    return metrics


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Folder that data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_string("encoder_dir", None, "Encoder to measure.", required=True)
    flags.DEFINE_string("peer_python", None, "Interpreter that has sentence-transformers; default: no peer.")
    flags.DEFINE_list("peer_backends", ["torch"], f"Backends of the peer, of {', '.join(_BACKENDS)}.")
    flags.DEFINE_string("precision", "auto", "Our precision.")
    flags.DEFINE_integer("count", 2_000, "Number of answers; there are four times as many questions.")
    flags.DEFINE_integer("rounds", 3, "Number of measured rounds.")
    flags.DEFINE_bool("quick", False, "One short round.")
    flags.DEFINE_bool("contestant", False, "Used by this benchmark itself.")
    app.run(main)
