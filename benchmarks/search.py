"""Search of a million vectors by several kinds of indexes, beside hnswlib, usearch and plain FAISS.

    python -m benchmarks.window_vectors --input=pairs.csv --encoder_dir=ENCODER --vectors_dir=windows
    python -m benchmarks.search --vectors_dir=windows --work_dir=build/search --peer_python=PYTHON

Computes the exact neighbours of the queries once, and builds each index once: --work_dir keeps them, for one
--vectors_dir. Then each index is opened by a process of its own, and all search in turn: all queries together on all
cores, and 500 queries one by one.
Memory is what the process holds more than before it opened the index, mapped files included. `--build_only` ends before
anything is measured. Prints a Markdown table and ends with one line of JSON.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import measuring
from benchmarks.vector_search_peer import memory_mib, serve
from data_pipeline.folders import files
from docproduct.search import kinds
from docproduct.search.faiss_engine import nearest
from docproduct.search.kinds import Kind
from docproduct.training import cards

_PEER_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vector_search_peer.py")
_PEERS = ("hnswlib", "usearch", "faiss")
_FILE, _K = "answers.faiss", 10
_SLOW_QUERIES = 500  # of an exact search, which takes long


class Contender(NamedTuple):
    """An index with the settings to measure.

    Attributes:
      name: Factory string, or a peer.
      settings: Search parameters, or efSearch of a peer.
    """

    name: str
    settings: tuple[str, ...]

    @property
    def is_peer(self) -> bool:
        """Whether it is not ours."""
        return self.name in _PEERS

    def folder(self, work_dir: str, count: int) -> str:
        """Returns where its files stand."""
        return os.path.join(work_dir, f"{self.name.replace(',', '_')}-{count}")


def parsed(described: str) -> Contender:
    """Reads FACTORY:SETTING:SETTING, or PEER:EFSEARCH."""
    name, *settings = described.split(":")
    return Contender(name, tuple(settings) or ("",))


def exact_neighbors(vectors_dir: str, work_dir: str, count: int, num_queries: int, queries_file: str) -> str:
    """Returns the file with the rows of the exact neighbours of the first queries, [Q, 10] int64."""
    path = os.path.join(work_dir, f"exact-{count}-{num_queries}-{queries_file}")
    if not os.path.exists(path):
        vectors = np.load(os.path.join(vectors_dir, "vectors.npy"), mmap_mode="r")[:count]
        found = nearest(vectors, np.load(os.path.join(vectors_dir, queries_file))[:num_queries], _K)
        with files.whole_file(path) as partial, open(partial, "wb") as file:
            np.save(file, found)
    return path


def build(contender: Contender, values: flags.FlagValues) -> float:
    """Builds an index, if that was not done before, and returns the seconds that it took."""
    folder = contender.folder(values.work_dir, values.count)
    done = os.path.join(folder, "built.json")
    if not os.path.exists(done):
        os.makedirs(folder, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.search", "--build", *_named(contender, values)]
        if contender.is_peer:
            command = _peer_command("build", contender, values)
        line = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=measuring.all_cores()).stdout
        files.write_json(done, json.loads(line.splitlines()[-1]))
    return files.read_json(done)["build_seconds"]


def _named(contender: Contender, values: flags.FlagValues) -> list[str]:
    names = ("vectors_dir", "work_dir", "count")
    return [
        f"--index={':'.join([contender.name, contender.settings[0]])}",
        *(f"--{n}={values[n].value}" for n in names),
    ]


def _peer_command(action: str, contender: Contender, values: flags.FlagValues) -> list[str]:
    vectors = os.path.join(values.vectors_dir, "vectors.npy")
    folder = contender.folder(values.work_dir, values.count)
    named = [f"--vectors={vectors}", f"--count={values.count}", f"--folder={folder}"]
    return [values.peer_python, _PEER_SCRIPT, action, contender.name, *named]


def build_ours(contender: Contender, values: flags.FlagValues) -> None:
    """Builds an index of ours and prints the seconds as JSON."""
    vectors = np.load(os.path.join(values.vectors_dir, "vectors.npy"), mmap_mode="r")[: values.count]
    start = time.perf_counter()
    engine = kinds.build(vectors, np.arange(len(vectors)), Kind(contender.name), progress=contender.name)
    engine.save(os.path.join(contender.folder(values.work_dir, values.count), _FILE))
    print(
        json.dumps(
            {"build_seconds": time.perf_counter() - start, "bytes_per_vector": engine.num_bytes() / len(vectors)}
        )
    )


def serve_ours(contender: Contender, values: flags.FlagValues) -> None:
    """Opens an index of ours, and searches as standard input says."""
    before = memory_mib()
    path = os.path.join(contender.folder(values.work_dir, values.count), _FILE)
    engine = kinds.load(path, Kind(contender.name), "Build it.", mapped=True)
    serve(lambda queries: engine.search(queries, _K)[1], engine.set_parameters, before)


def measure(
    contenders: list[Contender], exact: str, values: flags.FlagValues
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields the name, the setting and the medians of all rounds of each contender."""
    processes = []
    for contender in contenders:
        command = [sys.executable, "-m", "benchmarks.search", "--serve", *_named(contender, values)]
        if contender.is_peer:
            command = _peer_command("serve", contender, values)
        processes.append(measuring.Contestant(command, measuring.all_cores()))
    queries = os.path.join(values.vectors_dir, values.queries_file)
    try:
        measured: dict[tuple[str, str], list[dict[str, float]]] = {}
        for _ in range(values.rounds):
            for contender, process in zip(contenders, processes, strict=True):
                count = _SLOW_QUERIES if contender.name == "Flat" else values.queries
                asked = {"queries": queries, "exact": exact, "count": count}
                for setting in contender.settings:
                    answer = process.round(json.dumps({"setting": setting, **asked}))
                    measured.setdefault((contender.name, setting), []).append(answer)
                    print(contender.name, setting, answer, file=sys.stderr, flush=True)
    finally:
        for process in processes:
            process.stop()
    for (name, setting), answers in measured.items():
        yield name, setting, {key: statistics.median(each[key] for each in answers) for key in answers[0]}


def table(rows: list[tuple[str, str, dict[str, Any]]], build_seconds: dict[str, float]) -> str:
    """Returns a Markdown table."""
    head = ["index", "setting", "recall@10", "queries/s", "ms alone: p50", "p99", "MiB", "build s"]
    lines = []
    for name, setting, each in rows:
        numbers = [f"{each['recall']:.3f}", f"{each['queries_per_s']:,.0f}", f"{each['p50_ms']:.2f}"]
        numbers += [f"{each['p99_ms']:.2f}", f"{each['rss_mib']:,.0f}", f"{build_seconds[name]:,.0f}"]
        title = name if name in _PEERS else f"`{name}`"
        lines.append([title, f"efSearch={setting}" if name in _PEERS else setting, *numbers])
    return cards.table(head, lines)


def metrics(rows: list[tuple[str, str, dict[str, Any]]], least_recall: float) -> list[dict[str, Any]]:
    """Returns the entries of the JSON line: of ours and of the peers, the fastest setting that reaches a recall."""
    best: dict[str, dict[str, Any]] = {}
    for name, setting, each in rows:
        if each["recall"] >= least_recall:
            key = name if name in _PEERS else "ours"
            if key not in best or each["queries_per_s"] > best[key]["queries_per_s"]:
                best[key] = each | {"setting": f"{name} {setting}"}
    ours = best.pop("ours", None)
    if not ours:
        return []
    against = max(best, key=lambda name: best[name]["queries_per_s"], default=None)
    return [
        measuring.metric(name, unit, ours[key], {peer: each[key] for peer, each in best.items()}, against and compared)
        for name, unit, key, compared in (
            ("queries_per_s", "1/s", "queries_per_s", against),
            ("recall_at_10", "", "recall", None),
            ("rss_mib", "MiB", "rss_mib", against),
            ("p50_ms", "ms", "p50_ms", against),
        )
    ]


def main(argv: list[str]) -> None:
    """Builds and measures."""
    del argv
    values = flags.FLAGS
    contenders = [parsed(each) for each in values.index]
    if values.build:
        return build_ours(contenders[0], values)
    if values.serve:
        return serve_ours(contenders[0], values)
    contenders = [each for each in contenders if values.peer_python or not each.is_peer]
    os.makedirs(values.work_dir, exist_ok=True)
    exact = exact_neighbors(values.vectors_dir, values.work_dir, values.count, values.queries, values.queries_file)
    seconds = {contender.name: build(contender, values) for contender in contenders}
    if values.build_only:
        return None
    rows = list(measure(contenders, exact, values))
    print(f"\n{values.count:,} vectors, {values.queries:,} queries\n\n{table(rows, seconds)}\n")
    measuring.finish("search", ["faiss-cpu", "numpy"], metrics(rows, values.recall))
    return None


if __name__ == "__main__":
    flags.DEFINE_string("vectors_dir", None, "Folder that benchmarks.window_vectors wrote.", required=True)
    flags.DEFINE_string("work_dir", "build/search", "Folder for the indexes.")
    flags.DEFINE_string("peer_python", None, "Interpreter with hnswlib, usearch and faiss; default: no peers.")
    flags.DEFINE_integer("count", 1_000_000, "Vectors to search, the first ones of the folder.", lower_bound=1_000)
    flags.DEFINE_integer("queries", 10_000, "Queries.", lower_bound=10)
    flags.DEFINE_string("queries_file", "queries.npy", "Their file in vectors_dir; questions.npy: whole questions.")
    flags.DEFINE_integer("rounds", 3, "Number of rounds.", lower_bound=1)
    flags.DEFINE_float("recall", 0.95, "Recall that the settings of the JSON line reach.")
    flags.DEFINE_multi_string(
        "index",
        [
            "Flat:",
            "HNSW32:efSearch=32:efSearch=64:efSearch=128",
            "IVF4096,SQ4,RFlat:nprobe=32,k_factor_rf=2",
            "IVF4096,RaBitQfs,RFlat:nprobe=32,k_factor_rf=4:nprobe=40,k_factor_rf=4:nprobe=512,k_factor_rf=8",
            "hnswlib:32:64:128",
            "usearch:32:64:128",
            "faiss:32:64:128",
        ],
        "Index with its settings: FACTORY:PARAMETERS:PARAMETERS, or a peer with efSearch.",
    )
    flags.DEFINE_bool("build_only", False, "Build what is missing, and measure nothing.")
    flags.DEFINE_bool("build", False, "For the process that builds.")
    flags.DEFINE_bool("serve", False, "For the process that searches.")
    app.run(main)
