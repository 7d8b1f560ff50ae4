"""Searches an index folder: vectors in, hits out, no two with the same answer."""

from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from docproduct.index.content import DOCUMENT_COLUMNS, SHOWN_COLUMNS
from docproduct.index.decision import Decider, Decision, Evidence
from docproduct.index.opened import OpenedFolder
from docproduct.index.results import Hit, SearchResult
from docproduct.index.side import Ranked, first_of_each_answer
from docproduct.search.answerable import DEPTH, Signals
from docproduct.search.filters import Filter
from docproduct.search.fusion import Hybrid
from docproduct.systems.retriever import Side
from docproduct.systems.retriever.export import SearchedAnswers
from docproduct.systems.retriever.folder import shorten

_MOST_SOURCES = 50
_OF_BOTH = 64  # neighbors among which the nearest pairs and the nearest passages are looked for
_HYBRID_DEPTH = 100  # candidates of each ranking that are joined


class Index(OpenedFolder):
    """An index folder, opened for one encoder. Threads may search it while another one changes it, if it is live."""

    @classmethod
    def open_vectors(cls, index_dir: str, device: str = "auto") -> "Index":
        """Opens an index without its encoder, to be searched with vectors that you have.

        They may have any norm. They must come from the encoder of the index, which nothing here can check.
        """
        return cls(index_dir, None, device)

    def search(
        self,
        query_vector: np.ndarray,
        k: int,
        search_by: Side = "answer",
        query: str | None = None,
        conditions: Sequence[str] = (),
    ) -> list[Hit]:
        """Finds the k nearest answers.

        Args:
          query_vector: [D] float32, of a question; unit norm, unless the index is open for vectors.
          k: Number of hits, 1 to `num_answers`.
          search_by: Which side to compare the question with.
          query: The question as a clean text, to find it among the stored questions and for BM25. None: vectors alone
            are searched.
          conditions: What pairs must fulfil to be found, such as `source=NHS`; see search/filters.py.

        Returns:
          k hits, the best first, no two with the same answer; an approximate index may find fewer, at least one. Fewer
          pairs may fulfil the conditions, or none.

        Raises:
          ValueError: the vector has another width, k, search_by or a condition is wrong, or nothing was found.
        """
        return self.search_many(np.asarray(query_vector)[None], k, search_by, query and [query], conditions)[0].hits

    def search_many(
        self,
        query_vectors: np.ndarray,
        k: int,
        search_by: Side = "answer",
        queries: Sequence[str] | None = None,
        conditions: Sequence[str] = (),
    ) -> list[SearchResult]:
        """Finds the k nearest answers of each of Q queries: `search` with [Q, D] and Q texts.

        The answers of a stored question come first, by their cosines. An approximate index might miss them otherwise,
        or a small k, and a threshold might refuse them.
        """
        query_vectors = self._checked(query_vectors)
        with self._lock:
            if self._live:  # pairs may have been removed since the request was checked
                k = min(k, max(1, self.num_answers))
            self.check(k, search_by, conditions)
            matching = self.pairs.matching(self._filter(conditions)) if conditions else None
            if not (self.num_answers if matching is None else matching.any()):
                return [SearchResult([], -np.inf)] * len(query_vectors)
            return self._search(query_vectors, k, search_by, queries, matching)

    def _search(
        self,
        query_vectors: np.ndarray,
        k: int,
        search_by: Side,
        queries: Sequence[str] | None,
        matching: np.ndarray | None,
    ) -> list[SearchResult]:
        side, deciding = self._sides[search_by], self._sides[self._deciding]
        fused = bool(queries and side.words)
        depth, looked_at = self._depths(k, fused)
        ranked = side.nearest(query_vectors, depth, side.ids_where(matching))
        nearest = ranked
        if side is not deciding:
            nearest = deciding.nearest(query_vectors, looked_at, deciding.ids_where(matching))
        if fused:
            hybrid = Hybrid(self.settings.hybrid, self.settings.bm25_weight)
            each = zip(queries, query_vectors, ranked, strict=True)
            ranked = [
                side.fused(query, vector, by_vector, depth, hybrid, matching) for query, vector, by_vector in each
            ]
        results = []
        for number, vector in enumerate(query_vectors):
            stored = self._stored.rows(queries[number]) if queries else np.empty(0, int)
            stored = stored if matching is None else stored[matching[stored]]
            own = side.rank(stored[side.has(stored)], vector)
            best = first_of_each_answer(own + ranked[number], self.pairs.groups)
            cosines = [cosine for _, cosine in nearest[number][:1] + deciding.rank(stored, vector)[:1]]
            if not (best and cosines):
                raise ValueError(
                    "The index found nothing: it searched only parts without vectors. Build it with a higher nprobe in "
                    "--search_parameters, or with --factory=Flat."
                )
            num_own = min(k, len(first_of_each_answer(own, self.pairs.groups)))
            decided = self._decide(queries and queries[number], vector, nearest[number])
            results.append(SearchResult(self._hits(best[:k]), max(cosines), bool(len(stored)), num_own, *decided))
        return results

    def _depths(self, k: int, fused: bool) -> tuple[int, int]:
        """Returns how many answers are ranked, and among how many, at least, the nearest pairs are looked for."""
        looked_at = min(DEPTH if len(self._deciders) == 1 else _OF_BOTH, self.num_answers)
        return min(max(_HYBRID_DEPTH, 2 * k), self.num_answers) if fused else max(k, looked_at), looked_at

    def _filter(self, conditions: Sequence[str]) -> Filter:
        return Filter.parse(conditions, self.pairs.columns)

    def _decide(self, query: str | None, vector: np.ndarray, nearest: Ranked) -> tuple[Decision, Evidence | None]:
        """Returns what the calibrations decide, and what a reranker needs; the text of a query may be unknown."""
        decisions: dict[bool, Decision] = {}  # about pairs (False) and about passages (True)
        evidence = None
        for of_passages, decider in self._deciders.items():
            own = [(row, cosine) for row, cosine in nearest if self._decides(of_passages, row)][:DEPTH]
            if not own:
                continue
            if query is None or not decider.by_search:
                decisions[of_passages] = decider.by_cosine(own[0][1])
                continue
            signals = self._signals(decider, query, vector, own)
            decisions[of_passages] = decider.by_search.decide(signals)
            if decider.by_reranker:
                answers = [self.pairs[int(row)]["answer"] for row, _ in own]
                evidence = Evidence(answers, signals, decider.by_reranker, [])
        if evidence and True in decisions:
            evidence = evidence._replace(of_passages=[decisions[True]])
        return Decision.any_of(list(decisions.values())), evidence

    def _decides(self, of_passages: bool, row: int) -> bool:
        """Returns whether a calibration decides about a row; a single one decides about pairs that were added, too."""
        return len(self._deciders) == 1 or bool(self.pairs.passages[row]) == of_passages

    def _signals(self, decider: Decider, query: str, vector: np.ndarray, nearest: Ranked) -> Signals:
        """Returns what a search tells one calibration, by the nearest pairs or the nearest passages."""
        rows = np.array([row for row, _ in nearest])
        best = (self.pairs.headings[rows[0]], self.pairs[int(rows[0])]["answer"])
        has_questions = self.has_questions and not self.pairs.passages[rows].any()
        of_questions = self._sides["question"].cosines(rows, vector).tolist() if has_questions else [0.0]
        return Signals.of(query, [cosine for _, cosine in nearest], of_questions, best, decider.words)

    def correct(self, question: str) -> str:
        """Returns a clean question with misspelt words corrected, by the words of the index; see spelling.py.

        A stored question stays as it is: the index knows its words.
        An index that is calibrated by the cosine alone, or open for vectors, corrects nothing.
        """
        return self._speller.correct(question) if self._speller else question

    def vectors(self, side: Side) -> np.ndarray:
        """Returns the vectors of a side, [P, D] float32; a compressed index returns approximations.

        Raises:
          ValueError: the index has no vectors of this side.
        """
        self.check(1, side)
        engine = self._sides[side].engine
        return engine.vectors_of(engine.ids())

    def sources(self) -> list[str]:
        """Returns the sources of the pairs, by name, at most 50."""
        with self._lock:
            return sorted(filter(None, pc.unique(self.pairs.column("source")).to_pylist()))[:_MOST_SOURCES]

    def longest_answers(self, count: int) -> list[str]:
        """Returns the longest answers, by characters, the longest first."""
        answers = self.pairs.column("answer")
        lengths = pc.utf8_length(answers).to_numpy()
        return answers.take(np.argsort(-lengths, kind="stable")[:count]).to_pylist()

    def check(self, k: int, search_by: str, conditions: Sequence[str] = ()) -> None:
        """Raises a ValueError if the index has fewer answers, not this side, or not the columns of the conditions."""
        if conditions:
            self._filter(conditions)
        if not 1 <= k <= max(1, self.num_answers):  # a live index may be empty
            raise ValueError(f"k is {k}; expected 1 to {self.num_answers}, the answers of this index.")
        if search_by == "question" and self.pairs.passages.all():
            raise ValueError(
                "search_by is 'question'; expected 'answer': this index holds passages of documents, without questions."
            )
        if search_by not in self._sides:
            raise ValueError(f"search_by is {search_by!r}; expected {' or '.join(self._sides)}, which this index has.")

    def searched_answers(self) -> SearchedAnswers:
        """Returns all that a search by answers and vectors compares, for an export."""
        self.check(1, "answer")
        side = self._sides["answer"]
        passage_ids = side.engine.ids()
        rows = side.row_of(passage_ids)
        pair_ids = np.array([self.pairs[row]["pair_id"] for row in rows], np.int64)
        return SearchedAnswers(side.engine.vectors_of(passage_ids), self.pairs.groups[rows], pair_ids)

    def _checked(self, query_vectors: np.ndarray) -> np.ndarray:
        """Returns vectors in the form of the index: of its width, and of unit norm.

        Raises:
          ValueError: They are no vectors, or have another width.
        """
        expected = self._sides[self._deciding].engine.width
        query_vectors = np.asarray(query_vectors)
        if not np.issubdtype(query_vectors.dtype, np.number):
            raise ValueError(
                f"Expected vectors of numbers; received {query_vectors.dtype}. A text needs the encoder that made the "
                "index: ask docproduct.answering.Answerer.load(Folders(model_dir, index_dir))."
            )
        if self._normalize:
            query_vectors = query_vectors.astype(np.float64)
            norms = np.linalg.norm(query_vectors, axis=-1, keepdims=True)  # [Q, 1]
            if not (np.isfinite(norms) & (norms > 0)).all():
                raise ValueError("A query's vector has no direction: it holds NaN, infinity, or only zeros.")
            query_vectors = query_vectors / norms
        query_vectors = shorten(query_vectors.astype(np.float32), self.settings.dims)
        if query_vectors.shape[1:] != (expected,):
            raise ValueError(f"A query has shape {query_vectors.shape[1:]}; expected ({expected},), as in this index.")
        return query_vectors

    def _hits(self, ranked: Ranked) -> list[Hit]:
        names = [name for name in (*SHOWN_COLUMNS, *DOCUMENT_COLUMNS) if name in (*self.pairs.columns, "pair_id")]
        return [
            Hit(score=cosine, **{name: pair[name] for name in names}, columns=self.pairs.further(pair))
            for pair, cosine in ((self.pairs[row], cosine) for row, cosine in ranked)
        ]
