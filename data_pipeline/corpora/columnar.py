"""Reads Parquet files and Excel workbooks (.xlsx)."""

import io
import itertools
import zipfile
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.corpora.columns import Columns
from data_pipeline.corpora.packings import ZIP_ERRORS
from data_pipeline.corpora.reading import OTHER_NUMBER, NotATableError, Refusals, Table

_BATCH_ROWS = 512
_MAX_WORKBOOK_BYTES = 2**30  # unpacked: a sheet is read as a whole
_HEADER_ROWS = 10  # rows in which the names of the columns are searched: a title may stand above them

SheetRow = tuple[str, list[str]]  # place, cells


def open_parquet(path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the columns and the rows of a Parquet file. Reads only the columns that a pair needs.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        file = pq.ParquetFile(path)
        header = file.schema_arrow.names
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _damaged(path, error) from error
    if columns.header:
        refusals.note("--header does not count for Parquet, whose columns have names", path)
    needed = sorted({header[place] for places in columns.find(path, header).values() for place in places})

    # A batch has its columns in the order of `needed`; several columns may have one name.
    places = [place for name in needed for place, other in enumerate(header) if other == name]
    at = {place: number for number, place in enumerate(places)}

    def rows() -> Iterator[tuple[str, tuple[Any, ...]]]:
        number = 0
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=needed, use_threads=False):
                for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                    number += 1
                    yield f"{path} row {number}", row
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise _damaged(path, error) from error

    return Table(header, rows(), lambda row, place: row[at[place]])


def _damaged(path: str, error: Exception) -> ValueError:
    reason = str(error).partition("\n")[0]
    return ValueError(f"{path} is a damaged Parquet file ({reason}). Write or fetch it again.")


def open_excel(path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the header and the rows of a workbook. Numbers and dates become texts.

    The header is that of the first sheet with a question and an answer. Sheets with the same header are read, too.

    Raises:
      ValueError: python-calamine is not installed, the file is damaged, or no sheet has such columns.
    """
    sheets = [(name, rows) for name, rows in _sheets(path, refusals).items() if rows]
    if not sheets:
        raise NotATableError(f"{path} is empty. Expected a header row with the names of the columns, then rows.")
    header: list[str] = list(columns.header)
    sheet_rows: list[Iterator[SheetRow]] = []
    for name, rows in sheets:
        names, first = _header(path, rows, columns, refusals)
        if not header and names:
            header = names
        if names and [text.lower() for text in names] == [text.lower() for text in header]:
            sheet_rows.append(itertools.islice(rows, first, None))
            if first > 1:
                refusals.note("rows above the header are left out", rows[0][0])
        else:
            refusals.note("a sheet with other columns is left out", f"{path} sheet {name!r}")
    if not sheet_rows:
        columns.find(path, [cell.strip() for cell in sheets[0][1][0][1]])  # raises the error that names what is missing
    return Table(header, _fitted(itertools.chain.from_iterable(sheet_rows), len(header), refusals))


def _sheets(path: str, refusals: Refusals) -> dict[str, list[SheetRow]]:
    """Returns the rows of each sheet that are not empty."""
    try:
        import python_calamine  # an extra
    except ImportError as error:
        raise ValueError(
            f"{path} is an Excel workbook, which needs another package. Install it with: pip install python-calamine "
            "(docproduct's extra xlsx), or save the sheet as CSV."
        ) from error
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size > _MAX_WORKBOOK_BYTES:
            raise ValueError(f"{path} is a workbook of {size:,} bytes, unpacked. Save its sheet as CSV.")
        with open(path, "rb") as file:  # by its content, whatever it is called
            workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(file.read()))
        for sheet in workbook.sheets_metadata:
            if sheet.visible != python_calamine.SheetVisibleEnum.Visible:
                refusals.note("a hidden sheet is read, too", f"{path} sheet {sheet.name!r}")
        return {
            name: [
                (f"{path} sheet {name!r} row {number}", list(map(_text, row)))
                for number, row in enumerate(workbook.get_sheet_by_name(name).to_python(skip_empty_area=False), 1)
                if any(cell != "" for cell in row)
            ]
            for name in workbook.sheet_names
        }
    except (python_calamine.CalamineError, *ZIP_ERRORS) as error:
        raise ValueError(f"{path} is a damaged Excel workbook ({error}). Save or fetch it again.") from error


def _header(path: str, rows: list[SheetRow], columns: Columns, refusals: Refusals) -> tuple[list[str] | None, int]:
    """Returns the names of a sheet's columns, or None without such names, and the number of rows to skip."""
    if columns.header:
        where, first = rows[0]
        return list(columns.header), int(columns.is_header(_trimmed(first), where, refusals))
    for number, (_, cells) in enumerate(rows[:_HEADER_ROWS], 1):
        names = _trimmed(cells)
        if columns.is_found(path, names):
            return names, number
    return None, 0


def _trimmed(cells: list[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    while names and not names[-1]:
        names.pop()
    return names


def _fitted(rows: Iterator[SheetRow], num_fields: int, refusals: Refusals) -> Iterator[SheetRow]:
    for where, cells in rows:
        if any(cells[num_fields:]):
            refusals.add(OTHER_NUMBER, where)
        else:
            yield where, [*cells, *[""] * (num_fields - len(cells))][:num_fields]


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # a spreadsheet stores all numbers as floats
    return cell if isinstance(cell, str) else str(cell)
