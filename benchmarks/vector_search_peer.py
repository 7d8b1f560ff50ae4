"""Vector search by hnswlib, usearch and FAISS' own HNSW, for benchmarks/search.py.

    PYTHON benchmarks/vector_search_peer.py build hnswlib --vectors=windows/vectors.npy --count=100000 --folder=peers
    PYTHON benchmarks/vector_search_peer.py serve hnswlib --vectors=windows/vectors.npy --count=100000 --folder=peers

Runs in an interpreter that has the peer, and imports nothing of this project. Every graph has 64 links a vector on the
lowest layer (M=32) and efConstruction=40, FAISS' defaults for HNSW32. `build` writes the index and prints the seconds
that it took. `serve` opens it, and answers each line of standard input, {"setting": efSearch, "queries": FILE, "exact":
FILE, "count": N}, with a line of JSON: recall, queries a second, milliseconds of a query asked alone, and memory.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

import numpy as np

_LINKS, _BUILD_EF = 32, 40
_MOST_ALONE, _K = 500, 10
Search = Callable[[np.ndarray], np.ndarray]  # queries [Q, D] -> ids [Q, 10]
Opened = tuple[Search, Callable[[str], None]]  # and a function that sets how thoroughly it searches


def _hnswlib(path: str, vectors: np.ndarray | None, width: int) -> Opened:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=width)
    if vectors is None:
        index.load_index(path)
    else:
        index.init_index(max_elements=len(vectors), M=_LINKS, ef_construction=_BUILD_EF)
        index.add_items(vectors)
        index.save_index(path)
    return lambda queries: index.knn_query(queries, _K)[0], lambda ef: index.set_ef(int(ef))


def _usearch(path: str, vectors: np.ndarray | None, width: int) -> Opened:
    from usearch.index import Index

    index = Index(ndim=width, metric="ip", dtype="f32", connectivity=_LINKS, expansion_add=_BUILD_EF)
    if vectors is None:
        index.load(path)
    else:
        index.add(np.arange(len(vectors)), vectors)
        index.save(path)

    def set_ef(ef: str) -> None:
        index.expansion_search = int(ef)

    return lambda queries: np.atleast_2d(index.search(queries, _K).keys).astype(np.int64), set_ef


def _faiss(path: str, vectors: np.ndarray | None, width: int) -> Opened:
    import faiss

    if vectors is None:
        index = faiss.read_index(path)
    else:
        index = faiss.IndexHNSWFlat(width, _LINKS, faiss.METRIC_INNER_PRODUCT)
        index.add(np.ascontiguousarray(vectors))
        faiss.write_index(index, path)

    def set_ef(ef: str) -> None:
        index.hnsw.efSearch = int(ef)

    return lambda queries: index.search(queries, _K)[1], set_ef


PEERS = {"hnswlib": _hnswlib, "usearch": _usearch, "faiss": _faiss}


def memory_mib() -> float:
    """Returns the resident memory of this process in MiB, mapped files included."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) / 1024


def serve(search: Search, set_parameters: Callable[[str], None], before_mib: float) -> None:
    """Answers each line of standard input with what a setting reaches.

    Args:
      search: Returns the ids of the nearest neighbours of queries, which are row numbers.
      set_parameters: Sets how thoroughly it searches.
      before_mib: Memory of the process before the index was opened.
    """
    for line in sys.stdin:
        asked = json.loads(line)
        queries = np.load(asked["queries"])[: asked["count"]]
        exact = np.load(asked["exact"])[: asked["count"]]
        set_parameters(asked["setting"])
        search(queries)  # warm-up: mapped files are read
        start = time.perf_counter()
        ids = search(queries)
        seconds, alone = time.perf_counter() - start, []
        for query in queries[:_MOST_ALONE]:
            start = time.perf_counter()
            search(query[None])
            alone.append(1_000 * (time.perf_counter() - start))
        answer = {
            "recall": float((ids[:, :, None] == exact[:, None, :]).any(axis=1).mean()),
            "queries_per_s": len(queries) / seconds,
            "p50_ms": float(np.percentile(alone, 50)),
            "p99_ms": float(np.percentile(alone, 99)),
            "rss_mib": memory_mib() - before_mib,
        }
        print(json.dumps(answer), flush=True)


def main() -> None:
    """Builds the index of a peer, or searches it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("build", "serve"))
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--vectors", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--folder", required=True)
    values = parser.parse_args()
    vectors = np.load(values.vectors, mmap_mode="r")[: values.count]
    path = os.path.join(values.folder, "index")
    if values.action == "serve":
        before = memory_mib()
        serve(*PEERS[values.peer](path, None, vectors.shape[1]), before)
        return
    start = time.perf_counter()
    PEERS[values.peer](path, vectors, vectors.shape[1])
    print(json.dumps({"build_seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()
