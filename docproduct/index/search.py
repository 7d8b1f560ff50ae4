"""Searches an index that was built: vectors in, hits out, no two with the same answer."""

import dataclasses
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from data_pipeline.folders import files
from data_pipeline.folders.manifest import read_manifest
from docproduct.index.folder import (
    FAISS_FILES,
    FORMAT,
    KIND,
    LEXICAL_FOLDERS,
    PAIRS_FILE,
    PASSAGES_FILE,
    REMEDY,
    SHOWN_COLUMNS,
)
from docproduct.search import threshold, vectors
from docproduct.search.lexical import Lexical, fuse, top
from docproduct.search.stored import StoredQuestions
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.systems.retriever.export import SearchedAnswers
from docproduct.systems.retriever.folder import shorten

_HYBRID_DEPTH = 100  # candidates of each ranking that are joined

Ranked = list[tuple[int, float]]  # (row of pairs.parquet, cosine), the best first


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
      hits: the best first, no two with the same answer. Those of a stored question that was asked come before others.
      cosine: the highest of the query and any answer of the index, a hit or not: what `Index.threshold` is for.
      stored: whether the query is a stored question, which is always near enough.
    """

    hits: list[Hit]
    cosine: float
    stored: bool = False


class Index:
    """A built index, opened for one encoder.

    Attributes:
      manifest: the content of manifest.json.
      num_answers: answers that can be found.
      threshold: minimum cosine of question and answer for a question to count as answered, less a margin for rounding;
        see threshold.py.
    """

    def __init__(self, index_dir: str, retriever: TrainedRetriever | None, device: str = "auto"):
        """Opens an index.

        Args:
          index_dir: what `build` or `build_from_vectors` wrote.
          retriever: the encoder whose vectors will be searched; it must be the one of the index. None: see
            `open_vectors`.
          device: cpu, gpu, or auto: the GPU if faiss-gpu and one are there.

        Raises:
          ValueError: no finished index, or one of another encoder.
        """
        self.manifest = read_manifest(index_dir, KIND, FORMAT, REMEDY)
        built_with = self.manifest["encoder"]
        self._normalize = retriever is None
        if retriever is not None:
            _check_encoder(index_dir, built_with, retriever.fingerprint())
        self.num_answers: int = self.manifest["counts"]["answers"]
        rounding = threshold.margin(built_with["dtype_policy"])
        self.threshold: float = self.manifest["threshold"]["cosine"] - rounding
        self._pairs = pq.read_table(os.path.join(index_dir, PAIRS_FILE))
        passages = pq.read_table(os.path.join(index_dir, PASSAGES_FILE))
        pair_ids = self._pairs["pair_id"].to_pylist()
        row_of_pair = {pair_id: row for row, pair_id in enumerate(pair_ids)}
        passage_ids = passages["passage_id"].to_pylist()
        rows = [row_of_pair[pair_id] for pair_id in passages["pair_id"].to_pylist()]
        self._row_of = {"question": row_of_pair, "answer": dict(zip(passage_ids, rows, strict=True))}  # by FAISS's id
        self._ids_of: dict[str, list[list[int]]] = {"question": [[pair_id] for pair_id in pair_ids]}  # by row
        self._ids_of["answer"] = [[] for _ in pair_ids]
        for passage_id, row in zip(passage_ids, rows, strict=True):
            self._ids_of["answer"][row].append(passage_id)
        self._group_of_row = self._pairs["answer_group"].to_numpy()
        self._stored = StoredQuestions(self._pairs)
        for name, written in self.manifest.get("sha256", {}).items():
            path = os.path.join(index_dir, name)
            if os.path.isfile(path) and files.sha256(path) != written:
                raise ValueError(f"{path} is missing or damaged (its bytes are not those that were written). {REMEDY}")
        written = self.manifest.get("sha256", FAISS_FILES.values())
        sides = {by: name for by, name in FAISS_FILES.items() if name in written}  # precomputed vectors may have one
        self._on_cpu = {by: vectors.read(os.path.join(index_dir, name), REMEDY) for by, name in sides.items()}
        self._nearness: Side = "answer" if "answer" in sides else "question"
        self._faiss = {by: vectors.on_device(index, device) for by, index in self._on_cpu.items()}
        self._max_fetched = vectors.most_found(device)
        self._hybrid: str = self.manifest["settings"]["hybrid"]
        self._lexical: dict[str, Lexical] = {}
        if self._hybrid != "none":
            self._lexical = {
                by: Lexical.load(os.path.join(index_dir, name), len(self._pairs))
                for by, name in LEXICAL_FOLDERS.items()
            }

    @classmethod
    def open_vectors(cls, index_dir: str, device: str = "auto") -> "Index":
        """Opens an index without its encoder, to be searched with vectors that you have.

        They may have any norm; they must come from the encoder that made the index's, which nothing here can check.
        """
        return cls(index_dir, None, device)

    def search(
        self, query_vector: np.ndarray, k: int, search_by: Side = "answer", query: str | None = None
    ) -> list[Hit]:
        """Finds the k nearest answers.

        Args:
          query_vector: [D] float32, of a question; unit norm, unless the index is open for vectors.
          k: how many, 1 to `num_answers`.
          search_by: compare the query with answers, or with the questions that they answer.
          query: its clean text, which finds a stored question word for word, and counts in an index that was built with
            BM25; None: by vectors alone.

        Returns:
          k hits, the best first, no two with the same answer; an approximate index may find fewer, at least one.

        Raises:
          ValueError: no vector of this width, k or search_by is out of range, or nothing was found.
        """
        return self.search_many(np.asarray(query_vector)[None], k, search_by, query and [query])[0].hits

    def questions(self) -> list[str]:
        """Returns the question of each pair."""
        return self._pairs["question"].to_pylist()

    def check(self, k: int, search_by: str) -> None:
        """Raises a ValueError if so many answers cannot be found, or not by this."""
        if not 1 <= k <= self.num_answers:
            raise ValueError(f"k is {k}; expected 1 to {self.num_answers}, the answers of this index.")
        if search_by not in self._faiss:
            raise ValueError(f"search_by is {search_by!r}; expected {' or '.join(self._faiss)}, which this index has.")

    def search_many(
        self, query_vectors: np.ndarray, k: int, search_by: Side = "answer", queries: Sequence[str] | None = None
    ) -> list[Found]:
        """Finds the k nearest answers of each of Q queries: `search` with [Q, D] and Q texts; and how near they are.

        The answers of a stored question come first, by their cosines, wherever else they would stand: an approximate
        index may not find them, nor a small k, and a threshold may refuse them.
        """
        query_vectors = self._checked(query_vectors)
        self.check(k, search_by)
        joined = queries and self._lexical
        depth = min(max(_HYBRID_DEPTH, 2 * k), self.num_answers) if joined else k
        best = self._nearest(query_vectors, depth, search_by)
        nearest = best if search_by == self._nearness else self._nearest(query_vectors, 1, self._nearness)
        if joined:
            best = [self._join(*query, depth, search_by) for query in zip(queries, query_vectors, best, strict=True)]
        own: list[dict[str, Ranked]] = [{}] * len(query_vectors)
        if queries:
            own = [self._own(*query, {search_by, self._nearness}) for query in zip(queries, query_vectors, strict=True)]
        found = []
        for mine, ranked, answers in zip(own, best, nearest, strict=True):
            ranked = self._once(mine.get(search_by, []) + ranked)
            cosines = [cosine for _, cosine in answers[:1] + mine.get(self._nearness, [])[:1]]
            if not (ranked and cosines):
                raise ValueError(
                    "The index found nothing: it looked where no vector is. Build it with "
                    "--search_parameters=nprobe=16, or with --factory=Flat."
                )
            found.append(Found([self._hit(*place) for place in ranked[:k]], max(cosines), bool(mine)))
        return found

    def searched_answers(self) -> SearchedAnswers:
        """Returns all that a search by answers and vectors looks at, for an export."""
        self.check(1, "answer")
        passages, found = vectors.contents(self._on_cpu["answer"])
        rows = [self._row_of["answer"][passage] for passage in passages.tolist()]
        return SearchedAnswers(found, self._group_of_row[rows], self._pairs["pair_id"].to_numpy()[rows])

    def _checked(self, query_vectors: np.ndarray) -> np.ndarray:
        """Returns vectors as the index has them: as wide, and of unit norm.

        Raises:
          ValueError: they are no vectors, or of another width.
        """
        expected = self._on_cpu[self._nearness].d
        query_vectors = np.asarray(query_vectors)
        if not np.issubdtype(query_vectors.dtype, np.number):
            raise ValueError(
                f"Expected vectors of numbers; received {query_vectors.dtype}. A text needs the encoder that made the "
                "index: open it with Index(index_dir, TrainedRetriever.load(model_dir)), and ask with "
                "docproduct.answering.answerer.answer."
            )
        if self._normalize:
            query_vectors = query_vectors.astype(np.float64)
            norms = np.linalg.norm(query_vectors, axis=-1, keepdims=True)  # [Q, 1]
            if not (np.isfinite(norms) & (norms > 0)).all():
                raise ValueError("A query's vector has no direction: it holds NaN, infinity, or only zeros.")
            query_vectors = query_vectors / norms
        query_vectors = shorten(query_vectors.astype(np.float32), self.manifest["settings"]["dims"])
        if query_vectors.shape[1:] != (expected,):
            raise ValueError(f"A query has shape {query_vectors.shape[1:]}; expected ({expected},), as in this index.")
        return query_vectors

    def _own(self, query: str, query_vector: np.ndarray, sides: set[Side]) -> dict[str, Ranked]:
        """Returns the pairs whose question is the query, ranked by each of these sides; nothing if there are none."""
        rows = self._stored.rows(query)
        if not len(rows):
            return {}
        cosines = {side: self._cosines(rows, query_vector, side) for side in sides}
        return {
            side: [(int(rows[i]), float(values[i])) for i in np.argsort(-values, kind="stable")]
            for side, values in cosines.items()
        }

    def _cosines(self, rows: np.ndarray, query_vector: np.ndarray, side: Side) -> np.ndarray:
        """Returns the cosine of a query with each of these pairs: its question, or the best passage of its answer."""
        ids = [self._ids_of[side][row] for row in rows.tolist()]
        products = vectors.inner_products(self._on_cpu[side], np.concatenate(ids), query_vector)
        starts = np.cumsum([0, *map(len, ids[:-1])])
        return np.maximum.reduceat(products, starts)

    def _once(self, ranked: Ranked) -> Ranked:
        """Returns the first of each answer group."""
        first: dict[int, tuple[int, float]] = {}
        for row, cosine in ranked:
            first.setdefault(int(self._group_of_row[row]), (row, cosine))
        return list(first.values())

    def _join(self, query: str, query_vector: np.ndarray, nearest: Ranked, depth: int, search_by: Side) -> Ranked:
        """Returns the best by vectors, which are `nearest`, and BM25 together, with their cosines."""
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
                cosines[row] = float(self._cosines(np.array([row]), query_vector, search_by)[0])
        rows, dense = list(row_of_group.values()), np.array([cosines[row] for row in row_of_group.values()])
        # What BM25 does not have among its first counts as the text of its row says.
        words = np.array([best[group] or float(lexical[row]) for group, row in row_of_group.items()])
        fused = fuse(dense, words, self._hybrid, self.manifest["settings"]["bm25_weight"])
        return [(rows[i], float(dense[i])) for i in np.argsort(-fused, kind="stable")]

    def _nearest(self, query_vectors: np.ndarray, k: int, search_by: Side) -> list[Ranked]:
        """Returns for each query k answers or more; an approximate index may find fewer, or none."""
        index = self._faiss[search_by]
        most = min(index.ntotal, self._max_fetched)
        best: list[Ranked] = [[] for _ in query_vectors]
        fetched, short = 0, np.arange(len(query_vectors))
        while len(short) and fetched < most:
            # Several passages may belong to one answer: fetch more until there are k answers.
            fetched = min(2 * max(fetched, k), most)
            scores, ids = index.search(query_vectors[short], fetched)
            for query, *found in zip(short, scores, ids, strict=True):
                best[query] = self._best_of_each_answer(*found, search_by)
            short = np.array([query for query in short if len(best[query]) < k], int)
        return best

    def _best_of_each_answer(self, scores: np.ndarray, ids: np.ndarray, search_by: Side) -> Ranked:
        """Returns the first of each answer group; both inputs are sorted by score."""
        row_of = self._row_of[search_by]
        places = zip(ids.tolist(), scores.tolist(), strict=True)
        return self._once([(row_of[found], score) for found, score in places if found in row_of])

    def _hit(self, row: int, score: float) -> Hit:
        values = {name: self._pairs[name][row].as_py() for name in SHOWN_COLUMNS}
        return Hit(score=score, **values)


def _check_encoder(index_dir: str, built_with: dict[str, str], received: str) -> None:
    """Raises a ValueError unless a retriever with this fingerprint built the index."""
    if not built_with["fingerprint"]:
        raise ValueError(
            f"{index_dir} holds precomputed vectors without an encoder, so that no text can be asked. Search it with "
            "vectors in Python: Index.open_vectors(index_dir).search(vector, k). Or build it again with --model_dir, "
            "the encoder that made them."
        )
    if built_with["fingerprint"] != received:
        raise ValueError(
            f"{index_dir} was built with the encoder {built_with['name']!r} (fingerprint "
            f"{built_with['fingerprint'][:12]}); received one with fingerprint {received[:12]}. Their vectors "
            "cannot be compared: give that encoder, or build the index again with this one."
        )
