"""Readers: they yield (where it stands, `rows.Pair`), and count what they refuse, and why.

kinds.py      what a file is, by its content; what holds no table is named
opening.py    opens a text, with packings.py (gzip, bzip2, ...) and encodings.py
tables.py quotes.py json_files.py json_scanner.py columnar.py    one kind each: a header and rows
columns.py    which columns hold question and answer
pairs.py      rows to pairs; doubts.py notes texts that look spoiled
paths.py      files that a flag names
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from data_pipeline.corpora import columnar, json_files, kinds, opening, tables
from data_pipeline.corpora.columns import Columns
from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.packings import is_packed
from data_pipeline.corpora.pairs import data_rows, instructions_differ, pairs_of
from data_pipeline.corpora.reading import OTHER_NUMBER, ROLES, Refusals, Table
from data_pipeline.rows import PAIR, Pair, Schema

__all__ = ["OTHER_NUMBER", "PAIRS", "ROLES", "Columns", "Reader", "Refusals", "is_packed", "open_text", "read_pairs"]

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
        found = columns.find(path, table.header)
        instructed = True
        if len(found["question"]) > 1:
            with _opened(path, kind, columns, Refusals()) as again:
                instructed = instructions_differ(_data(again, found, Refusals()), found["question"])
        if not instructed:
            refusals.note(_LEFT_OUT, path)
        yield from pairs_of(_data(table, found, refusals), found, refusals, instructed)


def _data(table: Table, found: dict[str, tuple[int, ...]], refusals: Refusals) -> Table:
    return table._replace(rows=data_rows(table, found, refusals))


class Reader(NamedTuple):
    """Reads the rows of files.

    Attributes:
      schema: of its rows.
      read: (path, columns, refusals) -> (place, row) of each row, as `read_pairs`.
    """

    schema: Schema
    read: Callable[[str, Columns, Refusals], Iterator[tuple[str, Any]]]


PAIRS = Reader(PAIR, read_pairs)


@contextlib.contextmanager
def _opened(path: str, kind: str, columns: Columns, refusals: Refusals) -> Iterator[Table]:
    if kind == kinds.PARQUET:
        yield columnar.open_parquet(path, columns, refusals)
    elif kind == kinds.EXCEL:
        yield columnar.open_excel(path, columns, refusals)
    elif kind == kinds.JSON:
        with open_text(path, bounded=False) as file:
            yield json_files.open_json(file, path, columns, refusals)
    else:
        with open_text(path, newline=opening.line_end(path)) as file:
            yield tables.open_table(file, path, columns, refusals)
