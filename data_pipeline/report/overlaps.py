"""Leaks: questions and answers of held-out rows that stand in other rows, word for word or nearly.

The held-out rows (a split, or a test file) stay in memory; the corpus passes by.
"""

import collections
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from data_pipeline.prepare.duplicates import NearDuplicates
from data_pipeline.report.corpus import Row
from data_pipeline.report.duplicates import signed
from data_pipeline.report.lengths import SIDES
from data_pipeline.report.personal_data import shown
from data_pipeline.report.tally import share

_EXACT = 1.0


class _Hit(NamedTuple):
    """A text of the corpus that equals a held-out text, or is near to it."""

    similarity: float
    text: str
    where: str


class _Texts:
    """The different held-out questions or answers, and the nearest hit of each."""

    def __init__(self, side: str, threshold: float):
        self._side, self._index = side, NearDuplicates(threshold)
        self._rows: dict[int, Row] = {}
        self._num_rows: collections.Counter[int] = collections.Counter()
        self._exact: dict[int, _Hit] = {}
        self._near: dict[int, _Hit] = {}

    def _text(self, row: Row) -> str:
        return getattr(row, self._side)

    def _group(self, row: Row) -> int:
        return getattr(row, f"{self._side}_group")

    def hold(self, rows: Iterable[Row]) -> None:
        """Adds held-out rows."""
        rows = list(rows)
        self._num_rows.update(self._group(row) for row in rows if self._text(row))
        fresh = {self._group(row): row for row in rows if self._text(row) and self._group(row) not in self._rows}
        self._rows |= fresh
        for row, signature in signed(list(fresh.values()), self._text):
            self._index.insert(self._group(row), signature)

    def compare(self, rows: Iterable[Row]) -> None:
        """Compares rows of the corpus."""
        others = []
        for row in rows:
            if (group := self._group(row)) in self._rows:
                if group not in self._exact:  # masking takes long
                    self._exact[group] = _Hit(_EXACT, shown(self._text(row)), row.where)
            elif self._text(row):
                others.append(row)
        for row, signature in signed(others, self._text):
            if found := self._index.nearest(signature):
                similarity, group = found
                if group not in self._near or self._near[group].similarity < similarity:
                    self._near[group] = _Hit(similarity, shown(self._text(row)), row.where)

    def numbers(self, num_examples: int) -> dict[str, Any]:
        """Returns how many different texts are held out, how many are in the corpus, and how many rows have these."""
        near = {group: hit for group, hit in self._near.items() if group not in self._exact}
        return {
            "held_out": len(self._rows),
            "exact": len(self._exact),
            "near": len(near),
            "exact_rows": sum(map(self._num_rows.__getitem__, self._exact)),
            "near_rows": sum(map(self._num_rows.__getitem__, near)),
            "share": share(len(self._exact) + len(near), len(self._rows)),
            "exact_examples": self._listed(self._exact, num_examples),
            "near_examples": self._listed(near, num_examples),
        }

    def _listed(self, hits: dict[int, _Hit], number: int) -> list[dict[str, Any]]:
        groups = [group for group in self._rows if group in hits][:number]
        return [
            {
                "text": shown(self._text(self._rows[group])),
                "where": self._rows[group].where,
                "other": hits[group].text,
                "other_where": hits[group].where,
                "similarity": round(hits[group].similarity, 3),
            }
            for group in groups
        ]


class Overlap:
    """What a corpus shares with held-out rows.

    Attributes:
      name: of the held-out rows.
      split: their split, whose own rows are not compared with them; empty: all rows of the corpus are.
    """

    def __init__(self, name: str, split: str, threshold: float):
        self.name, self.split = name, split
        self._sides = {side: _Texts(side, threshold) for side in SIDES}
        self._pairs, self._found = set[tuple[int, int]](), set[tuple[int, int]]()

    def hold(self, rows: Sequence[Row]) -> None:
        """Adds held-out rows."""
        for texts in self._sides.values():
            texts.hold(rows)
        self._pairs.update((row.question_group, row.answer_group) for row in rows)

    def compare(self, rows: Sequence[Row]) -> None:
        """Compares rows of the corpus."""
        rows = [row for row in rows if not self.split or row.split != self.split]
        for texts in self._sides.values():
            texts.compare(rows)
        self._found.update(pair for row in rows if (pair := (row.question_group, row.answer_group)) in self._pairs)

    def numbers(self, num_examples: int) -> dict[str, Any]:
        """Returns what is shared, of questions, answers, and pairs of both."""
        sides = {f"{side}s": texts.numbers(num_examples) for side, texts in self._sides.items()}
        pairs = {"held_out": len(self._pairs), "exact": len(self._found)}
        return {"name": shown(self.name), "split": self.split, "pairs": pairs, **sides}
