"""An index folder whose pairs are added, replaced and removed while it is searched.

    write -> texts cleaned -> vectors -> SQLite, on the disk -> the open index -> acknowledged

The folder index.live beside the folder index holds all changes since the index was written; see search/changes.py. They
are applied when the index is opened. After many changes, a thread writes the index folder anew, opens it, and removes
these changes from index.live; see compaction.py.

Writes are made one after another, from any number of threads. A search sees all of a write, or nothing of it.
"""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from absl import logging

from data_pipeline import cleaning
from data_pipeline.folders.manifest import read_manifest
from docproduct.index import compaction
from docproduct.index.folder import FORMAT, KIND, REMEDY
from docproduct.index.open import Index
from docproduct.search.changes import Change, ChangeStore, NotStoredError
from docproduct.systems.retriever import TrainedRetriever

Status = Literal["added", "replaced", "unchanged"]
COMPACT_CHANGES = 2_000
_LARGE_SHARE, _LEAST_CHANGES = 0.25, 100  # so many changes are enough, too: the calibration should fit the pairs
_WRITES_BEFORE_RETRY = 100  # after a compaction that failed: each encodes and calibrates, and may fail again
_INT64 = re.compile(r"0|-?[1-9]\d{0,18}")


class NewPair(NamedTuple):
    """A pair to add; it replaces the one with its id, if there is one.

    Attributes:
      pair_id: Its id.
      texts: Its texts by column, as `LiveFolder.cleaned` returns them.
    """

    pair_id: int
    texts: dict[str, str]


def pair_id_of(name: str) -> int:
    """Returns the id of a pair: the number that a text writes, or a hash of any other text.

    -1 is hashed, too: FAISS returns it where it finds no neighbour.
    """
    if _INT64.fullmatch(name) and -(2**63) <= int(name) < 2**63 and name != "-1":
        return int(name)
    return cleaning.hash64(f"id:{name}")


class LiveFolder:
    """An index folder with its changes; as long as it is open, no other process can change it.

    Attributes:
      index: The index to search. Compaction and `reopen` exchange it.
      on_exchange: Called with the new index after compaction.
    """

    def __init__(
        self,
        index_dir: str,
        retriever: TrainedRetriever,
        device: str = "auto",
        compact_changes: int = COMPACT_CHANGES,
    ):
        """Opens an index and joins its changes.

        Args:
          index_dir: The index folder.
          retriever: The encoder that built it.
          device: Where FAISS searches.
          compact_changes: Number of changed pairs after which the folder is written anew. A quarter of all pairs is
            enough, too, if they are 100 or more. 0: never.

        Raises:
          ValueError: The folder holds no finished index, or that of another encoder, or a file is damaged.
          BlockingIOError: Another process may change it.
        """
        self._index_dir, self._device, self._compact_changes = index_dir, device, compact_changes
        self._writing = threading.RLock()
        self._compacting: threading.Thread | None = None
        self._compact_from = 0  # no compaction before the write with this number
        self._is_closed = False
        self.on_exchange: Callable[[Index], None] = lambda index: None
        if not os.path.isdir(compaction.live_dir(index_dir)):
            read_manifest(index_dir, KIND, FORMAT, REMEDY)  # before a folder is made beside it
        self._store = ChangeStore(compaction.live_dir(index_dir), retriever.fingerprint())
        try:
            compaction.recover(index_dir)
            self.reopen(retriever)
        except BaseException:
            self._store.close()
            raise

    def reopen(self, retriever: TrainedRetriever) -> Index:
        """Opens the index folder again, which may have been replaced, joins the changes, and returns the index.

        Raises:
          ValueError: As in `__init__`; then the former index stays.
        """
        with self._writing:
            fingerprint = retriever.fingerprint()
            self._store.check_encoder(fingerprint)
            index = Index(self._index_dir, retriever, self._device, live=True)
            self._join(index)
            # The fingerprint is kept: it reads all weights, which takes three times as long as the rest of a change.
            self.index, self._retriever, self._fingerprint = index, retriever, fingerprint
        return index

    def _join(self, index: Index) -> None:
        index.apply(self._store.read())
        self.num_changes = self._store.num_changes

    @contextlib.contextmanager
    def reloading(self) -> Iterator[None]:
        """Keeps other threads from changing pairs while the block runs; an error in it restores the former index."""
        with self._writing:
            before = self.index, self._retriever, self.on_exchange
            try:
                yield
            except BaseException:
                self.index, self._retriever, self.on_exchange = before
                raise

    def cleaned(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Returns the texts of a pair as the index keeps them.

        Raises:
          ValueError: Question or answer is empty, or the index keeps no such column.
        """
        columns = self.index.pairs.columns
        if unknown := sorted({*texts} - {*columns}):
            raise ValueError(
                f"This index keeps no column {unknown[0]!r}; expected {', '.join(columns)}. Further ones are kept with "
                "--keep of docproduct.index."
            )
        result = {name: cleaning.clean(texts.get(name) or "") for name in columns}
        for side in ("question", "answer"):
            if not result[side] or cleaning.is_null_word(result[side]):
                raise ValueError(f"The {side} is empty, or a word for no value. Expected a text.")
        return result

    def put(self, pairs: Sequence[NewPair]) -> list[Status]:
        """Adds pairs, or replaces those with their ids: all, or none if an error is raised.

        When this returns, they are on the disk, and every search finds them.

        Returns:
          What happened to each; a pair that is there already with equal texts is left as it is.

        Raises:
          NotStoredError: The disk is full, or fails; nothing was changed.
        """
        with self._writing:
            before = [self.index.pairs.texts(pair.pair_id) for pair in pairs]
            statuses: list[Status] = [
                "added" if old is None else "unchanged" if old == pair.texts else "replaced"
                for pair, old in zip(pairs, before, strict=True)
            ]
            changed = [pair for pair, status in zip(pairs, statuses, strict=True) if status != "unchanged"]
            if changed:
                settings = self.index.settings
                vectors = {
                    side: compaction.encode([pair.texts[side] for pair in changed], side, settings, self._retriever)
                    for side in self.index.sides
                }
                self._change(
                    [
                        Change(pair.pair_id, pair.texts, {side: of_side[i] for side, of_side in vectors.items()})
                        for i, pair in enumerate(changed)
                    ]
                )
        return statuses

    def texts(self, pair_id: int) -> dict[str, str] | None:
        """Returns the texts of a pair by column; None if there is no such pair."""
        return self.index.texts(pair_id)

    def remove(self, pair_id: int) -> bool:
        """Removes a pair, on the disk and from every search; returns whether it was there.

        Raises:
          NotStoredError: The disk is full, or fails; nothing was changed.
        """
        with self._writing:
            if self.index.pairs.row_of(pair_id) is None:
                return False
            self._change([Change(pair_id, None)])
        return True

    def _change(self, changes: Sequence[Change]) -> None:
        self._store.check_encoder(self._fingerprint)  # a reload that failed may have recorded another one
        self._store.write(changes)
        self.index.apply(changes)
        self.num_changes = self._store.num_changes
        if self._is_due and not self.is_compacting:
            self._compacting = threading.Thread(target=self._compact_in_background, name="compaction")
            self._compacting.start()

    @property
    def _is_due(self) -> bool:
        is_large = self.num_changes >= _LEAST_CHANGES and self.changed_share >= _LARGE_SHARE
        is_enough = is_large or self.num_changes >= self._compact_changes
        return self._compact_changes > 0 and is_enough and self._store.last >= self._compact_from

    @property
    def changed_share(self) -> float:
        """Changed pairs by all pairs: how far the calibration of the folder may be off."""
        return self.num_changes / max(1, self.index.pairs.num_pairs)

    @property
    def is_compacting(self) -> bool:
        """Whether the folder is being written anew."""
        return self._compacting is not None and self._compacting.is_alive()

    def _compact_in_background(self) -> None:
        try:
            self.compact()
        except (ValueError, OSError) as error:
            self._compact_from = self._store.last + _WRITES_BEFORE_RETRY
            logging.error("%s was not written anew, and its changes stay beside it: %s", self._index_dir, error)

    def compact(self) -> None:
        """Writes the index folder anew, with the changes and a new calibration, and opens it in the place of the old.

        Raises:
          ValueError: There are too few pairs; the changes stay beside the folder.
          OSError: The disk is full, or fails.
        """
        with self._writing:
            index, retriever, last = self.index, self._retriever, self._store.last
            if not index.num_answers:
                raise ValueError("No pair is left.")
            snapshot = index.snapshot()
        path = compaction.write_new(index.manifest, index.settings, snapshot, self._index_dir, retriever)
        new = Index(path, retriever, self._device, live=True)
        with self._writing:
            if self._is_closed or self.index is not index:  # the folder was opened again: perhaps it is another one
                return
            if read_manifest(self._index_dir, KIND, FORMAT, REMEDY) != index.manifest:
                raise ValueError("It was replaced by another one. Load it: kill -HUP of the service.")
            compaction.put_in_place(self._index_dir)
            try:
                self._store.forget(last)
            except NotStoredError as error:  # they will be joined once more, which changes nothing
                logging.warning("Changes that the new folder holds stay beside it: %s", error)
            self._join(new)
            self.index = new
            self.on_exchange(new)
        logging.info("%s was written anew with its changes.", self._index_dir)

    def wait(self) -> None:
        """Waits until the folder is not being written anew."""
        if self._compacting is not None:
            self._compacting.join()

    def close(self) -> None:
        """Ends writing, and lets other processes write; waits for a running compaction, whose folder is not used."""
        with self._writing:
            self._is_closed = True
        self.wait()
        self._store.close()
