"""The hashes of all rows: 17 bytes a row tell what is repeated, and what two corpora share."""

import array
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from data_pipeline.report.corpus import Row


class Hashes(NamedTuple):
    """The hashes of N rows.

    Attributes:
      questions: [N] int64, the group of each question.
      answers: [N] int64, the group of each answer.
      has_answer: [N] bool, whether the row has an answer.
    """

    questions: np.ndarray
    answers: np.ndarray
    has_answer: np.ndarray


class HashCollector:
    """Collects the hashes of rows."""

    def __init__(self) -> None:
        self._questions, self._answers, self._has_answer = array.array("q"), array.array("q"), array.array("b")

    def add(self, rows: Iterable[Row]) -> None:
        """Adds the hashes of rows."""
        for row in rows:
            self._questions.append(row.question_group)
            self._answers.append(row.answer_group)
            self._has_answer.append(bool(row.answer))

    def hashes(self) -> Hashes:
        """Returns the hashes of all rows that were added."""
        questions, answers = (np.array(column, np.int64) for column in (self._questions, self._answers))
        return Hashes(questions, answers, np.array(self._has_answer, bool))


def distinct_pairs(hashes: Hashes) -> np.ndarray:
    """Returns the different (question, answer), [P, 2]."""
    pairs = np.stack([hashes.questions, hashes.answers], axis=1)
    return np.unique(pairs, axis=0) if len(pairs) else pairs
