"""Reads corpora: yields (place, row) for each row of a file, and counts the rows that are refused, by reason.

kinds.py      tells what a file is, by its content, and names files that hold no table
any_table.py  opens a table of any kind
opening.py    opens a text, with packings.py (gzip, bzip2, ...) and encodings.py
tables.py quotes.py json_files.py json_scanner.py columnar.py    open a file of one kind: its header and rows
columns.py    finds the columns with question and answer
pairs.py      turns rows into pairs; doubts.py notes texts that look spoiled
triage.py     turns rows into triages: texts with a label, a reply or both
choices.py    turns rows into questions with choices
dialogues.py  turns rows into dialogues; meddialog.py reads the text files of MedDialog
facts.py      turns rows of a database into pairs: what is known of a disease
passages.py   turns rows into passages
paths.py      finds the files that a flag names
formats.py    lists the layouts that are no tables, and recognises them; each has its reader:
    medquad.py meddialog.py squad.py stackexchange.py reddit.py departments.py web_pages.py beir_folders.py
    documents.py docx_files.py
xml_files.py store.py       read XML as a stream, and keep texts outside the memory
"""

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from data_pipeline.corpora import formats, kinds
from data_pipeline.corpora.any_table import opened
from data_pipeline.corpora.columns import Columns, Roles
from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.packings import is_packed
from data_pipeline.corpora.pairs import data_rows, instructions_differ, pairs_of
from data_pipeline.corpora.reading import OTHER_NUMBER, ROLES, Refusals, Table
from data_pipeline.rows import PAIR, Pair
from data_pipeline.schemas import Schema

__all__ = [
    "OTHER_NUMBER",
    "PAIRS",
    "ROLES",
    "Columns",
    "Reader",
    "Refusals",
    "is_packed",
    "open_text",
    "opened",
    "read_pairs",
]

_LEFT_OUT = "the instruction is the same in every row, and left out"


def read_pairs(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file, each with its place. The content of the file decides how it is read.

    Args:
      path: a table (CSV, TSV, ...), JSON, JSON Lines, Parquet or .xlsx; the first three may be packed. Or a file or
        folder of a layout in formats.py.
      columns: the columns with question and answer; unnamed ones are recognised by their usual names.
      refusals: counts the rows that are no pair, and notes decisions of the reader that a user might not expect.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is empty, damaged, of another kind or encoding, or lacks a column; the message names it.
    """
    if layout := formats.find(path, columns, PAIR.plural):
        yield from layout.read[PAIR.plural](path, columns, refusals)
        return
    kind = kinds.kind_of(path, columns.format)
    with opened(path, kind, columns, refusals) as table:
        roles = columns.find(path, table.header)
        with_instruction = True
        if len(roles["question"]) > 1:
            with opened(path, kind, columns, Refusals()) as second_pass:
                with_instruction = instructions_differ(_data(second_pass, roles, Refusals()), roles["question"])
        if not with_instruction:
            refusals.note(_LEFT_OUT, path)
        yield from pairs_of(_data(table, roles, refusals), roles, refusals, with_instruction)


def _data(table: Table, roles: Roles, refusals: Refusals) -> Table:
    return table._replace(rows=data_rows(table, roles["question"][0], roles["answer"][0], refusals))


class Reader(NamedTuple):
    """Reads rows of one type from files.

    Attributes:
      schema: the schema of the rows.
      read: (path, columns, refusals) -> (place, row) of each row, as `read_pairs` does it. A reader whose files have no
        columns of questions and answers ignores `columns`.
      contents: what the files hold, in messages.
    """

    schema: Schema
    read: Callable[[str, Columns, Refusals], Iterator[tuple[str, Any]]]
    contents: str = "questions and answers"

    def rows(self, path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Any]]:
        """Does what `read` does, and ends after `columns.sample` rows."""
        return itertools.islice(self.read(path, columns, refusals), columns.sample or None)


PAIRS = Reader(PAIR, read_pairs)
