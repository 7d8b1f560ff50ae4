"""The pairs of an index: those of pairs.parquet, and those that were added, replaced and removed since.

N rows; a removed pair leaves its row empty, and an added or replaced one gets a new row
"""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import cleaning, splits
from docproduct.index.content import DOCUMENT_COLUMNS, OTHER_NAMES, SHOWN_COLUMNS, are_passages, headings
from docproduct.search.filters import Filter

# Columns that clients neither give nor filter by.
NO_TEXTS = ("pair_id", "question_group", "answer_group", "split", OTHER_NAMES)


class Pairs:
    """Rows of pairs.

    Attributes:
      columns: The texts of a pair: question, answer, source, focus, and what else the index keeps.
      groups: [N] int64, the answer group of each row.
      present: [N] bool, whether the row holds a pair.
      passages: [N] bool, whether it holds a passage of a document, which has no question.
      headings: N texts, what each row can be asked for word for word.
      num_answers: Number of different answers.
    """

    def __init__(self, table: pa.Table):
        """Takes the rows of pairs.parquet."""
        self._table, self._added = table, []
        self.columns = tuple(name for name in table.column_names if name not in NO_TEXTS)
        self.groups = table["answer_group"].to_numpy()
        self.present, self.passages = np.ones(len(table), bool), are_passages(table)
        self.headings = headings(table)
        self._ids = table["pair_id"].to_numpy()
        self._order = np.argsort(self._ids)
        self._row_of: dict[int, int] = {}  # of the added ones
        unique, counts = np.unique(self.groups, return_counts=True)
        self._unique_groups, self._group_counts, self._more = unique, counts, Counter()
        self.num_answers = len(unique)

    def __len__(self) -> int:
        """Returns the number of rows, N, empty ones included."""
        return len(self.groups)

    @property
    def num_pairs(self) -> int:
        """Number of pairs that are present."""
        return int(self.present.sum())

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Returns all columns of a row."""
        if row >= len(self._table):
            return self._added[row - len(self._table)]
        return {name: self._table[name][row].as_py() for name in self._table.column_names}

    def row_of(self, pair_id: int) -> int | None:
        """Returns the row of a pair; None if there is no such pair."""
        if pair_id in self._row_of:
            return self._row_of[pair_id]
        place = np.searchsorted(self._ids, pair_id, sorter=self._order)
        row = int(self._order[place]) if place < len(self._order) else -1
        return row if row >= 0 and self._ids[row] == pair_id and self.present[row] else None

    def texts(self, pair_id: int) -> dict[str, str] | None:
        """Returns the texts of a pair by column, "" where it has none; None if there is no such pair."""
        row = self.row_of(pair_id)
        return None if row is None else {name: self[row][name] or "" for name in self.columns}

    def searched(self, row: int) -> dict[str, str]:
        """Returns the text of each side that BM25 reads: a passage stands under its heading."""
        pair = self[row]
        answer = f"{self.headings[row]}\n{pair['answer']}" if self.passages[row] else pair["answer"]
        return {"question": pair["question"], "answer": answer}

    def further(self, pair: Mapping[str, Any]) -> dict[str, str]:
        """Returns what the index keeps of a pair besides what every hit shows."""
        return {name: pair[name] or "" for name in self.columns if name not in (*SHOWN_COLUMNS, *DOCUMENT_COLUMNS)}

    def add(self, pair_id: int, texts: Mapping[str, str]) -> int:
        """Adds a pair under an id that is not in use, and returns its row."""
        row, group = len(self), cleaning.group(texts["answer"])
        # The retriever was not trained on it, so that its question may calibrate, like those of dev.
        values = {"pair_id": pair_id, "question_group": cleaning.group(texts["question"]), "answer_group": group}
        values |= {"split": splits.DEV, **{name: texts.get(name, "") for name in self.columns}}
        self._added.append({name: values.get(name) for name in self._table.column_names} | values)
        self._row_of[pair_id] = row
        self.groups, self.present = np.append(self.groups, group), np.append(self.present, True)
        self.passages = np.append(self.passages, False)
        self.headings.append(texts["question"])
        self._count(group, 1)
        return row

    def remove(self, row: int) -> None:
        """Removes the pair of a row."""
        self._row_of.pop(self[row]["pair_id"], None)
        self.present[row] = False
        self._count(int(self.groups[row]), -1)

    def _count(self, group: int, change: int) -> None:
        """Counts a row with this answer more or less."""
        place = np.searchsorted(self._unique_groups, group)
        known = place < len(self._unique_groups) and self._unique_groups[place] == group
        before = self._more[group] + (int(self._group_counts[place]) if known else 0)
        self._more[group] += change
        self.num_answers += (before + change > 0) - (before > 0)

    def snapshot(self) -> "Pairs":
        """Returns the pairs as they are now; later changes do not change it."""
        frozen = copy.copy(self)
        frozen._added, frozen.present = list(self._added), self.present.copy()
        return frozen

    def matching(self, conditions: Filter) -> np.ndarray:
        """Returns whether each row holds a pair that fulfils the conditions, [N] bool."""
        rows = conditions.rows(self._table)
        if self._added:
            added = {name: [pair[name] for pair in self._added] for name in self.columns}
            rows = np.append(rows, conditions.rows(pa.table(added)))
        return rows & self.present

    def column(self, name: str) -> pa.ChunkedArray:
        """Returns a column of the pairs that are present, in the order of their rows."""
        return self.table([name])[name]

    def table(self, names: list[str] | None = None) -> pa.Table:
        """Returns the pairs that are present, in the order of their rows."""
        table = self._table.select(names or self._table.column_names)
        if self._added:
            added = [{name: pair[name] for name in table.column_names} for pair in self._added]
            table = pa.concat_tables([table, pa.Table.from_pylist(added, schema=table.schema)])
        return table if self.present.all() else table.filter(pa.array(self.present))
