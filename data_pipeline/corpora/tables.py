"""Reads delimited tables: CSV, TSV and the like. quotes.py reads their quotes."""

import csv
import itertools
import re
from collections.abc import Iterator
from typing import TextIO

from absl import logging

from data_pipeline.corpora.columns import Columns
from data_pipeline.corpora.quotes import Lines, Rows
from data_pipeline.corpora.reading import NotATableError, Refusals, Table

DELIMITERS = (",", "\t", ";", "|")
_MAX_HEADER_LINES = 20
_SAMPLE_LINES = 20
_SEPARATOR_LINE = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE)


def open_table(file: TextIO, path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the header and the rows of a table.

    Raises:
      NotATableError: the file is empty.
    """
    lines = Lines(file)
    first = lines.next_filled()
    delimiter = columns.delimiter
    if (line := _SEPARATOR_LINE.fullmatch(first or "")) is not None:
        delimiter = delimiter or line[1].replace("\\t", "\t")
        first = lines.next_filled()
    if first is None:
        raise NotATableError(f"{path} is empty. Expected a header line with the names of the columns, then rows.")
    lines.put_back([first])
    sample = list(itertools.islice(lines, _SAMPLE_LINES))
    lines.put_back(sample)
    first = sample[0]
    delimiter = delimiter or _sniffed(sample, path, columns, refusals)
    if columns.delimiter is None and delimiter != _implied(path):
        refusals.note(f"fields stand between {delimiter!r}", path)
        logging.info("%s: fields stand between %r. If that is wrong, give --delimiter.", path, delimiter)
    header, taken = _header(lines, delimiter)
    if columns.header:
        if not columns.is_header(header, f"{path} line {lines.number}", refusals):
            lines.put_back(taken)
        header = list(columns.header)
    return Table(header, Rows(lines, path, delimiter, header, '"' in first, refusals))


def _header(lines: Lines, delimiter: str) -> tuple[list[str], list[str]]:
    """Returns the fields of the first row, which may hold line breaks, and the lines of this row."""
    taken: list[str] = []
    for line in itertools.islice(lines, _MAX_HEADER_LINES):
        taken.append(line)
        try:
            return [name.strip() for name in next(_reader(taken, delimiter))], taken
        except csv.Error:
            continue
    lines.put_back(taken[1:])
    return [name.strip() for name in taken[0].rstrip("\r\n").split(delimiter)], taken[:1]


def _reader(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    return csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)


def _implied(path: str) -> str:
    return "\t" if re.search(r"\.(tsv|tab)(\.\w+)?$", path, re.IGNORECASE) else ","


def _sniffed(lines: list[str], path: str, columns: Columns, refusals: Refusals) -> str:
    """Returns the delimiter that makes the most sense of the first lines.

    With it, the first line has columns with known names, and many of them. If the line holds no names, the first lines
    should all have the same number of fields.
    """
    implied = _implied(path)
    named = not (columns.header or any((columns.named(role) or "")[:1] == "#" for role in columns.content))
    scores = {}
    for delimiter in dict.fromkeys((implied, *DELIMITERS)):
        fields, *others = (_fields(line, delimiter) for line in lines)
        known = len(fields) == len(columns.header) if columns.header else columns.is_found(path, fields)
        alike = 0 if named else sum(len(row) == len(fields) for row in others)
        # Tabs hardly ever stand inside a field.
        scores[delimiter] = (known, alike, known and delimiter == "\t", known and delimiter == implied, len(fields))
    best = max(scores, key=scores.__getitem__)
    if not named and scores[best][0]:
        for other in scores:
            if other != best != "\t" and scores[other][:2] == scores[best][:2]:
                refusals.note(f"fields could stand between {other!r}, too: if they do, give --delimiter", path)
    return best


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        fields = next(_reader([line], delimiter), [])
    except csv.Error:
        fields = line.rstrip("\r\n").split(delimiter)
    return [name.strip() for name in fields]
