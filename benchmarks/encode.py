"""Encoding speed: answers and questions to vectors, texts in, beside sentence-transformers.

    python -m benchmarks.encode --prepared_dir=prepared --encoder_dir=ENCODER --peer_python=PYTHON

Encodes 2,000 answers and 2,000 questions of the train split, at most 256 tokens each, tokenizing included. The peer's
`encode` runs in float32 and bfloat16 with batches of 32, 64 and 128 texts, ours with batches of 4,096 to 16,384 tokens.
A first round finds the fastest setting of each, and these are compared. All processes are warm and work in turn. Also
prints the lowest cosine of our vectors with those in float32. Ends with one line of JSON.
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
from data_pipeline.rows import SIDES
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up

_PEER_BATCHES = (32, 64, 128)  # texts
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
    folders = [f"--prepared_dir={values.prepared_dir}", f"--encoder_dir={values.encoder_dir}"]
    environment = measuring.all_cores()
    command = [sys.executable, "-m", "benchmarks.encode", *folders, "--contestant", f"--precision={values.precision}"]
    contestants = {"docproduct": measuring.Contestant(command, environment)}
    if values.peer_python:
        peer = [values.peer_python, measuring.PEER_SCRIPT, "encode_speed", *folders]
        for name, more in measuring.PEER_PRECISIONS.items():
            contestants[f"sentence-transformers {name}"] = measuring.Contestant([*peer, *more], environment)
    try:
        metrics = _measure(
            contestants, 128 if values.quick else values.count, 1 if values.quick else values.rounds, values
        )
    finally:
        for contestant in contestants.values():
            contestant.stop()
    lowest = lowest_cosine(values, 64 if values.quick else 512)
    print(f"\nLowest cosine with the vector in float32: {lowest:.6f}")
    metrics.append(measuring.metric("lowest_cosine_with_float32", "cosine", lowest))
    measuring.finish("encode", ["tensorflow", "keras"], metrics)


def _measure(
    contestants: dict[str, measuring.Contestant], count: int, rounds: int, values: flags.FlagValues
) -> list[dict[str, Any]]:
    tokenizer = PreparedFolder(values.prepared_dir).tokenizer()
    metrics = []
    for side, name, unit in (("answer", "answer_tokens_per_s", "tokens/s"), ("question", "questions_per_s", "texts/s")):
        texts = texts_of(values.prepared_dir, side, count)  # the split may have fewer
        work = int(tokenizer.encode(texts, 256).flat_values.shape[0]) if side == "answer" else len(texts)
        # Warms up, and tries every contestant with every batch size on a quarter of the texts.
        trial = {
            (label, size): contestants[label].round(f"{side} {max(count // 4, 64)} {size}")["seconds"]
            for _ in range(2)
            for label in contestants
            for size in (_OUR_BATCHES if label == "docproduct" else _PEER_BATCHES)
        }
        mine = min((key for key in trial if key[0] == "docproduct"), key=trial.__getitem__)
        peers = sorted((key for key in trial if key[0] != "docproduct"), key=trial.__getitem__)
        chosen = [mine, *peers[:1]]
        speeds: dict[str, list[float]] = {label: [] for label, _ in chosen}
        for _ in range(rounds):
            for label, size in chosen:
                speeds[label].append(work / contestants[label].round(f"{side} {count} {size}")["seconds"])
        rows = [
            (f"{label}, batches of {size} {'tokens' if label == 'docproduct' else 'texts'}", speeds[label], unit)
            for label, size in chosen
        ]
        measuring.show(f"Encoding {count} {side}s", rows)
        medians = {label: float(np.median(rates)) for label, rates in speeds.items()}
        against = chosen[1][0] if len(chosen) > 1 else None
        metrics.append(
            measuring.metric(
                name, unit, medians["docproduct"], {label: medians[label] for label, _ in chosen[1:]}, against
            )
        )
    return metrics


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Folder that data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_string("encoder_dir", None, "Encoder to measure.", required=True)
    flags.DEFINE_string("peer_python", None, "Interpreter that has sentence-transformers; default: no peer.")
    flags.DEFINE_string("precision", "auto", "Our precision.")
    flags.DEFINE_integer("count", 2_000, "Number of texts of each side.")
    flags.DEFINE_integer("rounds", 3, "Number of measured rounds.")
    flags.DEFINE_bool("quick", False, "One short round.")
    flags.DEFINE_bool("contestant", False, "Used by this benchmark itself.")
    app.run(main)
