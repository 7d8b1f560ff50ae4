"""The parts of an index folder in memory, and how they change if the index is live."""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.folders.manifest import MANIFEST_FILE, read_manifest
from data_pipeline.settings import from_json
from docproduct.index.checks import check_encoder, check_files, sides_of
from docproduct.index.content import passage_ids, searched_texts
from docproduct.index.decision import Decider
from docproduct.index.folder import FAISS_FILES, FORMAT, KIND, PAIRS_FILE, PASSAGES_FILE, REMEDY, WORD_FOLDERS, kind_of
from docproduct.index.pairs import Pairs
from docproduct.index.settings import IndexSettings
from docproduct.index.side import IndexSide
from docproduct.index.vector_rows import VectorRows
from docproduct.search import kinds, threshold
from docproduct.search.changes import Change
from docproduct.search.engine import Engine
from docproduct.search.live_engine import LiveEngine
from docproduct.search.spelling import Speller
from docproduct.search.store import Address, is_address
from docproduct.search.stored import StoredQuestions
from docproduct.search.words import WordIndex
from docproduct.systems.retriever import Side, TrainedRetriever


class OpenedFolder:
    """Pairs, vectors, words and calibration of an index folder.

    Attributes:
      manifest: The content of manifest.json.
      settings: How it was built.
      pairs: Its pairs.
      threshold: Minimum cosine of question and answer for a question to count as answerable, where the cosine decides
        alone, less a margin for rounding; see threshold.py.
    """

    def __init__(self, index_dir: str, retriever: TrainedRetriever | None, device: str = "auto", live: bool = False):
        """Opens an index.

        Args:
          index_dir: The folder that `build` or `build_from_vectors` wrote.
          retriever: The encoder whose vectors will be searched; it must be the index's. None: see `open_vectors`.
          device: cpu, gpu, or auto: the GPU if faiss-gpu and a GPU are there.
          live: Whether pairs will be added and removed.

        Raises:
          ValueError: the folder holds no finished index, or that of another encoder; or it is the address of a store.
        """
        if is_address(index_dir):
            shown = Address.parse(index_dir).shown
            raise ValueError(f"{shown} is the address of a store. Give the index folder that was uploaded there.")
        table = self._read(index_dir, index_dir, retriever, live)
        check_files(index_dir, self.manifest)
        self._sides = dict(self._open_sides(index_dir, table, device))

    def _read(self, folder: str, name: str, retriever: TrainedRetriever | None, live: bool = False) -> pa.Table:
        """Reads all but the vectors and BM25, and returns the pairs.

        Args:
          folder: Holds the files.
          name: What errors call it.
          retriever: See `__init__`.
          live: See `__init__`.
        """
        self.manifest = read_manifest(folder, KIND, FORMAT, REMEDY)
        self._normalize, self._live = retriever is None, live
        if retriever is not None:
            check_encoder(name, self.manifest["encoder"], retriever.fingerprint())
        self.settings = from_json(IndexSettings, self.manifest["settings"], os.path.join(folder, MANIFEST_FILE))
        rounding = threshold.margin(self.manifest["encoder"]["dtype_policy"])
        self.threshold: float = self.manifest["threshold"]["cosine"] - rounding
        table = pq.read_table(os.path.join(folder, PAIRS_FILE))
        self.pairs = Pairs(table)
        self._deciders = dict(self._load_deciders(folder, rounding))
        self._words = next((decider.words for decider in self._deciders.values() if decider.words), None)
        self._speller: Speller | None = None
        if retriever is not None and self._words:
            self._speller = Speller(self._words.counts, retriever.tokenizer)
        groups = table["question_group"].to_numpy() if "question_group" in table.column_names else None
        self._stored = StoredQuestions(self.pairs.headings, groups)
        self._lock = threading.RLock()  # held while a search or a change looks at several parts
        # The side whose cosines decide whether a question is answerable.
        self._deciding: Side = "answer" if "answer" in sides_of(self.manifest) else "question"
        return table

    @property
    def calibrated_reranker(self) -> str | None:
        """Fingerprint of the reranker that the index was calibrated with; None if there was none."""
        reranked = self.manifest.get("answerable_reranked")
        return reranked["reranker"] if reranked else None

    @property
    def num_answers(self) -> int:
        """Number of different answers."""
        return self.pairs.num_answers

    def _load_deciders(self, index_dir: str, rounding: float) -> Iterator[tuple[bool, Decider]]:
        """Yields what decides about pairs (False) and about passages (True), of those that the index holds."""
        words = None
        if not self.pairs.passages.all():
            yield False, (decider := Decider.load(index_dir, self.manifest, self.threshold, rounding))
            words = decider.words
        if self.pairs.passages.any():
            stored = self.manifest["of_documents"]
            decider = Decider.load(index_dir, stored, stored["threshold"]["cosine"] - rounding, rounding)
            if words and decider.words:
                decider.words = words  # one object, which changes
            yield True, decider

    def _open_sides(self, index_dir: str, table: pa.Table, device: str) -> Iterator[tuple[Side, IndexSide]]:
        pair_ids = table["pair_id"].to_numpy()
        passages = pq.read_table(os.path.join(index_dir, PASSAGES_FILE))
        order = np.argsort(pair_ids)
        passage_rows = order[np.searchsorted(pair_ids, passages["pair_id"].to_numpy(), sorter=order)]
        asked = np.flatnonzero(~self.pairs.passages)
        ids = {"question": pair_ids[asked], "answer": passages["passage_id"].to_numpy()}
        rows = {"question": asked, "answer": passage_rows}
        for side in sides_of(self.manifest):
            words = None
            if self.settings.hybrid != "none":
                words = WordIndex.load(os.path.join(index_dir, WORD_FOLDERS[side]), searched_texts(table, side))
            path, kind = os.path.join(index_dir, FAISS_FILES[side]), kind_of(self.manifest, side)
            engine = kinds.load(path, kind, REMEDY, device, mapped=True)
            engine = LiveEngine(engine) if self._live else engine
            yield side, IndexSide(engine, ids[side], rows[side], self.pairs, words)

    def apply(self, changes: Iterable[Change]) -> None:
        """Makes changes of a live index; a search sees all of them or none."""
        with self._lock:
            for pair_id, texts, vectors in changes:
                if texts is None:
                    self.drop(pair_id)
                else:
                    self.put(pair_id, texts, vectors)

    def texts(self, pair_id: int) -> dict[str, str] | None:
        """Returns the texts of a pair by column; None if there is no such pair."""
        with self._lock:
            return self.pairs.texts(pair_id)

    def put(self, pair_id: int, texts: Mapping[str, str], vectors: Mapping[str, np.ndarray]) -> None:
        """Adds a pair to a live index, or replaces the one with this id.

        Args:
          pair_id: Its id.
          texts: Its texts by column.
          vectors: By side, for each that the index has, [P, D] float32 of unit norm; see `compaction.encode`.
        """
        with self._lock:
            self.drop(pair_id)
            row = self.pairs.add(pair_id, texts)
            self._stored.add(row, texts["question"])
            for name, side in self._sides.items():
                side.add(vector_ids(pair_id, name, len(vectors[name])), vectors[name], texts[name])
            if self._words:
                self._words.add(_words_of(texts))

    def drop(self, pair_id: int) -> None:
        """Removes a pair from a live index, if it is there."""
        with self._lock:
            row = self.pairs.row_of(pair_id)
            if row is None:
                return
            texts = self.pairs.searched(row)
            for name, side in self._sides.items():
                side.remove(row, texts[name])
            self._stored.remove(row, self.pairs.headings[row])
            if self._words:
                self._words.remove(_words_of(texts))
            self.pairs.remove(row)

    def snapshot(self) -> tuple[Pairs, dict[Side, tuple[Engine, VectorRows]]]:
        """Returns the pairs, and by side the vectors and their ids for each row, as they are now; for compaction."""
        with self._lock:
            return self.pairs.snapshot(), {name: side.snapshot() for name, side in self._sides.items()}

    def questions(self) -> list[str]:
        """Returns what each row can be asked for word for word: its question, or the heading of a passage."""
        with self._lock:
            return [self.pairs.headings[row] for row in np.flatnonzero(self.pairs.present)]

    def is_stored(self, question: str) -> bool:
        """Returns whether a clean question is one of the stored ones."""
        with self._lock:
            return bool(len(self._stored.rows(question)))

    def topics(self) -> list[str]:
        """Returns the topic of each pair, or an empty text."""
        with self._lock:
            return [topic or "" for topic in self.pairs.column("focus").to_pylist()]

    @property
    def sides(self) -> list[Side]:
        """The sides that can be searched."""
        return list(self._sides)

    @property
    def num_documents(self) -> int:
        """The number of documents whose passages the folder holds."""
        return self.manifest["counts"].get("documents", 0)

    @property
    def has_questions(self) -> bool:
        """Whether it has vectors of questions; passages have none, and precomputed vectors may be of answers only."""
        return "question" in self._sides


def vector_ids(pair_id: int, side: Side, num_passages: int) -> np.ndarray:
    """Returns the ids of the vectors of a pair, [P] int64."""
    if side == "question":
        return np.array([pair_id], np.int64)
    return passage_ids([pair_id] * num_passages, range(num_passages))


def _words_of(texts: Mapping[str, str]) -> str:
    return f"{texts['question']}\n{texts['answer']}"
