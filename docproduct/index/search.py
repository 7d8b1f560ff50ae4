"""Searches an index that was built: vectors in, hits out, no two with the same answer."""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from data_pipeline import files
from data_pipeline.prepared import PAIRS_FILE, read_manifest
from docproduct.index import vectors
from docproduct.index.build import (
    FAISS_FILES,
    FORMAT,
    KIND,
    LEXICAL_FOLDERS,
    PASSAGES_FILE,
    REMEDY,
    TEXT_COLUMNS,
)
from docproduct.lexical import Lexical, fuse, top
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.systems.retriever.export import SearchedAnswers
from docproduct.systems.retriever.folder import shorten

_HYBRID_DEPTH = 100  # candidates of each ranking that are joined


@dataclasses.dataclass(frozen=True)
class Hit:
    """A pair that was found.

    Attributes:
      score: cosine of the query and the best passage (or the question), -1 to 1.
      pair_id: the pair.
      question: its question.
      answer: its whole answer.
      source: the collection it comes from.
      focus: its topic, or empty.
    """

    score: float
    pair_id: int
    question: str
    answer: str
    source: str
    focus: str


class Found(NamedTuple):
    """What a query found.

    Attributes:
      hits: the best first, no two with the same answer.
      cosine: the highest of the query and any answer of the index, a hit or not: what `Index.threshold` is for.
    """

    hits: list[Hit]
    cosine: float


class Index:
    """A built index, opened for one encoder.

    Attributes:
      manifest: the content of manifest.json.
      num_answers: answers that can be found.
      threshold: cosine of question and answer from which on a question counts as answered; see threshold.py.
    """

    def __init__(self, index_dir: str, retriever: TrainedRetriever, device: str = "auto"):
        """Opens an index.

        Args:
          index_dir: what `build` wrote.
          retriever: the encoder whose vectors will be searched; it must be the one of the index.
          device: cpu, gpu, or auto: the GPU if faiss-gpu and one are there.

        Raises:
          ValueError: no finished index, or one of another encoder.
        """
        self.manifest = read_manifest(index_dir, KIND, FORMAT, REMEDY)
        built_with, received = self.manifest["encoder"], retriever.fingerprint()
        if built_with["fingerprint"] != received:
            raise ValueError(
                f"{index_dir} was built with the encoder {built_with['name']!r} (fingerprint "
                f"{built_with['fingerprint'][:12]}); received one with fingerprint {received[:12]}. Their vectors "
                "cannot be compared: give that encoder, or build the index again with this one."
            )
        self.num_answers: int = self.manifest["counts"]["answers"]
        self.threshold: float = self.manifest["threshold"]["cosine"]
        self._pairs = pq.read_table(os.path.join(index_dir, PAIRS_FILE))
        self._row_of_pair = {pair_id: row for row, pair_id in enumerate(self._pairs["pair_id"].to_pylist())}
        self._group_of_row = self._pairs["answer_group"].to_numpy()
        passages = pq.read_table(os.path.join(index_dir, PASSAGES_FILE)).to_pydict()
        self._pair_of_passage = dict(zip(passages["passage_id"], passages["pair_id"], strict=True))
        self._passages_of_row: dict[int, list[int]] = {}
        for passage, pair in self._pair_of_passage.items():
            self._passages_of_row.setdefault(self._row_of_pair[pair], []).append(passage)
        for name, written in self.manifest.get("sha256", {}).items():
            path = os.path.join(index_dir, name)
            if os.path.isfile(path) and files.sha256(path) != written:
                raise ValueError(f"{path} is missing or damaged (its bytes are not those that were written). {REMEDY}")
        self._on_cpu = {by: vectors.read(os.path.join(index_dir, name), REMEDY) for by, name in FAISS_FILES.items()}
        self._faiss = {by: vectors.on_device(index, device) for by, index in self._on_cpu.items()}
        self._max_fetched = vectors.most_found(device)
        self._hybrid: str = self.manifest["settings"]["hybrid"]
        self._lexical: dict[str, Lexical] = {}
        if self._hybrid != "none":
            self._lexical = {
                by: Lexical.load(os.path.join(index_dir, name), len(self._pairs))
                for by, name in LEXICAL_FOLDERS.items()
            }

    def search(
        self, query_vector: np.ndarray, k: int, search_by: Side = "answer", query: str | None = None
    ) -> list[Hit]:
        """Finds the k nearest answers.

        Args:
          query_vector: [D] float32, unit norm, from `encode_question`.
          k: how many, 1 to `num_answers`.
          search_by: compare the query with answers, or with the questions that they answer.
          query: its text, for an index that was built with BM25; None: by vectors alone.

        Returns:
          k hits, the best first, no two with the same answer; an approximate index may find fewer, at least one.

        Raises:
          ValueError: k or search_by is out of range, or nothing was found.
        """
        return self.search_many(query_vector[None], k, search_by, query and [query])[0].hits

    def questions(self) -> list[str]:
        """Returns the question of each pair."""
        return self._pairs["question"].to_pylist()

    def check(self, k: int, search_by: str) -> None:
        """Raises a ValueError if so many answers cannot be found, or not by this."""
        if not 1 <= k <= self.num_answers:
            raise ValueError(f"k is {k}; expected 1 to {self.num_answers}, the answers of this index.")
        if search_by not in self._faiss:
            raise ValueError(f"search_by is {search_by!r}; expected {' or '.join(self._faiss)}.")

    def search_many(
        self, query_vectors: np.ndarray, k: int, search_by: Side = "answer", queries: Sequence[str] | None = None
    ) -> list[Found]:
        """Finds the k nearest answers of each of Q queries: `search` with [Q, D] and Q texts; and how near they are."""
        query_vectors = shorten(query_vectors.astype(np.float32), self.manifest["settings"]["dims"])
        self.check(k, search_by)
        joined = queries and self._lexical
        depth = min(max(_HYBRID_DEPTH, 2 * k), self.num_answers) if joined else k
        best = self._nearest(query_vectors, depth, search_by)
        by_answer = best if search_by == "answer" else self._nearest(query_vectors, 1, "answer")
        cosines = [nearest[0][1] for nearest in by_answer]
        if joined:
            best = [self._join(*query, depth, search_by) for query in zip(queries, query_vectors, best, strict=True)]
        hits = [[self._hit(row, score) for row, score in ranked[:k]] for ranked in best]
        return [Found(*found) for found in zip(hits, cosines, strict=True)]

    def searched_answers(self) -> SearchedAnswers:
        """Returns all that a search by answers and vectors looks at, for an export."""
        passages, found = vectors.contents(self._on_cpu["answer"])
        pair_ids = np.array([self._pair_of_passage[passage] for passage in passages.tolist()], np.int64)
        rows = [self._row_of_pair[pair] for pair in pair_ids.tolist()]
        return SearchedAnswers(found, self._group_of_row[rows], pair_ids)

    def _join(
        self, query: str, query_vector: np.ndarray, nearest: list[tuple[int, float]], depth: int, search_by: Side
    ) -> list[tuple[int, float]]:
        """Returns (row, cosine) of the best by vectors, which are `nearest`, and BM25 together."""
        cosines = dict(nearest)
        lexical = self._lexical[search_by].scores(query)  # [pairs]
        row_of_group = {int(self._group_of_row[row]): row for row in cosines}
        best = dict.fromkeys(row_of_group, 0.0)  # of each answer, its highest BM25 score
        for row in sorted(top(lexical, depth).tolist(), key=lambda row: -lexical[row]):
            group = int(self._group_of_row[row])
            if not best.get(group) and lexical[row] > 0:
                best[group] = float(lexical[row])
            if lexical[row] > 0 and group not in row_of_group:
                row_of_group[group] = row
                ids = self._passages_of_row[row] if search_by == "answer" else [self._pairs["pair_id"][row].as_py()]
                cosines[row] = float(vectors.inner_products(self._on_cpu[search_by], np.array(ids), query_vector).max())
        rows, dense = list(row_of_group.values()), np.array([cosines[row] for row in row_of_group.values()])
        # What BM25 does not have among its first counts as the text of its row says.
        words = np.array([best[group] or float(lexical[row]) for group, row in row_of_group.items()])
        fused = fuse(dense, words, self._hybrid, self.manifest["settings"]["bm25_weight"])
        return [(rows[i], float(dense[i])) for i in np.argsort(-fused, kind="stable")]

    def _nearest(self, query_vectors: np.ndarray, k: int, search_by: Side) -> list[list[tuple[int, float]]]:
        """Returns for each query (row of pairs.parquet, cosine) of k answers or more, the nearest first."""
        index = self._faiss[search_by]
        most = min(index.ntotal, self._max_fetched)
        best: list[list[tuple[int, float]]] = [[] for _ in query_vectors]
        fetched, short = 0, np.arange(len(query_vectors))
        while len(short) and fetched < most:
            # Several passages may belong to one answer: fetch more until there are k answers.
            fetched = min(2 * max(fetched, k), most)
            scores, ids = index.search(query_vectors[short], fetched)
            for query, *found in zip(short, scores, ids, strict=True):
                best[query] = self._best_of_each_answer(*found, search_by)
            short = np.array([query for query in short if len(best[query]) < k], int)
        if not all(best):
            raise ValueError(
                "The index found nothing: it looked where no vector is. Build it with --search_parameters=nprobe=16, "
                "or with --factory=Flat."
            )
        return best

    def _best_of_each_answer(self, scores: np.ndarray, ids: np.ndarray, search_by: Side) -> list[tuple[int, float]]:
        """Returns (row of pairs.parquet, score), the first of each answer group; both inputs are sorted by score."""
        best: dict[int, tuple[int, float]] = {}
        for score, found in zip(scores.tolist(), ids.tolist(), strict=True):
            if found in (self._pair_of_passage if search_by == "answer" else self._row_of_pair):
                row = self._row_of_pair[self._pair_of_passage[found] if search_by == "answer" else found]
                best.setdefault(int(self._group_of_row[row]), (row, score))
        return list(best.values())

    def _hit(self, row: int, score: float) -> Hit:
        values = {name: self._pairs[name][row].as_py() for name in TEXT_COLUMNS if name != "answer_group"}
        return Hit(score=score, **values)
