"""Searches an index folder: vectors in, hits out, no two with the same answer."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE, read_manifest
from data_pipeline.settings import from_json
from docproduct.index.content import DOCUMENT_COLUMNS, SHOWN_COLUMNS, are_passages, headings
from docproduct.index.decision import Decider
from docproduct.index.folder import FAISS_FILES, FORMAT, KIND, PAIRS_FILE, PASSAGES_FILE, REMEDY, WORD_FOLDERS
from docproduct.index.results import Decision, Hit, SearchResult
from docproduct.index.settings import IndexSettings
from docproduct.index.side import IndexSide, Ranked, first_of_each_answer
from docproduct.search import threshold
from docproduct.search.answerable import DEPTH
from docproduct.search.faiss_engine import FaissEngine
from docproduct.search.fusion import Hybrid
from docproduct.search.spelling import Speller
from docproduct.search.stored import StoredQuestions
from docproduct.search.words import WordIndex
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.systems.retriever.export import SearchedAnswers
from docproduct.systems.retriever.folder import shorten

_HYBRID_DEPTH = 100  # candidates of each ranking that are joined
_OF_BOTH = 64  # neighbors among which the nearest pairs and the nearest passages are looked for


class Index:
    """An index folder, opened for one encoder.

    Attributes:
      manifest: The content of manifest.json.
      num_answers: Number of different answers.
      threshold: Minimum cosine of question and answer for a question to count as answerable, where the cosine decides
        alone, less a margin for rounding; see threshold.py.
    """

    def __init__(self, index_dir: str, retriever: TrainedRetriever | None, device: str = "auto"):
        """Opens an index.

        Args:
          index_dir: The folder that `build` or `build_from_vectors` wrote.
          retriever: The encoder whose vectors will be searched; it must be the index's. None: see `open_vectors`.
          device: cpu, gpu, or auto: the GPU if faiss-gpu and a GPU are there.

        Raises:
          ValueError: the folder holds no finished index, or that of another encoder.
        """
        self.manifest = read_manifest(index_dir, KIND, FORMAT, REMEDY)
        self._normalize = retriever is None
        if retriever is not None:
            _check_encoder(index_dir, self.manifest["encoder"], retriever.fingerprint())
        self._settings = from_json(IndexSettings, self.manifest["settings"], os.path.join(index_dir, MANIFEST_FILE))
        self.num_answers: int = self.manifest["counts"]["answers"]
        rounding = threshold.margin(self.manifest["encoder"]["dtype_policy"])
        self.threshold: float = self.manifest["threshold"]["cosine"] - rounding
        self._pairs = pq.read_table(os.path.join(index_dir, PAIRS_FILE))
        self._groups = self._pairs["answer_group"].to_numpy()
        self._passages = are_passages(self._pairs)
        self._headings = headings(self._pairs)
        self._deciders = dict(self._load_deciders(index_dir, rounding))
        self._speller: Speller | None = None
        words = next((decider.words for decider in self._deciders.values() if decider.words), None)
        if retriever is not None and words:
            self._speller = Speller(words.counts, retriever.tokenizer)
        has_groups = "question_group" in self._pairs.column_names
        self._stored = StoredQuestions(
            self._headings, self._pairs["question_group"].to_pylist() if has_groups else None
        )
        _check_files(index_dir, self.manifest)
        self._sides = dict(self._open_sides(index_dir, device))
        # The side whose cosines decide whether a question is answerable.
        self._deciding: Side = "answer" if "answer" in self._sides else "question"

    @classmethod
    def open_vectors(cls, index_dir: str, device: str = "auto") -> "Index":
        """Opens an index without its encoder, to be searched with vectors that you have.

        They may have any norm. They must come from the encoder of the index, which nothing here can check.
        """
        return cls(index_dir, None, device)

    def _load_deciders(self, index_dir: str, rounding: float) -> Iterator[tuple[bool, Decider]]:
        """Yields what decides about pairs (False) and about passages (True), of those that the index holds."""
        if not self._passages.all():
            yield False, Decider.load(index_dir, self.manifest, self.threshold, rounding)
        if self._passages.any():
            stored = self.manifest["of_documents"]
            yield True, Decider.load(index_dir, stored, stored["threshold"]["cosine"] - rounding, rounding)

    def _open_sides(self, index_dir: str, device: str) -> Iterator[tuple[Side, IndexSide]]:
        pair_ids = self._pairs["pair_id"].to_numpy()
        passages = pq.read_table(os.path.join(index_dir, PASSAGES_FILE))
        row_of_pair = {pair_id: row for row, pair_id in enumerate(pair_ids.tolist())}
        passage_rows = np.array([row_of_pair[pair_id] for pair_id in passages["pair_id"].to_pylist()], int)
        asked = np.flatnonzero(~self._passages)
        ids = {"question": pair_ids[asked], "answer": passages["passage_id"].to_numpy()}
        rows = {"question": asked, "answer": passage_rows}
        for side in _sides_of(self.manifest):
            words = None
            if self._settings.hybrid != "none":
                words = WordIndex.load(os.path.join(index_dir, WORD_FOLDERS[side]), self._pairs[side].to_pylist())
            engine = FaissEngine.load(os.path.join(index_dir, FAISS_FILES[side]), REMEDY, device)
            yield side, IndexSide(engine, ids[side], rows[side], self._groups, words)

    def search(
        self, query_vector: np.ndarray, k: int, search_by: Side = "answer", query: str | None = None
    ) -> list[Hit]:
        """Finds the k nearest answers.

        Args:
          query_vector: [D] float32, of a question; unit norm, unless the index is open for vectors.
          k: Number of hits, 1 to `num_answers`.
          search_by: Which side to compare the question with.
          query: The question as a clean text, to find it among the stored questions and for BM25. None: vectors alone
            are searched.

        Returns:
          k hits, the best first, no two with the same answer; an approximate index may find fewer, at least one.

        Raises:
          ValueError: the vector has another width, k or search_by is out of range, or nothing was found.
        """
        return self.search_many(np.asarray(query_vector)[None], k, search_by, query and [query])[0].hits

    def search_many(
        self, query_vectors: np.ndarray, k: int, search_by: Side = "answer", queries: Sequence[str] | None = None
    ) -> list[SearchResult]:
        """Finds the k nearest answers of each of Q queries: `search` with [Q, D] and Q texts.

        The answers of a stored question come first, by their cosines. An approximate index might miss them otherwise,
        or a small k, and a threshold might refuse them.
        """
        query_vectors = self._checked(query_vectors)
        self.check(k, search_by)
        side, deciding = self._sides[search_by], self._sides[self._deciding]
        fused = bool(queries and side.words)
        looked_at = min(DEPTH if len(self._deciders) == 1 else _OF_BOTH, self.num_answers)
        depth = min(max(_HYBRID_DEPTH, 2 * k), self.num_answers) if fused else max(k, looked_at)
        ranked = side.nearest(query_vectors, depth)
        nearest = ranked if side is deciding else deciding.nearest(query_vectors, looked_at)
        if fused:
            hybrid = Hybrid(self._settings.hybrid, self._settings.bm25_weight)
            each = zip(queries, query_vectors, ranked, strict=True)
            ranked = [side.fused(query, vector, by_vector, depth, hybrid) for query, vector, by_vector in each]
        results = []
        for number, vector in enumerate(query_vectors):
            stored = self._stored.rows(queries[number]) if queries else np.empty(0, int)
            own = side.rank(stored[side.has(stored)], vector)
            best = first_of_each_answer(own + ranked[number], self._groups)
            cosines = [cosine for _, cosine in nearest[number][:1] + deciding.rank(stored, vector)[:1]]
            if not (best and cosines):
                raise ValueError(
                    "The index found nothing: it searched only parts without vectors. Build it with "
                    "--search_parameters=nprobe=16, or with --factory=Flat."
                )
            num_own = min(k, len(first_of_each_answer(own, self._groups)))
            decision = self._decide(queries and queries[number], vector, nearest[number])
            results.append(SearchResult(self._hits(best[:k]), max(cosines), bool(len(stored)), num_own, decision))
        return results

    def _decide(self, query: str | None, vector: np.ndarray, nearest: Ranked) -> Decision:
        """Returns whether the pairs or the passages answer a query, of which the text may be unknown."""
        decisions = []
        for of_passages, decider in self._deciders.items():
            own = [(row, cosine) for row, cosine in nearest if self._passages[row] == of_passages][:DEPTH]
            if own:
                decisions.append(self._decide_by(decider, query, vector, own))
        return Decision(any(one.answerable for one in decisions), any(one.near for one in decisions))

    def _decide_by(self, decider: Decider, query: str | None, vector: np.ndarray, nearest: Ranked) -> Decision:
        """Returns what one calibration says of the nearest pairs, or of the nearest passages."""
        cosines = [cosine for _, cosine in nearest]
        if query is None or not decider.reads_signals:
            return decider.by_cosine(cosines[0])
        rows = np.array([row for row, _ in nearest])
        best = (self._headings[rows[0]], self._pairs["answer"][rows[0]].as_py())
        of_questions = [0.0] if self._passages[rows[0]] else self._sides["question"].cosines(rows, vector).tolist()
        return decider.by_signals(query, cosines, of_questions, best)

    def correct(self, question: str) -> str:
        """Returns a clean question with misspelt words corrected, by the words of the index; see spelling.py.

        A stored question stays as it is: the index knows its words.
        An index that is calibrated by the cosine alone, or open for vectors, corrects nothing.
        """
        return self._speller.correct(question) if self._speller else question

    def questions(self) -> list[str]:
        """Returns what each row can be asked for word for word: its question, or the heading of a passage."""
        return list(self._headings)

    @property
    def has_questions(self) -> bool:
        """Whether it has vectors of questions; passages have none, and precomputed vectors may be of answers only."""
        return "question" in self._sides

    @property
    def sides(self) -> list[Side]:
        """The sides that can be searched."""
        return list(self._sides)

    @property
    def num_documents(self) -> int:
        """The number of documents whose passages it holds."""
        return self.manifest["counts"].get("documents", 0)

    def vectors(self, side: Side) -> np.ndarray:
        """Returns the vectors of a side, [P, D] float32; a compressed index returns approximations.

        Raises:
          ValueError: the index has no vectors of this side.
        """
        self.check(1, side)
        engine = self._sides[side].engine
        return engine.vectors_of(engine.ids())

    def longest_answers(self, count: int) -> list[str]:
        """Returns the longest answers, by characters, the longest first."""
        lengths = pc.utf8_length(self._pairs["answer"]).to_numpy()
        return self._pairs["answer"].take(np.argsort(-lengths, kind="stable")[:count]).to_pylist()

    def check(self, k: int, search_by: str) -> None:
        """Raises a ValueError if the index has fewer answers, or cannot be searched by this side."""
        if not 1 <= k <= self.num_answers:
            raise ValueError(f"k is {k}; expected 1 to {self.num_answers}, the answers of this index.")
        if search_by == "question" and self._passages.all():
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
        pair_ids = self._pairs["pair_id"].to_numpy()[rows]
        return SearchedAnswers(side.engine.vectors_of(passage_ids), self._groups[rows], pair_ids)

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
        query_vectors = shorten(query_vectors.astype(np.float32), self._settings.dims)
        if query_vectors.shape[1:] != (expected,):
            raise ValueError(f"A query has shape {query_vectors.shape[1:]}; expected ({expected},), as in this index.")
        return query_vectors

    def _hits(self, ranked: Ranked) -> list[Hit]:
        shown = [name for name in (*SHOWN_COLUMNS, *DOCUMENT_COLUMNS) if name in self._pairs.column_names]
        return [Hit(score=cosine, **{name: self._pairs[name][row].as_py() for name in shown}) for row, cosine in ranked]


def _sides_of(manifest: dict[str, Any]) -> list[Side]:
    """Returns the sides that the index has vectors of; precomputed vectors may be of one side."""
    names = manifest.get("sha256", FAISS_FILES.values())
    return [side for side, name in FAISS_FILES.items() if name in names]


def _check_files(index_dir: str, manifest: dict[str, Any]) -> None:
    """Raises a ValueError if a file that is there is not as it was written."""
    for name, sha256 in manifest.get("sha256", {}).items():
        path = os.path.join(index_dir, name)
        if os.path.isfile(path) and files.sha256(path) != sha256:
            raise ValueError(f"{path} is missing or damaged (its bytes are not those that were written). {REMEDY}")


def _check_encoder(index_dir: str, encoder: dict[str, str], fingerprint: str) -> None:
    """Raises a ValueError unless a retriever with this fingerprint built the index."""
    if not encoder["fingerprint"]:
        raise ValueError(
            f"{index_dir} holds precomputed vectors without an encoder, so that no text can be asked. Search it with "
            "vectors in Python: Index.open_vectors(index_dir).search(vector, k). Or build it again with --model_dir, "
            "the encoder that made them."
        )
    if encoder["fingerprint"] != fingerprint:
        raise ValueError(
            f"{index_dir} was built with the encoder {encoder['name']!r} (fingerprint "
            f"{encoder['fingerprint'][:12]}); received an encoder with fingerprint {fingerprint[:12]}. Their vectors "
            "cannot be compared: give that encoder, or build the index again with this one."
        )
