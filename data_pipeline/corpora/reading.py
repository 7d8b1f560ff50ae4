"""What all readers share: the opened table, and the counts of refused rows and of notes."""

import collections
import contextlib
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

ROLES = ("question", "answer", "source", "focus")  # of columns
OTHER_NUMBER = "another number of fields than the header"


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
        with contextlib.suppress(ValueError):
            return json.loads(value)
    return value
