"""A sample of the rows for what costs too much to look at in all of them."""

from collections.abc import Iterable

import xxhash

from data_pipeline.report.corpus import Row

_MOST_OF_A_QUESTION = 100  # rows


class Sample:
    """Keeps all rows of randomly drawn questions, so that answers to one question stay together.

    A hash of seed and question draws them: the sample depends neither on the order of the rows nor on the run. Half of
    `most` or more is kept of a larger corpus.

    Attributes:
      share: share of the questions whose rows are kept.
    """

    def __init__(self, most: int, seed: int) -> None:
        """Takes the largest number of rows (0: all) and the seed."""
        self._most, self._seed = most, seed
        self.share = 1.0
        self._of_question: dict[int, list[Row]] = {}
        self._positions: dict[int, float] = {}
        self._num_rows = 0

    def add(self, rows: Iterable[Row]) -> None:
        """Keeps those rows whose question is drawn."""
        for row in rows:
            group = row.question_group
            if group not in self._positions:
                position = xxhash.xxh3_64_intdigest(f"{self._seed}:{group}".encode()) / 2**64
                if position >= self.share:
                    continue
                self._positions[group], self._of_question[group] = position, []
            kept = self._of_question[group]
            if not self._most or len(kept) < _MOST_OF_A_QUESTION:
                kept.append(row)
                self._num_rows += 1
        while self._most and self._num_rows > self._most:
            self._halve()

    def _halve(self) -> None:
        self.share /= 2
        for group in [group for group, position in self._positions.items() if position >= self.share]:
            del self._positions[group]
            self._num_rows -= len(self._of_question.pop(group))

    def rows(self) -> list[Row]:
        """Returns the rows, those of one question together."""
        return [row for rows in self._of_question.values() for row in rows]

    def by_question(self) -> list[list[Row]]:
        """Returns the rows of each question."""
        return list(self._of_question.values())

    def random(self, number: int) -> list[Row]:
        """Returns random rows, each of another question: those that stand first in the order of the hashes."""
        first = sorted(self._positions, key=self._positions.__getitem__)[:number]
        return [self._of_question[group][0] for group in first]
