"""Opens a table of any kind: CSV and the like, JSON, Parquet, Arrow, Excel."""

import contextlib
from collections.abc import Iterator

from data_pipeline.corpora import arrow_files, columnar, encodings, json_files, kinds, opening, tables
from data_pipeline.corpora.columns import Columns
from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.reading import Refusals, Table

_CHINESE = "the file is no UTF-8, and is read as GB18030 (or GBK): look at its texts"


@contextlib.contextmanager
def opened(path: str, kind: str, columns: Columns, refusals: Refusals) -> Iterator[Table]:
    """Opens a file of a kind of kinds.py while the block runs."""
    if kind == kinds.PARQUET:
        yield columnar.open_parquet(path, columns, refusals)
    elif kind == kinds.ARROW:
        yield arrow_files.open_arrow(path, columns, refusals)
    elif kind == kinds.EXCEL:
        yield columnar.open_excel(path, columns, refusals)
    else:
        encoding = "gb18030" if columns.chinese and encodings.is_chinese(opening.head(path)) else None
        if encoding:
            refusals.note(_CHINESE, path)
        if kind == kinds.JSON:
            with open_text(path, bounded=False, encoding=encoding) as file:
                yield json_files.open_json(file, path, columns, refusals)
        else:
            with open_text(path, newline=opening.line_end(path), encoding=encoding) as file:
                yield tables.open_table(file, path, columns, refusals)
