"""Reads delimited tables: CSV, TSV, and their like.

A quote is a mark only where it fits: a field that begins with one is quoted if its end is followed by a delimiter or
the line's end, and the row has as many fields as the header. Else quotes are text, and the line is read as it stands,
so that a quote without its end does not take the rows behind it along.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import TextIO

from absl import logging

from data_pipeline.corpora import opening
from data_pipeline.corpora.reading import Columns, Refusals, Table

DELIMITERS = (",", "\t", ";", "|")
_LONGEST_QUOTED = 2**20  # characters of a row in which a quote is open
_SEPARATOR_LINE = re.compile(r'"?sep=(.|\\t)"?\s*', re.IGNORECASE)
_AS_TEXT = "a quote is text, as quoting does not fit"
_AMBIGUOUS = "lines were read as one quoted field, and would be rows, too"


def open_table(file: TextIO, path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the header and the rows of a table.

    Raises:
      ValueError: it is empty.
    """
    lines = _Lines(file)
    first = lines.next_filled()
    delimiter = columns.delimiter
    if (line := _SEPARATOR_LINE.fullmatch(first or "")) is not None:
        delimiter = delimiter or line[1].replace("\\t", "\t")
        first = lines.next_filled()
    if first is None:
        raise ValueError(f"{path} is empty. Expected a header line with the names of the columns, then rows.")
    lines.put_back([first])
    csv.field_size_limit(opening.MAX_ROW_BYTES)
    if delimiter is None:
        delimiter = _sniffed(first, path, columns)
        if delimiter != _implied(path):
            refusals.note(f"fields stand between {delimiter!r}", path)
            logging.info("%s: fields stand between %r. If that is wrong, give --delimiter.", path, delimiter)
    header = list(columns.header)
    if not header:
        header, _ = _quoted_row(lines, delimiter) or (None, None)
        if header is None:
            header = lines.next_filled().rstrip("\r\n").split(delimiter)
        header = [name.strip() for name in header]
    return Table(header, _rows(lines, path, delimiter, len(header), refusals), _value)


def _value(row: Sequence[str], place: int) -> str:
    return row[place]


class _Lines:
    """Lines of a file; some can be put back.

    Attributes:
      number: of the line that was given last, from 1.
      searched: up to this line no end was found for a quote that is open; it is not looked for again.
    """

    def __init__(self, file: Iterable[str]):
        self._file, self._back, self.number, self.searched = iter(file), deque[str](), 0, 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._file)
        self.number += 1
        return line

    def put_back(self, lines: Sequence[str]) -> None:
        """Gives these lines once more, next."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)

    def next_filled(self) -> str | None:
        """Returns the next line that is not blank, None at the end."""
        return next((line for line in self if line.strip()), None)


def _rows(
    lines: _Lines, path: str, delimiter: str, num_fields: int, refusals: Refusals
) -> Iterator[tuple[str, Sequence[str]]]:
    for line in lines:
        where = f"{path} line {lines.number}"
        if '"' not in line:
            row = line.rstrip("\r\n").split(delimiter)
        else:
            lines.put_back([line])
            row = _row_with_quotes(lines, where, delimiter, num_fields, refusals)
        while len(row) > num_fields and not row[-1]:
            row = row[:-1]  # delimiters at the end of the line
        if len(row) == num_fields and not (num_fields == 1 and row == [""]):
            yield where, row
        elif row != [""]:  # a blank line is no row
            refusals.add("another number of fields than the header", where)


def _row_with_quotes(lines: _Lines, where: str, delimiter: str, num_fields: int, refusals: Refusals) -> Sequence[str]:
    found = _quoted_row(lines, delimiter)
    row, span = found or (None, [next(lines)])
    literal = [line.rstrip("\r\n").split(delimiter) for line in span]
    fits = [len(fields) == num_fields for fields in literal]
    if row is not None:
        while len(row) > num_fields and not row[-1]:
            row = row[:-1]  # delimiters at the end of the line
        if len(row) == num_fields:
            if len(span) > 1 and all(fits):
                refusals.note(_AMBIGUOUS, where)
            return row
        if not any(fits):
            return row  # refused, as one row
    lines.put_back(span[1:])
    if fits[0]:
        refusals.note(_AS_TEXT, where)
    return literal[0]


def _quoted_row(lines: _Lines, delimiter: str) -> tuple[list[str], list[str]] | None:
    """Returns the next row as quotes say, and its lines; None, and takes no line, where they do not fit together."""
    taken: list[str] = []
    size = 0

    def take() -> Iterator[str]:
        nonlocal size
        for line in lines:
            taken.append(line)
            size += len(line)
            if len(taken) > 1 and (size > _LONGEST_QUOTED or lines.number <= lines.searched):
                return
            yield line

    try:
        row = next(csv.reader(take(), delimiter=delimiter, strict=True), None)
    except csv.Error:
        row = None
    if row is None:
        lines.searched = max(lines.searched, lines.number)
        lines.put_back(taken)
        return None
    return row, taken


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
            try:
                known = bool(columns.find(path, [name.strip() for name in fields]))
            except ValueError:
                known = False
        # Tabs hardly ever stand inside a field.
        scores[delimiter] = (known, known and delimiter == "\t", known and delimiter == implied, len(fields))
    return max(scores, key=scores.__getitem__)
