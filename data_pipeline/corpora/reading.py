"""What all readers share: formats, the opened table, and the counts of refused rows and of notes."""

import collections
import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from data_pipeline.corpora import opening

ROLES = ("question", "answer", "source", "focus")  # of columns
OTHER_NUMBER = "another number of fields than the header"
BELOW_SCORE = "the score is below --min_score"
NO_QUESTION = "the question of an answer is missing"


class NotATableError(ValueError):
    """A file holds something other than a table with questions and answers."""


class Refusals:
    """Counts refused rows by reason, and notes of readers, each with its first place.

    A note tells of a decision that a user might not expect, such as the delimiter of a file.

    Attributes:
      counts: {reason: refused rows}.
      noted: {note: times}.
    """

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.noted: collections.Counter[str] = collections.Counter()
        self._first: dict[str, tuple[int, str]] = {}
        self._first_noted: dict[str, str] = {}

    def add(self, reason: str, where: str, position: int = 0, rows: int = 1) -> None:
        """Counts rows.

        Args:
          reason: why they are refused.
          where: place of the first: file and row.
          position: orders the places; of equal positions, the place that was added first counts.
          rows: number of rows.
        """
        self.counts[reason] += rows
        self._first[reason] = min(self._first.get(reason, (position, where)), (position, where), key=lambda at: at[0])

    def note(self, text: str, where: str) -> None:
        """Counts a note."""
        self.noted[text] += 1
        self._first_noted.setdefault(text, where)

    def merge(self, report: dict[str, dict[str, int | str]]) -> None:
        """Adds the report of another."""
        for reason, entry in report.items():
            self.add(reason, entry["first"], entry["position"], entry["rows"])

    def report(self) -> dict[str, dict[str, int | str]]:
        """Returns {reason: {"rows", "first", "position"}}, the most frequent first."""
        return {
            reason: {"rows": n, "first": self._first[reason][1], "position": self._first[reason][0]}
            for reason, n in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        }

    def notes(self) -> dict[str, dict[str, int | str]]:
        """Returns {note: {"times", "first"}}."""
        return {text: {"times": n, "first": self._first_noted[text]} for text, n in self.noted.items()}


class Table(NamedTuple):
    """An opened file.

    Attributes:
      header: names of its columns.
      rows: (place, values) of each row.
      value: (values, place of a column in the header) -> the value of this column: a text, a list, ... None if the
        values are a list with a text for each column.
    """

    header: list[str]
    rows: Iterable[tuple[str, Any]]
    value: Callable[[Any, int], Any] | None = None


def parsed(value: Any) -> Any:
    """Returns the list or object that a text of JSON holds; other values as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


class Block(NamedTuple):
    """A paragraph or heading of a document.

    Attributes:
      text: its text.
      level: of a heading, from 1; 0 for a paragraph.
      page: number of its page; empty for a document without pages.
    """

    text: str
    level: int = 0
    page: str = ""


class Start(NamedTuple):
    """How a file begins.

    Attributes:
      path: the file.
      content: its first bytes, unpacked.
      text: these as text, without white space before; empty for bytes that are no text.
    """

    path: str
    content: bytes
    text: str

    @classmethod
    def of(cls, path: str) -> "Start":
        """Returns the start of a file.

        Raises:
          FileNotFoundError: the file is missing.
          ValueError: it is packed and damaged.
        """
        content = opening.head(path)
        return cls(path, content, (opening.decoded(content) or "").lstrip("\ufeff \t\r\n"))


class Format(NamedTuple):
    """A layout of files or folders that are no tables, with its readers.

    Attributes:
      name: its name in --format.
      contents: what it is, in messages.
      example: a line that shows it.
      read: for the plural of a row type, the reader: (path, columns, refusals) -> (place, row) of each row.
      is_file: recognises a file.
      is_folder: recognises a folder that is read as a whole. None: of a folder, each file is read on its own.
      members: (path) -> the files that a file or folder of this format is read from.
      is_table: whether its files can also be read as plain tables: they are if a column is named.
    """

    name: str
    contents: str
    example: str
    read: Mapping[str, Callable[[str, Any, Refusals], Iterator[tuple[str, Any]]]]
    is_file: Callable[[Start], bool] = lambda start: False
    is_folder: Callable[[str], bool] | None = None
    members: Callable[[str], list[str]] = lambda path: files_of(path)
    is_table: bool = False


def files_of(path: str, endings: tuple[str, ...] = ("",)) -> list[str]:
    """Returns all files under a folder, sorted; for a file, a list with that file.

    Args:
      path: the file or folder.
      endings: how the names of the files end, in lower case. Hidden files are left out.
    """
    if not os.path.isdir(path):
        return [path]
    found = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = [name for name in names if not name.startswith(".") and name.lower().endswith(endings)]
        found += [os.path.join(folder, name) for name in sorted(names)]
    return found
