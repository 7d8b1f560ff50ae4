"""What all readers share: what an opened table is, and counting what is refused and what is noted."""

import collections
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

ROLES = ("question", "answer", "source", "focus")  # of a column
OTHER_NUMBER = "another number of fields than the header"


class NotATableError(ValueError):
    """A file holds something else than a table with questions and answers."""


class Refusals:
    """Counts refused rows by reason, and what was read in another way than it looks; each with its first place."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.noted: collections.Counter[str] = collections.Counter()
        self._first: dict[str, tuple[int, str]] = {}
        self._first_noted: dict[str, str] = {}

    def add(self, reason: str, where: str, position: int = 0, rows: int = 1) -> None:
        """Counts rows.

        Args:
          reason: why.
          where: file and row of the first.
          position: orders the places; of equal ones, what was added before comes first.
          rows: how many.
        """
        self.counts[reason] += rows
        self._first[reason] = min(self._first.get(reason, (position, where)), (position, where), key=lambda at: at[0])

    def note(self, what: str, where: str) -> None:
        """Counts what a reader decided, such as the delimiter of a file."""
        self.noted[what] += 1
        self._first_noted.setdefault(what, where)

    def merge(self, report: dict[str, dict[str, int | str]]) -> None:
        """Adds what another has counted."""
        for reason, entry in report.items():
            self.add(reason, entry["first"], entry["position"], entry["rows"])

    def report(self) -> dict[str, dict[str, int | str]]:
        """Returns {reason: {"rows", "first", "position"}}, the most frequent first."""
        return {
            reason: {"rows": n, "first": self._first[reason][1], "position": self._first[reason][0]}
            for reason, n in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        }

    def notes(self) -> dict[str, dict[str, int | str]]:
        """Returns {what was noted: {"times", "first"}}."""
        return {what: {"times": n, "first": self._first_noted[what]} for what, n in self.noted.items()}


class Table(NamedTuple):
    """A file that was opened.

    Attributes:
      header: names of its columns.
      rows: (place, values).
      value: takes the value of a column, by its place in the header, out of the values: a text, a list, ... None where
        the values are a list of texts, one a column.
    """

    header: list[str]
    rows: Iterable[tuple[str, Any]]
    value: Callable[[Any, int], Any] | None = None
