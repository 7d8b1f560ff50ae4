"""Stored questions: a question that is asked word for word is answered with its own answers."""

from collections.abc import Sequence

import numpy as np

from data_pipeline import cleaning


class StoredQuestions:
    """Looks up the rows of a question, whatever its case, line breaks and closing marks."""

    def __init__(self, questions: Sequence[str], groups: Sequence[int] | None = None):
        """Takes the question of each row, or what a passage is called.

        Args:
          questions: N clean texts.
          groups: [N] int64, their groups; None: they are computed, for an index from before it had question_group.
        """
        groups = list(map(cleaning.group, questions)) if groups is None else groups
        self._rows: dict[int, list[int]] = {}
        for row, group in enumerate(groups):
            self._rows.setdefault(group, []).append(row)
        # Questions are cleaned when they are stored, and again when they are asked: the stored text "&lt;" is asked as
        # "<". Cleaning twice changes nothing but entities.
        for row, question in enumerate(questions):
            if "&" in question and (group := cleaning.group(cleaning.clean(question))) != groups[row]:
                self._rows.setdefault(group, []).append(row)

    def add(self, row: int, question: str) -> None:
        """Adds the pair of a row."""
        for group in _groups(question):
            self._rows.setdefault(group, []).append(row)

    def remove(self, row: int, question: str) -> None:
        """Removes the pair of a row."""
        for group in _groups(question):
            self._rows[group] = [other for other in self._rows.get(group, ()) if other != row]

    def rows(self, question: str) -> np.ndarray:
        """Returns the rows that have this clean question, [R] int; none for most questions."""
        return np.array(self._rows.get(cleaning.group(question), ()), int)


def _groups(question: str) -> set[int]:
    return {cleaning.group(question), cleaning.group(cleaning.clean(question))}
