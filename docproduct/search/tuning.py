"""Measures kinds of FAISS indexes on given vectors: recall against latency, throughput and memory.

N vectors, Q queries, D width, k neighbours
"""

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from docproduct.search import kinds
from docproduct.search.engine import Engine
from docproduct.search.faiss_engine import nearest
from docproduct.search.kinds import Kind

_ALONE = 200  # queries that are asked one by one
_REPEATS = 3  # of each timing; the fastest counts
_FEW = 1_000  # vectors: below, an exact search is as fast as any


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A kind of index to try.

    Attributes:
      factory: FAISS factory string.
      parameters: settings of the search to try, from the fastest to the most thorough.
    """

    factory: str
    parameters: tuple[str, ...] = ("",)


@dataclasses.dataclass(frozen=True)
class Measured:
    """A kind of index with one setting of its search.

    Attributes:
      factory: FAISS factory string.
      search_parameters: setting of the search.
      recall: share of the k exact nearest neighbours that are found.
      ms: milliseconds of a query that is asked alone.
      queries_per_s: queries a second, all of them together.
      bytes_per_vector: memory that a search needs, by the number of vectors, with 8 bytes of the id; the vectors that
        rescore stand in a file.
      build_seconds: time to build it.
    """

    factory: str
    search_parameters: str
    recall: float
    ms: float
    queries_per_s: float
    bytes_per_vector: float
    build_seconds: float


def candidates(num_vectors: int, width: int) -> list[Candidate]:
    """Returns kinds of indexes that suit so many vectors of a width; the first one is exact."""
    result = [Candidate("Flat")]
    if num_vectors < _FEW:
        return result
    efs = tuple(f"efSearch={ef}" for ef in (16, 32, 64, 128, 256))
    result += [Candidate("SQ8"), Candidate("HNSW32", efs), Candidate("HNSW32_SQ8", efs)]
    lists = kinds.num_lists(num_vectors)
    probes = [probe for probe in (1, 2, 4, 8, 16, 32, 64, 128, 256) if probe < lists]
    nprobes = tuple(f"nprobe={probe}" for probe in probes)
    rescored = tuple(f"nprobe={probe},k_factor_rf={factor}" for probe in probes for factor in (4, 16))
    result += [Candidate(f"IVF{lists},{codes}", nprobes) for codes in ("Flat", "SQ8")]
    codes = ["SQ4", "RaBitQfs"] + [f"PQ{width // 4}x4fs"] * (width % 4 == 0)
    return result + [Candidate(f"IVF{lists},{each},RFlat", rescored) for each in codes]


def measure(
    vectors: np.ndarray,
    queries: np.ndarray,
    tried: Sequence[Candidate],
    k: int = 10,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Measured]:
    """Builds each kind of index and yields what each of its settings reaches.

    A setting that finds no more than one before it is left out.

    Args:
      vectors: [N, D] float32 of unit norm, what is searched.
      queries: [Q, D] float32 of unit norm, like those that will be asked.
      tried: kinds of indexes.
      k: number of neighbours.
      clock: returns the time in seconds.

    Raises:
      ValueError: FAISS cannot build one of them.
    """
    exact = nearest(vectors, queries, k)
    for candidate in tried:
        start = clock()
        engine = kinds.build(vectors, np.arange(len(vectors)), Kind(candidate.factory))
        built = {"build_seconds": clock() - start, "bytes_per_vector": engine.num_bytes() / len(vectors)}
        best_recall = -1.0
        for parameters in candidate.parameters:
            engine.set_parameters(parameters)
            reached = recall(engine.search(queries, k)[1], exact)
            if reached > best_recall:
                best_recall = reached
                yield Measured(candidate.factory, parameters, reached, *_speed(engine, queries, k, clock), **built)
        engine.close()


def _speed(engine: Engine, queries: np.ndarray, k: int, clock: Callable[[], float]) -> tuple[float, float]:
    """Returns milliseconds of a query that is asked alone, and queries a second together."""
    alone = queries[:_ALONE]
    seconds = _fastest(lambda: [engine.search(query[None], k) for query in alone], clock)
    together = _fastest(lambda: engine.search(queries, k), clock)
    return 1_000 * seconds / len(alone), len(queries) / max(together, 1e-9)


def _fastest(run: Callable[[], object], clock: Callable[[], float]) -> float:
    seconds = []
    for _ in range(_REPEATS):
        start = clock()
        run()
        seconds.append(clock() - start)
    return min(seconds)


def recall(found: np.ndarray, exact: np.ndarray) -> float:
    """Returns the share of exact neighbours that were found: [Q, k] and [Q, k] ids."""
    return float(np.mean([np.isin(row, ids).mean() for row, ids in zip(exact, found, strict=True)]))


def best(measured: Sequence[Measured], least_recall: float, prefer: str) -> Measured | None:
    """Returns the fastest or the smallest of those that reach a recall; None if none does.

    Args:
      measured: what was measured.
      least_recall: the recall to reach.
      prefer: "speed", queries a second, or "memory"; of equally small ones, the faster.
    """
    good = [each for each in measured if each.recall >= least_recall]
    if prefer == "speed":
        return max(good, key=lambda each: each.queries_per_s, default=None)
    return min(good, key=lambda each: (each.bytes_per_vector, -each.queries_per_s), default=None)


def frontier(measured: Sequence[Measured]) -> list[Measured]:
    """Returns the measurements that are Pareto-optimal in recall, queries a second and memory."""

    def beats(other: Measured, each: Measured) -> bool:
        pairs = (
            (other.recall, each.recall),
            (other.queries_per_s, each.queries_per_s),
            (-other.bytes_per_vector, -each.bytes_per_vector),
        )
        return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)

    return [each for each in measured if not any(beats(other, each) for other in measured)]
