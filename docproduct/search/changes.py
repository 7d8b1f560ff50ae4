"""Changes of an index since its folder was written, in SQLite: durable when `write` returns.

A folder beside the index folder holds:

    changes.sqlite   the last state of every changed pair, with its texts and vectors; a removed pair without them
    acknowledged     number of the last write that a client was told of
    lock             held by the process that writes

    P passages of an answer, D width
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from absl import logging

from data_pipeline.folders import files

FILE, ACKNOWLEDGED_FILE = "changes.sqlite", "acknowledged"
_FORMAT = "1"
_TABLES = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
    pair_id INTEGER PRIMARY KEY, number INTEGER NOT NULL, columns TEXT, question BLOB, answer BLOB, checksum INTEGER
);
"""


class NotStoredError(OSError):
    """A change that could not be stored, so that nothing was changed: the disk is full, or fails."""


class Change(NamedTuple):
    """The last state of a pair.

    Attributes:
      pair_id: Its id.
      columns: Its texts by column; None if it was removed.
      vectors: By side, [1 or P, D] float32, of the sides that the index has.
    """

    pair_id: int
    columns: dict[str, str] | None
    vectors: Mapping[str, np.ndarray] = {}


class ChangeStore:
    """The changes of one index folder; one process at a time opens it, and one thread at a time writes.

    Attributes:
      path: The SQLite file.
      last: Number of the last write; later writes have higher ones.
    """

    def __init__(self, folder: str, encoder: str):
        """Opens the store, or makes it.

        Args:
          folder: The folder beside the index folder.
          encoder: Fingerprint of the encoder of the index.

        Raises:
          BlockingIOError: Another process holds it.
          ValueError: A file is damaged, or the vectors are of another encoder.
        """
        os.makedirs(folder, exist_ok=True)
        self.path = os.path.join(folder, FILE)
        self._remedy = f"Restore {folder} from a copy, or remove it: then the changes that only it holds are lost."
        with contextlib.ExitStack() as stack:
            stack.enter_context(files.locked(folder))
            self._acknowledged = os.open(os.path.join(folder, ACKNOWLEDGED_FILE), os.O_RDWR | os.O_CREAT)
            stack.callback(os.close, self._acknowledged)
            self._connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            stack.callback(self._connection.close)
            with self._naming_damage():
                self._set_up()
                self.check_encoder(encoder)
            self._close = stack.pop_all().close

    def _set_up(self) -> None:
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "secure_delete=ON"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_TABLES)
        (state,) = self._connection.execute("PRAGMA integrity_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
        about = {"format": _FORMAT, "last": "0"}
        about |= dict(self._connection.execute("SELECT name, value FROM about"))
        if about["format"] != _FORMAT:
            raise ValueError(f"{self.path} has the format {about['format']}; expected {_FORMAT}. Update docproduct.")
        self.last = int(about["last"])
        # Zeros stand there if the power failed when its size was on the disk already, but not its content.
        acknowledged = os.pread(self._acknowledged, 20, 0).strip(b"\0") or b"0"
        if not acknowledged.isdigit():
            raise sqlite3.DatabaseError(f"{ACKNOWLEDGED_FILE} holds {acknowledged}; expected a number")
        if int(acknowledged) > self.last:
            raise sqlite3.DatabaseError(f"it holds writes up to number {self.last} of {int(acknowledged)}")
        with self._transaction():
            self._connection.executemany("INSERT OR REPLACE INTO about VALUES (?, ?)", about.items())

    def check_encoder(self, encoder: str) -> None:
        """Checks that the vectors are of the encoder with this fingerprint, and records it for those to come.

        Raises:
          ValueError: They are of another one.
          NotStoredError: It could not be recorded.
        """
        query = "SELECT value FROM about WHERE name = 'encoder'"
        (stored,) = self._connection.execute(query).fetchone() or (None,)
        if stored == encoder:
            return
        if stored and self.num_changes:
            raise ValueError(
                f"{self.path} holds {self.num_changes} changes with vectors of another encoder (fingerprint "
                f"{stored[:12]}; received one with {encoder[:12]}). Give that encoder and its index. {self._remedy}"
            )
        with self._naming_failure(), self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO about VALUES ('encoder', ?)", (encoder,))

    @property
    def num_changes(self) -> int:
        """Number of changed pairs."""
        return self._connection.execute("SELECT count(*) FROM changes").fetchone()[0]

    def write(self, changes: Sequence[Change]) -> None:
        """Stores changes, all or none. When this returns, a crash of the machine does not lose them.

        Raises:
          NotStoredError: They were not stored.
        """
        number = self.last + 1
        rows = []
        for change in changes:
            columns = None if change.columns is None else json.dumps(change.columns)
            values = (change.pair_id, columns, *(_packed(change.vectors.get(side)) for side in ("question", "answer")))
            rows.append((*values, _checksum(*values), number))
        with self._naming_failure(), self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO changes (pair_id, columns, question, answer, checksum, number) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                rows,
            )
            self._connection.execute("UPDATE about SET value = ? WHERE name = 'last'", (str(number),))
        self.last = number
        try:
            os.pwrite(self._acknowledged, f"{number:020d}".encode(), 0)
        except OSError as error:
            logging.warning("%s is stored, but its number is not: %s", self.path, error)

    def read(self) -> Iterator[Change]:
        """Yields the changes in the order in which they were made.

        Raises:
          ValueError: One of them is damaged.
        """
        query = "SELECT pair_id, columns, question, answer, checksum FROM changes ORDER BY number, pair_id"
        with self._naming_damage():
            for *values, checksum in self._connection.execute(query):
                if _checksum(*values) != checksum:
                    raise sqlite3.DatabaseError(f"the pair {values[0]} is not as it was written")
                pair_id, texts, question, answer = values
                vectors = {"question": question, "answer": answer}
                yield Change(
                    pair_id,
                    None if texts is None else json.loads(texts),
                    {side: _unpacked(blob) for side, blob in vectors.items() if blob is not None},
                )

    def forget(self, number: int) -> None:
        """Removes the changes up to this number of a write: the index folder holds them now.

        Raises:
          NotStoredError: They stay.
        """
        with self._naming_failure(), self._transaction():
            self._connection.execute("DELETE FROM changes WHERE number <= ?", (number,))

    def close(self) -> None:
        """Closes the files and lets other processes write."""
        self._close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _naming_damage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path} is damaged or cannot be read ({error}). {self._remedy}") from error

    @contextlib.contextmanager
    def _naming_failure(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise NotStoredError(f"{self.path} cannot be written ({error}). Nothing was changed.") from error


def _packed(vectors: np.ndarray | None) -> bytes | None:
    """Returns vectors, [P, D], as bytes: the width, then the components."""
    if vectors is None:
        return None
    return np.uint32(vectors.shape[1]).tobytes() + np.ascontiguousarray(vectors, "<f4").tobytes()


def _unpacked(blob: bytes) -> np.ndarray:
    width = int(np.frombuffer(blob, np.uint32, 1)[0])
    return np.frombuffer(blob, "<f4", offset=4).reshape(-1, width)


def _checksum(pair_id: int, columns: str | None, *blobs: bytes | None) -> int:
    digest = xxhash.xxh3_64(f"{pair_id} {columns}".encode())
    for blob in blobs:
        digest.update(b"" if blob is None else blob)
    return digest.intdigest() - 2**63
