"""Reads delimited tables: CSV, TSV, and their like; how quotes are read stands in quotes.py."""

import csv
import itertools
import re
from typing import TextIO

from absl import logging

from data_pipeline.corpora.columns import Columns
from data_pipeline.corpora.quotes import Lines, Rows
from data_pipeline.corpora.reading import NotATableError, Refusals, Table

DELIMITERS = (",", "\t", ";", "|")
_MAX_HEADER_LINES = 20
_SEPARATOR_LINE = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE)


def open_table(file: TextIO, path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the header and the rows of a table.

    Raises:
      NotATableError: it is empty.
    """
    lines = Lines(file)
    first = lines.next_filled()
    delimiter = columns.delimiter
    if (line := _SEPARATOR_LINE.fullmatch(first or "")) is not None:
        delimiter = delimiter or line[1].replace("\\t", "\t")
        first = lines.next_filled()
    if first is None:
        raise NotATableError(f"{path} is empty. Expected a header line with the names of the columns, then rows.")
    delimiter = delimiter or _sniffed(first, path, columns)
    if columns.delimiter is None and delimiter != _implied(path):
        refusals.note(f"fields stand between {delimiter!r}", path)
        logging.info("%s: fields stand between %r. If that is wrong, give --delimiter.", path, delimiter)
    lines.put_back([first])
    header, taken = _header(lines, delimiter)
    if columns.header:
        if not columns.is_header(header, f"{path} line {lines.number}", refusals):
            lines.put_back(taken)
        header = list(columns.header)
    return Table(header, Rows(lines, path, delimiter, header, '"' in first, refusals))


def _header(lines: Lines, delimiter: str) -> tuple[list[str], list[str]]:
    """Returns the fields of the first row, which may hold line breaks, and its lines."""
    taken: list[str] = []
    for line in itertools.islice(lines, _MAX_HEADER_LINES):
        taken.append(line)
        try:
            return [name.strip() for name in next(csv.reader(taken, delimiter=delimiter, strict=True))], taken
        except csv.Error:
            continue
    lines.put_back(taken[1:])
    return [name.strip() for name in taken[0].rstrip("\r\n").split(delimiter)], taken[:1]


def _implied(path: str) -> str:
    return "\t" if re.search(r"\.(tsv|tab)(\.\w+)?$", path, re.IGNORECASE) else ","


def _sniffed(line: str, path: str, columns: Columns) -> str:
    """Returns the delimiter with which a header line makes sense: its columns are known, and they are many."""
    implied = _implied(path)
    scores = {}
    for delimiter in dict.fromkeys((implied, *DELIMITERS)):
        try:
            fields = next(csv.reader([line], delimiter=delimiter, strict=True), [])
        except csv.Error:
            fields = line.rstrip("\r\n").split(delimiter)
        if columns.header:
            known = len(fields) == len(columns.header)
        else:
            known = columns.is_found(path, [name.strip() for name in fields])
        # Tabs hardly ever stand inside a field.
        scores[delimiter] = (known, known and delimiter == "\t", known and delimiter == implied, len(fields))
    return max(scores, key=scores.__getitem__)
