"""Stored questions: a question that is asked word for word is answered with its own answers."""

from collections.abc import Sequence

import numpy as np

from data_pipeline import cleaning


class StoredQuestions:
    """Looks up the rows of a question, whatever its case, line breaks and closing marks."""

    def __init__(self, questions: Sequence[str], groups: np.ndarray | None = None):
        """Takes the question of each row, or what a passage is called.

        Args:
          questions: N clean texts.
          groups: [N] int64, their groups; None: they are computed, for an index from before it had question_group.
        """
        groups = np.array(list(map(cleaning.group, questions)), np.int64) if groups is None else groups
        self._order = np.argsort(groups, kind="stable")
        self._sorted = groups[self._order]  # [N]
        self._changed: dict[int, list[int]] = {}  # rows of the groups that are no longer as they were
        # Questions are cleaned when they are stored, and again when they are asked: the stored text "&lt;" is asked as
        # "<". Cleaning twice changes nothing but entities.
        for row, question in enumerate(questions):
            if "&" in question and (group := cleaning.group(cleaning.clean(question))) != groups[row]:
                self._rows(group).append(row)

    def _rows(self, group: int) -> list[int]:
        """Returns the rows of a group, a list that may be changed."""
        if group not in self._changed:
            self._changed[group] = self._first(group).tolist()
        return self._changed[group]

    def add(self, row: int, question: str) -> None:
        """Adds the pair of a row."""
        for group in _groups(question):
            self._rows(group).append(row)

    def remove(self, row: int, question: str) -> None:
        """Removes the pair of a row."""
        for group in _groups(question):
            self._changed[group] = [other for other in self._rows(group) if other != row]

    def rows(self, question: str) -> np.ndarray:
        """Returns the rows that have this clean question, [R] int; none for most questions."""
        group = cleaning.group(question)
        if group in self._changed:
            return np.array(self._changed[group], int)
        return self._first(group)

    def _first(self, group: int) -> np.ndarray:
        start, end = (np.searchsorted(self._sorted, group, side) for side in ("left", "right"))
        return self._order[start:end]


def _groups(question: str) -> set[int]:
    return {cleaning.group(question), cleaning.group(cleaning.clean(question))}
