"""Which row of the pairs each vector belongs to, in arrays: a million vectors take 32 MB and a fraction of a second.

P vectors, N rows, M ids
"""

import copy

import numpy as np


class VectorRows:
    """The ids of the vectors of each row, and the row of each id. Rows are emptied, and added behind the last one."""

    def __init__(self, ids: np.ndarray, rows: np.ndarray, num_rows: int):
        """Takes the ids of P vectors, [P] int64, and the row of each, [P] int."""
        self._ids, self._rows = ids, np.asarray(rows, np.int64)
        self._by_id = np.argsort(ids)
        self._by_row = np.argsort(self._rows, kind="stable")
        self._starts = np.searchsorted(self._rows[self._by_row], np.arange(num_rows + 1))  # [N + 1]
        self._num_first, self._num_rows = num_rows, num_rows
        self._added: dict[int, list[int]] = {}  # ids of added rows
        self._added_rows: dict[int, int] = {}
        self._emptied: set[int] = set()

    def __len__(self) -> int:
        """Returns the number of rows, N, empty ones included."""
        return self._num_rows

    def __getitem__(self, row: int) -> list[int]:
        """Returns the ids of the vectors of a row."""
        if row >= self._num_first:
            return self._added.get(row, [])
        if row in self._emptied:
            return []
        return self._ids[self._by_row[self._starts[row] : self._starts[row + 1]]].tolist()

    def add(self, ids: np.ndarray) -> None:
        """Adds a row with these vectors."""
        self._added[self._num_rows] = ids.tolist()
        self._added_rows |= dict.fromkeys(ids.tolist(), self._num_rows)
        self._num_rows += 1

    def empty(self, row: int) -> None:
        """Removes the vectors of a row."""
        if row < self._num_first:
            self._emptied.add(row)
        for vector_id in self._added.pop(row, ()):
            del self._added_rows[vector_id]

    def rows_of(self, ids: np.ndarray) -> list[int]:
        """Returns the row of each id, [M]; -1 for one that is not there."""
        if not len(self._ids):
            return [self._added_rows.get(vector_id, -1) for vector_id in ids.tolist()]
        places = self._by_id[np.searchsorted(self._ids, ids, sorter=self._by_id).clip(max=len(self._ids) - 1)]
        rows = np.where(self._ids[places] == ids, self._rows[places], -1).tolist()
        if not self._added_rows and not self._emptied:
            return rows
        rows = [-1 if row in self._emptied else row for row in rows]
        return [self._added_rows.get(vector_id, row) for vector_id, row in zip(ids.tolist(), rows, strict=True)]

    def snapshot(self) -> "VectorRows":
        """Returns the ids of each row as they are now; later changes do not change it."""
        frozen = copy.copy(self)
        frozen._added, frozen._added_rows = dict(self._added), dict(self._added_rows)
        frozen._emptied = set(self._emptied)
        return frozen
