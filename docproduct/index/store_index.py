"""Searches an index in a store (search/store.py) as `Index` searches a folder, with the same results.

The store narrows a search to its candidates: the rows that are nearest to the query, those with the highest BM25
scores, and the answers of a stored question. Their texts and vectors are fetched, and `Index` itself ranks them and
decides, as if a folder held these pairs alone.

    Q queries, D width
"""

import copy
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from data_pipeline import cleaning
from docproduct.index.open import Index
from docproduct.index.pairs import Pairs
from docproduct.index.results import SearchResult
from docproduct.index.side import IndexSide
from docproduct.search.faiss_engine import FaissEngine
from docproduct.search.filters import Filter
from docproduct.search.store import MILVUS, Address, Neighbor, Row, Store, is_address
from docproduct.search.stored import StoredQuestions
from docproduct.search.words import counted
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.systems.retriever.export import SearchedAnswers


def connect(address: str) -> Store:
    """Connects to a store.

    Raises:
      ValueError: the address is wrong, or a package is missing.
      StoreError: the database cannot be reached.
    """
    place = Address.parse(address)
    try:
        if place.parts.scheme == MILVUS:
            from docproduct.search.milvus_store import MilvusStore  # here, as their packages are extras

            return MilvusStore(place)
        from docproduct.search.postgres_store import PostgresStore

        return PostgresStore(place)
    except ImportError as error:
        extra = "milvus" if place.parts.scheme == MILVUS else "postgres"
        raise ValueError(f"{error.name} is not installed: pip install -e '.[cpu,{extra}]'.") from error


def open_index(place: str, retriever: TrainedRetriever, device: str = "auto") -> Index:
    """Opens an index folder, or an index in a store.

    Args:
      place: The folder, or the address.
      retriever: The encoder that built it.
      device: Where FAISS searches a folder.

    Raises:
      ValueError: It is no finished index, or that of another encoder.
      StoreError: The database cannot be reached.
    """
    return StoreIndex(place, retriever) if is_address(place) else Index(place, retriever, device)


def words_file(side: str) -> str:
    """Returns the name of the file with the words that BM25 knows on a side, by their numbers."""
    return f"{side}_words.txt"


class StoreIndex(Index):
    """An index in a store, opened for one encoder.

    Attributes:
      pairs: Some of its pairs, to give examples, with the columns and the number of answers of all.
    """

    def __init__(self, address: str, retriever: TrainedRetriever | None, device: str = "auto"):
        """Opens an index.

        Args:
          address: Where `upload` wrote it.
          retriever: The encoder that built it; None: see `open_vectors`.
          device: Not used, as the store searches.

        Raises:
          ValueError: The store holds no finished index, or that of another encoder.
          StoreError: The database cannot be reached.
        """
        del device
        self._store = connect(address)
        # After a reload, a service may still be answering with this index: the last reference ends the connection.
        weakref.finalize(self, self._store.close)
        try:
            self._open(retriever)
        except BaseException:
            self.close()
            raise

    def _open(self, retriever: TrainedRetriever | None) -> None:
        contents = self._store.open()
        with tempfile.TemporaryDirectory() as folder:
            for name, content in contents.items():
                with open(os.path.join(folder, name), "wb") as file:
                    file.write(content)
            self._schema = self._read(folder, self._store.shown, retriever).schema
        self.pairs.num_answers = self.manifest["counts"]["answers"]
        words = {side: contents[words_file(side)].decode().split("\n") for side in self._store.layout.words}
        self._number_of = {side: {word: number for number, word in enumerate(words[side], 1)} for side in words}
        self._sides = dict(self._sides_of([], self.pairs, {}))

    def search_many(
        self,
        query_vectors: np.ndarray,
        k: int,
        search_by: Side = "answer",
        queries: Sequence[str] | None = None,
        conditions: Sequence[str] = (),
    ) -> list[SearchResult]:
        """Finds the k nearest answers of each query; see `Index.search_many`.

        Raises:
          StoreError: The database cannot be reached, or failed.
        """
        query_vectors = self._checked(query_vectors)
        self.check(k, search_by, conditions)
        where = self._filter(conditions) if conditions else None
        candidates = self._candidates(query_vectors, k, search_by, queries, where)
        rows: dict[int, list[Row]] = {}
        for row in self._store.rows(list(dict.fromkeys(pair_id for own, _ in candidates for pair_id in own))):
            rows.setdefault(row["pair_id"], []).append(row)
        results = []
        for number, (own, scores) in enumerate(candidates):
            if not own:
                results.append(SearchResult([], -np.inf))
                continue
            part = self._part([row for pair_id in own for row in rows.get(pair_id, ())], scores)
            results += part._search(query_vectors[[number]], k, search_by, queries and [queries[number]], None)
        return results

    def _candidates(
        self,
        query_vectors: np.ndarray,
        k: int,
        search_by: Side,
        queries: Sequence[str] | None,
        where: Filter | None,
    ) -> list[tuple[dict[int, None], dict[int, float]]]:
        """Returns for each query the ids of all pairs that a ranking needs, as the keys of a dict, and BM25 scores."""
        depth, looked_at = self._depths(k, bool(queries and search_by in self._number_of))
        near = self._nearest(search_by, query_vectors, depth, where)
        deciding: list[list[int]] = [[] for _ in near]
        if search_by != self._deciding:
            deciding = self._nearest(self._deciding, query_vectors, looked_at, where)
        candidates = [dict.fromkeys(one + other) for one, other in zip(near, deciding, strict=True)]
        word_scores: list[dict[int, float]] = [{} for _ in near]
        if queries:
            self._add_stored(candidates, queries, where)
            word_scores = [
                self._word_scores(search_by, query, ids, depth, where) for query, ids in zip(queries, near, strict=True)
            ]
        return [(own | dict.fromkeys(scores), scores) for own, scores in zip(candidates, word_scores, strict=True)]

    def _nearest(self, side: Side, vectors: np.ndarray, k: int, where: Filter | None) -> list[list[int]]:
        """Returns for each query the ids of the pairs of as many rows as `IndexSide.nearest` would fetch."""
        neighbors: list[list[Neighbor]] = [[] for _ in vectors]
        fetched, short = 0, list(range(len(vectors)))
        while short and fetched < self._store.max_k:
            fetched = min(2 * max(fetched, k), self._store.max_k)
            for query, of_query in zip(short, self._store.nearest(side, vectors[short], fetched, where), strict=True):
                neighbors[query] = of_query
            short = [query for query in short if _has_more(neighbors[query], fetched, k)]
        return [[neighbor.pair_id for neighbor in of_query] for of_query in neighbors]

    def _add_stored(self, candidates: Sequence[dict[int, None]], queries: Sequence[str], where: Filter | None) -> None:
        """Adds to the candidates of each query the pairs that have it as their question."""
        groups = [cleaning.group(query) for query in queries]
        asked = self._store.asked(groups, where)
        for own, group in zip(candidates, groups, strict=True):
            own |= dict.fromkeys(pair_id for pair_id, of_pair in asked.items() if group in of_pair)

    def _word_scores(
        self, side: Side, query: str, near: Sequence[int], depth: int, where: Filter | None
    ) -> dict[int, float]:
        """Returns the BM25 scores of the best pairs, and of those that are near; nothing where BM25 does not count."""
        weights = counted(query, self._number_of.get(side, {}))
        if not weights:
            return {}
        scores = self._store.by_words(side, weights, depth, where)
        if others := [pair_id for pair_id in dict.fromkeys(near) if pair_id not in scores]:
            scores |= self._store.by_words(side, weights, len(others), None, others)
        return scores

    def _part(self, rows: Sequence[Row], word_scores: Mapping[int, float]) -> Index:
        """Returns an index of some rows alone, which counts the answers of all."""
        rows = sorted(rows, key=lambda row: row["position"])
        pairs = [row for row in rows if row["first"]]
        part = copy.copy(self)
        part.pairs = Pairs(pa.Table.from_pylist(pairs, schema=self._schema))
        part.pairs.num_answers = self.num_answers
        groups = np.array([row["question_group"] for row in pairs], np.int64)
        part._stored = StoredQuestions(part.pairs.headings, groups)
        part._sides = dict(self._sides_of(rows, part.pairs, word_scores))
        return part

    def _sides_of(
        self, rows: Sequence[Row], pairs: Pairs, word_scores: Mapping[int, float]
    ) -> Iterator[tuple[Side, IndexSide]]:
        pair_ids = [row["pair_id"] for row in rows if row["first"]]
        place_of = {pair_id: place for place, pair_id in enumerate(pair_ids)}
        scores = _Scores(np.array([word_scores.get(pair_id, 0.0) for pair_id in pair_ids], np.float32))
        for side, width in self._store.layout.widths.items():
            own = [row for row in rows if row[f"{side}_vector"] is not None]
            vectors = np.array([row[f"{side}_vector"] for row in own], np.float32).reshape(-1, width)
            ids = np.array([row["position"] for row in own], np.int64)
            places = np.array([place_of[row["pair_id"]] for row in own], int)
            words = scores if side in self._number_of else None
            yield side, IndexSide(FaissEngine.build(vectors, ids, "Flat"), ids, places, pairs, words)

    def texts(self, pair_id: int) -> dict[str, str] | None:
        """Returns the texts of a pair by column; None if there is no such pair."""
        rows = self._store.rows([pair_id])
        return {name: rows[0][name] for name in self.pairs.columns} if rows else None

    def is_stored(self, question: str) -> bool:
        """Returns whether a clean question is one of the stored ones."""
        return bool(self._store.asked([cleaning.group(question)], None))

    def topics(self) -> list[str]:
        """Raises a ValueError: a store does not list its pairs."""
        raise self._folder_needed()

    def vectors(self, side: Side) -> np.ndarray:
        """Raises a ValueError: a store does not list its vectors."""
        raise self._folder_needed()

    def searched_answers(self) -> SearchedAnswers:
        """Raises a ValueError: a store does not list its vectors."""
        raise self._folder_needed()

    def _folder_needed(self) -> ValueError:
        return ValueError(
            f"{self._store.shown} is a store, which does not list its pairs. Give the index folder that was uploaded."
        )

    def close(self) -> None:
        """Ends the connection."""
        self._store.close()


class _Scores:
    """BM25 scores of a query that a store computed, in the place of a `WordIndex`."""

    def __init__(self, scores: np.ndarray):
        self._scores = scores

    def scores(self, query: str) -> np.ndarray:
        """Returns the score of every row, [N] float32, for the query that was asked."""
        del query
        return self._scores


def _has_more(neighbors: Sequence[Neighbor], fetched: int, k: int) -> bool:
    """Returns whether fewer than k answers were fetched, and there may be more."""
    return len(neighbors) == fetched and len({neighbor.answer_group for neighbor in neighbors}) < k
