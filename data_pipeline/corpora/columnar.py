"""Reads Parquet files and Excel workbooks (.xlsx)."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.corpora.reading import Columns, Refusals, Table

_BATCH_ROWS = 1_024


def open_parquet(path: str, columns: Columns) -> Table:
    """Returns the columns and the rows of a Parquet file; only the columns that a pair needs are read.

    Raises:
      ValueError: the file is damaged.
    """
    try:
        file = pq.ParquetFile(path)
        header = file.schema_arrow.names
        needed = sorted({header[place] for places in columns.find(path, header).values() for place in places})
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error

    def rows() -> Iterator[tuple[str, dict[str, Any]]]:
        number = 0
        try:
            for batch in file.iter_batches(_BATCH_ROWS, columns=needed):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path} row {number}", row
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error

    return Table(header, rows(), lambda row, place: row.get(header[place]))


def _damaged(path: str, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0]
    return ValueError(f"{path} is a damaged Parquet file ({reason}). Write or fetch it again.")


def open_excel(path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the header and the rows of a workbook's first sheet; numbers become texts.

    Raises:
      ValueError: python-calamine is not installed, or the file is damaged or empty.
    """
    try:
        import python_calamine  # an extra
    except ImportError as error:
        raise ValueError(
            f"{path} is an Excel workbook, which needs a package more. Install it with: pip install python-calamine "
            "(or docproduct's extra xlsx), or save the sheet as CSV."
        ) from error
    try:
        with open(path, "rb") as file:  # by its content, whatever it is called
            workbook = python_calamine.CalamineWorkbook.from_filelike(io.BytesIO(file.read()))
        sheet = workbook.get_sheet_by_index(0)
        rows = [[_text(cell) for cell in row] for row in sheet.to_python(skip_empty_area=False)]
    except (python_calamine.CalamineError, OSError) as error:
        raise ValueError(f"{path} is a damaged Excel workbook ({error}). Save or fetch it again.") from error
    if len(workbook.sheet_names) > 1:
        refusals.note(f"only the first sheet of a workbook is read, {workbook.sheet_names[0]!r}", path)
    filled = [(number, row) for number, row in enumerate(rows, 1) if any(row)]
    if not filled:
        raise ValueError(f"{path} is empty. Expected a header row with the names of the columns, then rows.")
    header = list(columns.header)
    if not header:
        header = [name.strip() for name in filled.pop(0)[1]]
    return Table(header, _sheet_rows(path, filled, len(header)), lambda row, place: row[place])


def _sheet_rows(path: str, rows: Sequence[tuple[int, list[str]]], num_fields: int) -> Iterator[tuple[str, list[str]]]:
    for number, row in rows:
        yield f"{path} row {number}", row + [""] * (num_fields - len(row))


def _text(cell: Any) -> str:
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))  # a spreadsheet keeps all numbers so
    return cell if isinstance(cell, str) else str(cell)
