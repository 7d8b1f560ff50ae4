"""Uploads an index folder to a store, where store_index.py searches it.

The folder is read in batches: its vectors are mapped into memory, and of the texts one batch is held. Only ids and
the counts of BM25 are held as a whole. Beside its rows, a store holds small files: the manifest with the calibration,
the weights of the words, and a sample of the pairs, from which a page takes its examples.

    P passages
"""

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from absl import logging

from data_pipeline import cleaning
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE, read_manifest
from docproduct.index import compaction
from docproduct.index.checks import check_files, sides_of
from docproduct.index.content import are_passages, headings, searched_texts
from docproduct.index.folder import FAISS_FILES, FORMAT, KIND, PAIRS_FILE, PASSAGES_FILE, REMEDY, WORD_FOLDERS, kind_of
from docproduct.index.pairs import NO_TEXTS
from docproduct.index.store_index import connect, words_file
from docproduct.search import changes, kinds
from docproduct.search.shared_words import WORDS_FILE
from docproduct.search.store import FLAT, HNSW, Layout, Row
from docproduct.search.words import WordIndex

AUTO = "auto"
KINDS = (AUTO, FLAT, HNSW)
_FORMAT = 1  # of what a store holds
_BATCH = 512  # rows
_MOST_FLAT = 100_000  # vectors that are compared one by one, with the kind auto
_SAMPLED, _SOURCES, _LONGEST = 1_000, 50, 100


def upload(index_dir: str, address: str, kind: str = AUTO, overwrite: bool = False) -> dict[str, Any]:
    """Uploads an index folder. An upload that was interrupted goes on where it was.

    What the address held before answers until the upload is complete, and is removed then.

    Args:
      index_dir: The folder.
      address: Where to upload; see `search.store.Address`.
      kind: flat compares every vector, as FAISS's Flat does; hnsw is approximate and fast; auto is flat up to 100,000
        vectors.
      overwrite: Replace another index at the address.

    Returns:
      The address without its password, the kind, and the number of rows.

    Raises:
      ValueError: The folder or the address is wrong, or the database cannot hold the index.
      FileExistsError: The address holds another index.
      OSError: The database cannot be reached, or fails.
    """
    folder = _Folder(index_dir)
    kind = kind if kind != AUTO else HNSW if folder.num_rows > _MOST_FLAT else FLAT
    layout = folder.layout(kind)
    store = connect(address)
    try:
        before = store.current()
        result = {"store": store.shown, "kind": kind, "rows": folder.num_rows}
        if before == layout.upload_id:
            logging.info("%s holds this index already.", store.shown)
            return result
        if before and not overwrite:
            raise FileExistsError(
                f"{store.shown} holds another index. Give another name, or --overwrite to replace it."
            )
        done = store.begin(layout)
        if done:
            logging.info("The upload goes on behind row %d.", done)
        for rows in folder.rows(done):
            store.append(rows)
            _show_progress(rows[-1]["position"] + 1, folder.num_rows)
        store.finish(folder.small_files())
        return result
    finally:
        store.close()


def _show_progress(done: int, of: int) -> None:
    if 10 * done // of > 10 * max(0, done - _BATCH) // of:
        logging.info("%d of %d rows are uploaded.", done, of)


class _Folder:
    """An index folder that is read in the order of its passages.

    Attributes:
      num_rows: Number of passages, P.
    """

    def __init__(self, index_dir: str):
        """Opens the folder.

        Raises:
          ValueError: It is not finished, or was changed; its vectors are not exact; or a file is damaged.
        """
        self._dir = index_dir
        self._manifest = read_manifest(index_dir, KIND, FORMAT, REMEDY)
        settings = self._manifest["settings"]
        sides = sides_of(self._manifest)
        if inexact := [kind for kind in (kind_of(self._manifest, side) for side in sides) if not kind.keeps_vectors]:
            raise ValueError(
                f"{index_dir} was built with --factory={inexact[0].factory}, which keeps its vectors in part only. "
                "Build it with --factory=Flat; how the store searches is chosen with --kind."
            )
        _check_unchanged(index_dir, self._manifest["encoder"]["fingerprint"])
        check_files(index_dir, self._manifest)
        self._engines = {
            side: kinds.load(self._path(FAISS_FILES[side]), kind_of(self._manifest, side), REMEDY, mapped=True)
            for side in sides
        }
        self._pairs = pq.ParquetFile(self._path(PAIRS_FILE))
        passages = pq.read_table(self._path(PASSAGES_FILE))
        self._passage_ids = passages["passage_id"].to_numpy()  # [P]
        self._pair_of = passages["pair_id"].to_numpy()  # [P]
        self.num_rows = len(passages)
        self._words: dict[str, WordIndex] = {}
        if settings["hybrid"] != "none":
            self._words = {
                side: WordIndex.load(self._path(WORD_FOLDERS[side]), self._texts(side)) for side in self._engines
            }

    def _path(self, name: str) -> str:
        return os.path.join(self._dir, name)

    def _texts(self, side: str) -> Iterator[str]:
        for pairs in self._batches():
            yield from searched_texts(pairs, side)

    def _batches(self) -> Iterator[pa.Table]:
        for batch in self._pairs.iter_batches(_BATCH):
            yield pa.Table.from_batches([batch])

    def layout(self, kind: str) -> Layout:
        """Returns the layout of the folder's rows."""
        upload_id = files.fingerprint([self._manifest, kind, _FORMAT])[:12]
        texts = [name for name in self._pairs.schema_arrow.names if name not in NO_TEXTS]
        widths = {side: engine.width for side, engine in self._engines.items()}
        return Layout(upload_id, kind, texts, widths, list(self._words))

    def rows(self, start: int) -> Iterator[list[Row]]:
        """Yields the rows from the position `start` on, in batches.

        Raises:
          ValueError: The files do not fit together.
        """
        words = {side: index.by_row() for side, index in self._words.items()}
        # The passages of a pair stand together, in the order of the pairs.
        pair_rows = np.cumsum(np.diff(self._pair_of, prepend=self._pair_of[:1]) != 0)  # [P]
        num_pairs = 0
        for pairs in self._batches():
            low, high = np.searchsorted(pair_rows, [num_pairs, num_pairs + len(pairs)])
            own = pair_rows[low:high] - num_pairs
            if not np.array_equal(pairs["pair_id"].to_numpy()[own], self._pair_of[low:high]):
                raise ValueError(f"{PAIRS_FILE} and {PASSAGES_FILE} of {self._dir} do not fit together. {REMEDY}")
            for begin in range(max(low, start), high, _BATCH):
                yield self._rows(pairs, num_pairs, pair_rows, words, slice(begin, min(begin + _BATCH, high)))
            num_pairs += len(pairs)

    def _rows(
        self,
        pairs: pa.Table,
        first_pair: int,
        pair_rows: np.ndarray,
        words: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
        part: slice,
    ) -> list[Row]:
        """Returns the rows at some positions, whose pairs begin with the one in the row `first_pair` of the folder."""
        places = pair_rows[part]
        is_first = np.diff(pair_rows[max(part.start - 1, 0) : part.stop], prepend=-1)[-len(places) :] != 0
        texts = _described(pairs).take(places - first_pair).to_pylist()
        rows = [
            row | {"position": position, "first": first, "asked": first and row["asked"]}
            for position, first, row in zip(range(part.start, part.stop), is_first.tolist(), texts, strict=True)
        ]
        for side, engine in self._engines.items():
            owners, ids = rows, self._passage_ids[part]
            if side == "question":
                owners = [row for row in rows if row["asked"]]
                ids = np.array([row["pair_id"] for row in owners], np.int64)
            for row in rows:
                row[f"{side}_vector"] = None
            for row, vector in zip(owners, engine.vectors_of(ids) if len(ids) else (), strict=True):
                row[f"{side}_vector"] = vector
        for side, (starts, numbers, scores) in words.items():
            for row, place in zip(rows, places.tolist(), strict=True):
                own = slice(starts[place], starts[place + 1] if row["first"] else starts[place])
                row[f"{side}_words"] = dict(zip((numbers[own] + 1).tolist(), scores[own].tolist(), strict=True))
        return rows

    def small_files(self) -> dict[str, bytes]:
        """Returns the files that a store holds beside the rows, by name."""
        contents = {words_file(side): "\n".join(index.words).encode() for side, index in self._words.items()}
        names = [MANIFEST_FILE, *([WORDS_FILE] if os.path.exists(self._path(WORDS_FILE)) else [])]
        for name in names:
            with open(self._path(name), "rb") as file:
                contents[name] = file.read()
        with tempfile.TemporaryFile() as file:
            pq.write_table(self._sample(), file)
            file.seek(0)
            contents[PAIRS_FILE] = file.read()
        return contents

    def _sample(self) -> pa.Table:
        """Returns some of the pairs: spread ones, one of each kind and of each source, and the longest answers."""
        rows = self._sampled_rows()
        parts, first = [], 0
        for pairs in self._batches():
            own = rows[(rows >= first) & (rows < first + len(pairs))]
            parts.append(pairs.take(own - first))
            first += len(pairs)
        return pa.concat_tables(parts)

    def _sampled_rows(self) -> np.ndarray:
        lengths, passages = [], []
        first_of: dict[str, int] = {}
        first = 0
        for pairs in self._batches():
            lengths.append(pc.utf8_length(pairs["answer"]).to_numpy())
            passages.append(are_passages(pairs))
            for row, source in enumerate(pairs["source"].to_pylist(), first):
                first_of.setdefault(source or "", row)
            first_of = dict(sorted(first_of.items())[: _SOURCES + 1])
            first += len(pairs)
        are_of_documents = np.concatenate(passages)
        one_of_each = [np.argmax(are_of_documents), np.argmin(are_of_documents)]
        longest = np.argsort(-np.concatenate(lengths), kind="stable")[:_LONGEST]
        spread = np.arange(0, first, max(1, first // _SAMPLED))
        return np.unique(np.concatenate([spread, one_of_each, longest, list(first_of.values())]).astype(int))


def _described(pairs: pa.Table) -> pa.Table:
    """Returns the texts and groups of pairs, as rows hold them."""
    passages, names = are_passages(pairs), headings(pairs)
    if "question_group" in pairs.column_names:
        groups = pairs["question_group"].to_pylist()
    else:  # an index of an earlier version
        groups = list(map(cleaning.group, names))
    each = zip(names, groups, strict=True)
    asked = [cleaning.group(cleaning.clean(name)) if "&" in name else group for name, group in each]
    texts = {name: pc.fill_null(pairs[name], "") for name in pairs.column_names if name not in NO_TEXTS}
    numbers = {name: pairs[name] for name in ("pair_id", "answer_group")}
    numbers |= {"question_group": groups, "asked_group": asked}
    return pa.table(texts | numbers | {"asked": ~passages})


def _check_unchanged(index_dir: str, fingerprint: str) -> None:
    """Raises a ValueError if pairs of a live index changed since its folder was written."""
    beside = compaction.live_dir(index_dir)
    if not os.path.exists(os.path.join(beside, changes.FILE)):
        return
    store = changes.ChangeStore(beside, fingerprint)
    try:
        if store.num_changes:
            raise ValueError(
                f"{index_dir} does not hold {store.num_changes} changes that {beside} has. Write it anew in Python: "
                "LiveFolder(index_dir, TrainedRetriever.load(model_dir)).compact(); see docs/stores.md."
            )
    finally:
        store.close()
