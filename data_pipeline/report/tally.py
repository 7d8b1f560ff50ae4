"""Counters and examples whose memory is bounded, however many rows there are."""

import collections
from collections.abc import Callable, Iterable
from typing import Any

_MOST = 200_000  # different values that a tally holds


class Tally:
    """Counts values; of very many different ones, it forgets the rarest now and then.

    Attributes:
      forgot: whether that has happened: rare values may then be missing, or be counted too low.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self._most, self.forgot = most, False

    def add(self, values: Iterable[str]) -> None:
        """Counts values."""
        self._counts.update(values)
        if len(self._counts) > self._most:
            self._counts = collections.Counter(dict(self._ordered()[: self._most // 2]))
            self.forgot = True

    def __len__(self) -> int:
        return len(self._counts)

    def total(self) -> int:
        """Returns the sum of all counts."""
        return self._counts.total()

    def top(self, number: int, least: int = 1) -> list[tuple[str, int]]:
        """Returns the most frequent values; of equal counts, in alphabetical order."""
        return [(value, count) for value, count in self._ordered()[:number] if count >= least]

    def _ordered(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))


class Examples:
    """Keeps the first examples of something, each with its place."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._kept: list[dict[str, Any]] = []

    def add(self, where: str, text: Callable[[], str], **more: Any) -> None:
        """Keeps an example while there is room; its text is made only then."""
        if len(self._kept) < self._number:
            self._kept.append({"where": where, "text": text(), **more})

    def listed(self) -> list[dict[str, Any]]:
        """Returns the examples."""
        return self._kept


def share(part: float, whole: float) -> float:
    """Returns a share, rounded; 0 of nothing."""
    return round(part / whole, 6) if whole else 0.0


def percent(part: float) -> str:
    """Returns a share in percent, for readers."""
    if part in (0, 1):
        return f"{100 * part:.0f}\u00a0%"
    if not 0.0005 <= part < 0.9995:
        return "<\u00a00.1\u00a0%" if part < 0.5 else ">\u00a099.9\u00a0%"
    return f"{100 * part:.1f}\u00a0%"
