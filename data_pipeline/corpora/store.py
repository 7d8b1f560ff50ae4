"""Keeps texts by their id outside the memory, to join the rows of large files."""

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator

_CACHE_KIB = 2**16


class Store:
    """Texts by id, in a temporary database; SQLite writes it to the folder for temporary files, and deletes it."""

    def __init__(self, database: sqlite3.Connection):
        self._database = database
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute("PRAGMA synchronous = OFF")
        database.execute("CREATE TABLE texts (id TEXT PRIMARY KEY, text TEXT, label TEXT) WITHOUT ROWID")

    def add(self, rows: Iterable[tuple[str, str, str]]) -> None:
        """Keeps (id, text, label) of each row; a later row replaces one with the same id."""
        rows = (tuple(value.encode(errors="replace").decode() for value in row) for row in rows)  # lone surrogates
        self._database.executemany("INSERT OR REPLACE INTO texts VALUES (?, ?, ?)", rows)

    def find(self, key: str) -> tuple[str, str] | None:
        """Returns the text and the label of an id; None if it is unknown."""
        key = key.encode(errors="replace").decode()
        return self._database.execute("SELECT text, label FROM texts WHERE id = ?", (key,)).fetchone()


@contextlib.contextmanager
def open_store() -> Iterator[Store]:
    """Opens an empty store while the block runs."""
    with contextlib.closing(sqlite3.connect("")) as database:
        yield Store(database)
