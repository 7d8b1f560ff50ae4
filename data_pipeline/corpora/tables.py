"""Reads CSV and TSV tables with a header line."""

import csv
from collections.abc import Iterator

from data_pipeline.corpora.reading import MAX_ROW_BYTES, ROLES, Columns, Refusals, open_text
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
        rows = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            header = next((row for row in rows if row), None)  # blank lines are no rows
            if not header:
                raise ValueError(f"{path} is empty. Expected a header line with the names of the columns, then rows.")
            found = columns.find(path, header)
            question, answer, source, focus = (header.index(found[role]) if role in found else None for role in ROLES)
            for row in rows:
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
