"""Reads the rows of a delimited table whose quotes may be marks or text.

A field that begins with a quote, or with a blank and a quote, is quoted if a delimiter or the end of the line follows
its closing quote (a quote inside is doubled), and if the row then has as many fields as the header. Otherwise the quote
is text, and the line is read as it stands: a quote that never closes swallows no other rows.

Rows go through Python's csv module until one of them does not fit. Its lines are then read again, field by field. The
search for a closing quote ends at the next quote, or where the row would have too many fields, so that the work stays
linear.
"""

import collections
import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

from data_pipeline.corpora import opening
from data_pipeline.corpora.reading import OTHER_NUMBER, Refusals

_LONGEST_SEARCH = 2**20  # characters after the line of an opening quote in which the closing one is searched
# If each of a few quoted lines could be a row, too, that is chance; if each of many could, the quotes are stray ones.
_MOST_AMBIGUOUS = 10

AS_TEXT = "a quote is text, as quoting does not fit"
AMBIGUOUS = "lines were read as one quoted field, but could also be rows"
NOT_SWALLOWED = f"two quotes are text, as more than {_MOST_AMBIGUOUS} rows stand between them"
NEEDLESS = "quotes around a field that needs none were left out"
UNNAMED = "text in columns without a name is left out"


class _SearchTooLongError(Exception):
    """No closing quote stands within _LONGEST_SEARCH."""


class Lines:
    """The lines of a file; the last ones can be put back.

    Attributes:
      number: number of the line that was read last, from 1.
    """

    def __init__(self, file: Iterable[str]):
        self._file, self._back, self.number = iter(file), collections.deque[str](), 0

    def __iter__(self) -> Iterator[str]:
        for line in itertools.chain(self._popped(), self._file):
            self.number += 1
            yield line

    def taken(self, span: list[str]) -> Iterator[str]:
        """Yields the lines and adds them to `span`, which the caller empties after every row."""
        size = 0
        for line in itertools.chain(self._popped(), self._file):
            size = size + len(line) if span else 0
            span.append(line)
            self.number += 1
            if size > _LONGEST_SEARCH:
                raise _SearchTooLongError
            yield line

    def _popped(self) -> Iterator[str]:
        while self._back:
            yield self._back.popleft()

    def put_back(self, lines: Sequence[str]) -> None:
        """Puts the last lines back, so that they come next."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)

    def next_filled(self) -> str | None:
        """Returns the next line that is not blank; None at the end."""
        return next((line for line in self if line.strip()), None)


class Rows:
    """The rows of a table, each with as many fields as the header."""

    def __init__(
        self, lines: Lines, path: str, delimiter: str, header: Sequence[str], quoted: bool, refusals: Refusals
    ):
        """Takes the lines after the header.

        Args:
          lines: the lines after the header.
          path: the file, for places.
          delimiter: the character between fields.
          header: names of the columns; rows may lack the last columns if these have no name.
          quoted: whether the names in the header stand in quotes, as in tables with quotes around all fields.
          refusals: counts rows with another number of fields, and notes how ambiguous quotes were read.
        """
        self._lines, self._path, self._delimiter, self._refusals = lines, path, delimiter, refusals
        self._num_fields, self._fewest = len(header), max(i for i, name in enumerate(header, 1) if name or i == 1)
        # In a TSV, quotes are rarely marks: a note tells if a field loses quotes that it did not need.
        self._notes_needless = delimiter == "\t" and not quoted
        self._opening = re.compile(f'(^|{re.escape(delimiter)}) ?"')
        self._spaced = f'{delimiter} "'
        csv.field_size_limit(opening.MAX_ROW_BYTES)

    def __iter__(self) -> Iterator[tuple[str, Sequence[str]]]:
        """Yields (place, fields)."""
        span: list[str] = []  # the lines of the row at hand
        while True:
            try:
                for row in csv.reader(self._lines.taken(span), delimiter=self._delimiter, strict=True):
                    where = f"{self._path} line {self._lines.number - len(span) + 1}"
                    if row:  # a blank line is no row
                        if len(row) != self._num_fields or self._spaced in span[0]:
                            break
                        if len(span) > 1 and self._spaced in span[-1]:
                            break
                        unclear = (len(span) > 1 or self._notes_needless) and '"' in span[0]
                        if unclear and not self._accepts(span, row, where):
                            break
                        if self._fewest < self._num_fields:
                            self._note_unnamed(row, where)
                        yield where, row
                    span.clear()
                else:
                    return
            except (csv.Error, _SearchTooLongError):
                pass
            yield from self._carefully(collections.deque(span))
            span.clear()

    def _accepts(self, span: Sequence[str], row: Sequence[str], where: str) -> bool:
        """Returns whether these lines, read as one quoted row, are one; notes it if another reading fits, too."""
        if len(span) == 1:
            literal = self._split(span[0])
            if self._notes_needless and len(literal) == len(row) and any(map(_is_needless, literal, row)):
                self._refusals.note(NEEDLESS, where)
        elif all(map(self._is_row, reversed(span))):  # most quoted texts end with a line that is no row
            if len(span) > _MOST_AMBIGUOUS:
                return False
            self._refusals.note(AMBIGUOUS, where)
        return True

    def _note_unnamed(self, row: Sequence[str], where: str) -> None:
        if any(row[self._fewest :]):
            self._refusals.note(UNNAMED, where)

    def _carefully(self, pending: collections.deque[str]) -> Iterator[tuple[str, Sequence[str]]]:
        """Yields the rows of lines that csv could not read, and of further lines that belong to the last row."""
        while pending:
            where = f"{self._path} line {self._lines.number - len(pending) + 1}"
            fields, num_lines = self._row(pending, where)
            for _ in range(num_lines):
                pending.popleft()
            if (row := self._fitted(fields)) is not None:
                self._note_unnamed(row, where)
                yield where, row
            elif fields != [""]:  # a blank line is no row
                self._refusals.add(OTHER_NUMBER, where)

    def _row(self, pending: collections.deque[str], where: str) -> tuple[list[str], int]:
        """Returns the fields of the row that begins with the first line, and its number of lines."""
        literal = self._split(pending[0])
        if not self._opening.search(pending[0]):
            return literal, 1
        fits = self._fitted(literal) is not None
        if (quoted := self._quoted(pending)) is not None:
            row, span = quoted
            if self._fitted(row) is not None:
                if self._accepts(span, row, where):
                    return row, len(span)
                self._refusals.note(NOT_SWALLOWED, where)
                return literal, 1
            if not any(map(self._is_row, span[1:] or span)):
                return row, len(span)  # refused as one row; after a stray quote, the lines would be rows
        if fits:
            self._refusals.note(AS_TEXT, where)
        return literal, 1

    def _quoted(self, pending: collections.deque[str]) -> tuple[list[str], list[str]] | None:
        """Reads the row that begins with the first line with quotes as marks.

        Further lines that the row needs are added to the pending ones.

        Returns:
          The fields of the row, and its lines; None if the quotes do not fit.
        """
        lines = itertools.chain(pending, self._more(pending))
        line, start, size = next(lines), 0, 0
        fields, span = [], [line]
        while True:
            start += line.startswith(' "', start)
            if not line.startswith('"', start):
                if (end := line.find(self._delimiter, start)) < 0:
                    return [*fields, line[start:].rstrip("\r\n")], span
                fields.append(line[start:end])
                start = end + 1
                continue
            start, parts = start + 1, []
            while (end := _closing_quote(line, start)) < 0:
                parts.append(line[start:])
                if len(fields) >= self._num_fields or size > _LONGEST_SEARCH or (line := next(lines, "")) == "":
                    return None
                span.append(line)
                start, size = 0, size + len(line)
            fields.append("".join([*parts, line[start:end]]).replace('""', '"'))
            start = end + 2
            if not line.startswith(self._delimiter, end + 1):
                return (fields, span) if not line[end + 1 :].rstrip("\r\n") else None

    def _more(self, pending: collections.deque[str]) -> Iterator[str]:
        for line in self._lines:
            pending.append(line)
            yield line

    def _fitted(self, fields: Sequence[str]) -> Sequence[str] | None:
        """Returns the fields, as many as the header has; None if there are more or fewer."""
        if any(fields[self._num_fields :]) or len(fields) < self._fewest:
            return None
        return [*fields, *[""] * (self._num_fields - len(fields))][: self._num_fields]

    def _is_row(self, line: str) -> bool:
        """Returns whether a line is a row as it stands."""
        return line.count(self._delimiter) >= self._fewest - 1 and self._fitted(self._split(line)) is not None

    def _split(self, line: str) -> list[str]:
        return line.rstrip("\r\n").split(self._delimiter)


def _is_needless(literal: str, text: str) -> bool:
    """Returns whether a field lost quotes although it holds no delimiter, line break or quote."""
    return literal.lstrip(" ") == f'"{text}"' and '"' not in text


def _closing_quote(line: str, start: int) -> int:
    """Returns the place of the first quote that is not doubled; -1 if there is none."""
    while (end := line.find('"', start)) >= 0 and line.startswith('"', end + 1):
        start = end + 2
    return end
