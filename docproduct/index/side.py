"""One side of an index: the vectors of its texts, which pairs they belong to, and BM25 if it counts.

N pairs, P passages (of the questions' side, one for each pair), Q queries, D width, R rows
"""

import copy
from collections.abc import Iterable, Iterator

import numpy as np

from docproduct.index.pairs import Pairs
from docproduct.index.vector_rows import VectorRows
from docproduct.search.engine import Engine
from docproduct.search.fusion import Hybrid, fuse, top
from docproduct.search.words import WordIndex

Ranked = list[tuple[int, float]]  # (row of pairs.parquet, cosine), the best first


def first_of_each_answer(ranked: Iterable[tuple[int, float]], groups: np.ndarray) -> Ranked:
    """Returns the first row of each answer group; `groups` is [N], of each row."""
    first: dict[int, tuple[int, float]] = {}
    for row, cosine in ranked:
        first.setdefault(int(groups[row]), (row, cosine))
    return list(first.values())


class IndexSide:
    """The questions or the answers of an index.

    Attributes:
      engine: The vectors under their ids.
      words: BM25 over the texts; None where it does not count.
    """

    def __init__(self, engine: Engine, ids: np.ndarray, rows: np.ndarray, pairs: Pairs, words: WordIndex | None = None):
        """Joins vectors with the pairs that they belong to.

        Args:
          engine: The vectors under their ids.
          ids: [P] int64, the ids of the vectors.
          rows: [P] int, the row of the pair that each belongs to.
          pairs: The pairs.
          words: BM25 over the texts of the pairs.
        """
        self.engine, self.words, self._pairs = engine, words, pairs
        self._first_ids, self._first_rows = ids, rows  # those that it began with
        self._num_first = len(pairs)
        self._rows = VectorRows(ids, rows, len(pairs))

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Returns which of these pairs have a vector on this side, [R] bool; passages have no question."""
        return np.array([bool(self._rows[row]) for row in rows.tolist()], bool)

    def add(self, ids: np.ndarray, vectors: np.ndarray, text: str) -> None:
        """Adds the vectors, [B, D] under ids [B], and the text of the pair in the next row."""
        self.engine.add(vectors, ids)
        self._rows.add(ids)
        if self.words:
            self.words.add(text)

    def remove(self, row: int, text: str) -> None:
        """Removes the vectors and the text of a row."""
        self.engine.remove(self.ids_of([row]))
        self._rows.empty(row)
        if self.words:
            self.words.remove(row, text)

    def ids_of(self, rows: Iterable[int]) -> np.ndarray:
        """Returns the ids of all vectors of these rows, [P] int64."""
        return np.array([vector_id for row in rows for vector_id in self._rows[row]], np.int64)

    def snapshot(self) -> tuple[Engine, VectorRows]:
        """Returns the engine and the ids of each row's vectors as they are now; later changes do not change them."""
        return copy.copy(self.engine), self._rows.snapshot()

    def ids_where(self, matching: np.ndarray | None) -> np.ndarray | None:
        """Returns the ids of all vectors of the rows for which `matching`, [N] bool, is true; None for None: of all."""
        if matching is None:
            return None
        added = np.flatnonzero(matching[self._num_first :]) + self._num_first
        return np.concatenate([self._first_ids[matching[self._first_rows]], self.ids_of(added.tolist())])

    def row_of(self, vector_ids: np.ndarray) -> list[int]:
        """Returns the row of the pair of each vector."""
        return self._rows.rows_of(vector_ids)

    def nearest(self, query_vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> list[Ranked]:
        """Returns for each query, [Q, D], k answers or more; an approximate index may find fewer, or none.

        Args:
          query_vectors: [Q, D] float32.
          k: Number of answers.
          allowed: Ids of the vectors that may be found; None: of all.
        """
        most = min(len(self.engine) if allowed is None else len(allowed), self.engine.max_k)
        ranked: list[Ranked] = [[] for _ in query_vectors]
        fetched, short = 0, np.arange(len(query_vectors))
        while len(short) and fetched < most:
            # Several passages may belong to one answer: fetch more until there are k answers.
            fetched = min(2 * max(fetched, k), most)
            scores, ids = self.engine.search(query_vectors[short], fetched, allowed)
            for query, *neighbors in zip(short, scores, ids, strict=True):
                ranked[query] = first_of_each_answer(self._ranked(*neighbors), self._pairs.groups)
            short = np.array([query for query in short if len(ranked[query]) < k], int)
        return ranked

    def _ranked(self, scores: np.ndarray, ids: np.ndarray) -> Iterator[tuple[int, float]]:
        """Yields row and cosine of each neighbour, [K] and [K]."""
        for row, score in zip(self._rows.rows_of(ids), scores.tolist(), strict=True):
            if row >= 0:  # the id -1 stands where an approximate search missed one
                yield row, score

    def rank(self, rows: np.ndarray, query_vector: np.ndarray) -> Ranked:
        """Returns these pairs, [R], with their cosines, the best first."""
        if not len(rows):
            return []
        cosines = self.cosines(rows, query_vector)
        return [(int(rows[i]), float(cosines[i])) for i in np.argsort(-cosines, kind="stable")]

    def cosines(self, rows: np.ndarray, query_vector: np.ndarray) -> np.ndarray:
        """Returns the cosine of a query and each of these pairs, [R]: of its question, or its answer's best passage."""
        ids = [self._rows[row] for row in rows.tolist()]
        products = self.engine.vectors_of(np.concatenate(ids)) @ query_vector
        starts = np.cumsum([0, *map(len, ids[:-1])])
        return np.maximum.reduceat(products, starts)

    def fused(
        self,
        query: str,
        query_vector: np.ndarray,
        nearest: Ranked,
        depth: int,
        hybrid: Hybrid,
        matching: np.ndarray | None = None,
    ) -> Ranked:
        """Returns the best pairs by vectors and BM25 together, with their cosines.

        Args:
          query: A clean text.
          query_vector: [D] float32.
          nearest: The pairs that are best by vectors.
          depth: Number of texts that are taken of BM25's ranking.
          hybrid: How BM25 counts.
          matching: [N] bool, the rows that may be found; None: all.
        """
        cosines, groups = dict(nearest), self._pairs.groups
        scores = self.words.scores(query)  # [N]
        if matching is not None:
            scores = np.where(matching, scores, 0)
        row_of_group = {int(groups[row]): row for row in cosines}
        best = dict.fromkeys(row_of_group, 0.0)  # the highest BM25 score of each answer
        for row in sorted(top(scores, depth).tolist(), key=lambda row: (-scores[row], row)):
            group = int(groups[row])
            if not best.get(group) and scores[row] > 0:
                best[group] = float(scores[row])
            if scores[row] > 0 and group not in row_of_group:
                row_of_group[group] = row
                cosines[row] = float(self.cosines(np.array([row]), query_vector)[0])
        rows = list(row_of_group.values())
        # An answer that is not among BM25's first has the score of its row's text.
        word_scores = np.array([best[group] or float(scores[row]) for group, row in row_of_group.items()])
        order = fuse(np.array([cosines[row] for row in rows]), word_scores, *hybrid)
        return [(rows[i], cosines[rows[i]]) for i in np.argsort(-order, kind="stable")]
