"""Readers: they yield (where it stands, `rows.Pair`), and count what they refuse, and why.

kinds.py (what a file is, by its content), opening.py (packing and encoding), tables.py, json_files.py, columnar.py (one
a kind), reading.py (columns, rows to pairs, counts), paths.py (files that a flag names).
"""

import contextlib
from collections.abc import Iterator

from data_pipeline.corpora import columnar, json_files, kinds, tables
from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.corpora.reading import ROLES, Columns, Refusals, Table, pairs_of
from data_pipeline.rows import Pair

__all__ = ["ROLES", "Columns", "Refusals", "find_inputs", "open_text", "read_pairs"]

_LEFT_OUT = "the instruction is the same in every row, and left out"


def read_pairs(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file, each with the place where it stands; the reader is chosen by the file's content.

    Args:
      path: a table (CSV, TSV, ...), JSON, JSON Lines, Parquet or .xlsx; the first three also packed.
      columns: the columns that hold question and answer; unnamed ones are recognised by their usual names.
      refusals: counts the rows that are no pair, and notes what is read in another way than it looks.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is empty, damaged, of another kind or encoding, or lacks a column; the message names it.
    """
    kind = kinds.kind_of(path)
    with _opened(path, kind, columns, refusals) as table:
        instructed = columns.find(path, table.header)["question"]
        keep = len(instructed) < 2 or _instructions_differ(path, kind, columns, instructed)
        if not keep:
            refusals.note(_LEFT_OUT, path)
        yield from pairs_of(table, path, columns, refusals, keep)


@contextlib.contextmanager
def _opened(path: str, kind: str, columns: Columns, refusals: Refusals) -> Iterator[Table]:
    if kind == kinds.PARQUET:
        yield columnar.open_parquet(path, columns)
    elif kind == kinds.EXCEL:
        yield columnar.open_excel(path, columns, refusals)
    elif kind == kinds.JSON:
        with open_text(path, bounded=False) as file:
            yield json_files.open_json(file, path, columns, refusals)
    else:
        with open_text(path) as file:
            yield tables.open_table(file, path, columns, refusals)


def _instructions_differ(path: str, kind: str, columns: Columns, places: tuple[int, ...]) -> bool:
    """Returns whether the instructions of an instruction table say something, for its questions.

    They do if two are different, if there is one row, or if no row has an input.
    """
    seen, rows, inputs = set(), 0, False
    with _opened(path, kind, columns, Refusals()) as table:
        for _, row in table.rows:
            instruction, text = (table.value(row, place) for place in places)
            seen.add(instruction if isinstance(instruction, str) else None)
            rows, inputs = rows + 1, inputs or bool(text)
            if len(seen) > 1:
                return True
    return rows < 2 or not inputs
