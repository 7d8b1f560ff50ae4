"""Reads CSV and TSV tables with a header line."""

import csv
from collections.abc import Iterable, Iterator

from data_pipeline.corpora.reading import MAX_ROW_BYTES, ROLES, Columns, Refusals, open_text, too_long
from data_pipeline.rows import Pair


def read_csv(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a comma-separated table."""
    return _read(path, columns, refusals, delimiter=",")


def read_tsv(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a tab-separated table."""
    return _read(path, columns, refusals, delimiter="\t")


def _read(path: str, columns: Columns, refusals: Refusals, delimiter: str) -> Iterator[tuple[str, Pair]]:
    csv.field_size_limit(MAX_ROW_BYTES)
    with open_text(path) as file:
        # strict: a quote that never closes is an error, not one huge field.
        lines = _Lines(file, path)
        rows = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            header = next((row for row in rows if row), None)  # blank lines are no rows
            if not header:
                raise ValueError(f"{path} is empty. Expected a header line with the names of the columns, then rows.")
            found = columns.find(path, header)
            question, answer, source, focus = (header.index(found[role]) if role in found else None for role in ROLES)
            for row in rows:
                lines.row_done()
                where = f"{path} line {rows.line_num}"
                if len(row) == len(header):
                    yield (
                        where,
                        Pair(
                            row[question],
                            row[answer],
                            "" if source is None else row[source],
                            "" if focus is None else row[focus],
                        ),
                    )
                elif row:  # a blank line is no row
                    refusals.add("another number of fields than the header", where)
        except csv.Error as error:
            raise ValueError(
                f"{path} line {rows.line_num} is no valid table row ({error}). Expected fields between {delimiter!r}, "
                'quoted with ", a quote inside doubled. Mend the line.'
            ) from error


class _Lines:
    """Passes lines on, and counts what belongs to one row: a quoted field may go on for lines without end."""

    def __init__(self, file: Iterable[str], path: str):
        self._file, self._path, self._left = file, path, MAX_ROW_BYTES

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self._left -= len(line)
            if self._left < 0:
                raise ValueError(too_long(self._path, "a row"))
            yield line

    def row_done(self) -> None:
        self._left = MAX_ROW_BYTES
