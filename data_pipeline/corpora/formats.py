"""The layouts that are no tables: lists them, and recognises them by content."""

import os
from collections.abc import Sequence

from data_pipeline.corpora.beir_folders import BEIR
from data_pipeline.corpora.columns import Columns
from data_pipeline.corpora.departments import DEPARTMENTS
from data_pipeline.corpora.documents import DOCUMENTS
from data_pipeline.corpora.kinds import KINDS, kind_of
from data_pipeline.corpora.meddialog import MEDDIALOG
from data_pipeline.corpora.medquad import MEDQUAD
from data_pipeline.corpora.reading import Format, Start, files_of
from data_pipeline.corpora.reddit import REDDIT
from data_pipeline.corpora.squad import SQUAD
from data_pipeline.corpora.stackexchange import STACKEXCHANGE
from data_pipeline.corpora.web_pages import WEB_PAGES

FORMATS = (MEDQUAD, MEDDIALOG, DEPARTMENTS, SQUAD, STACKEXCHANGE, REDDIT, WEB_PAGES, BEIR, DOCUMENTS)
AUTO = "auto"


def find(path: str, columns: Columns, rows: str) -> Format | None:
    """Returns the format of a file or folder; None for a table, JSON, Parquet, Arrow or Excel, and for other folders.

    Args:
      path: the file or folder.
      columns: `format` names the format; with "auto", the content decides.
      rows: plural of the row type that is to be read; formats without such rows are not considered.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the format's name is unknown, or such rows are not read from it.
    """
    formats = [known for known in FORMATS if rows in known.read]
    if columns.format != AUTO:
        return _named(columns.format, formats, rows)
    if columns.question or columns.answer:
        formats = [known for known in formats if not known.is_table]
    if os.path.isdir(path):
        return next((known for known in formats if known.is_folder and known.is_folder(path)), None)
    start = Start.of(path)
    return next((known for known in formats if known.is_file(start)), None)


def _named(name: str, formats: Sequence[Format], rows: str) -> Format | None:
    if name in KINDS:
        return None
    for known in formats:
        if known.name == name:
            return known
    expected = ", ".join([AUTO, *KINDS, *(known.name for known in formats)])
    raise ValueError(f"--format is {name!r}; expected for {rows}: {expected}.")


def name_of(path: str, columns: Columns, rows: str) -> str:
    """Returns the name of the format, or of the kind of table, that a file or folder is read as; see `find`."""
    known = find(path, columns, rows)
    return known.name if known else kind_of(path, columns.format)


def files_read(path: str, columns: Columns, rows: str) -> list[str]:
    """Returns the files that the rows of a file or folder are read from; see `find`.

    Raises:
      ValueError: a folder holds no file of the format, or see `find`.
    """
    known = find(path, columns, rows)
    members = known.members(path) if known else files_of(path)
    if known and not members:
        raise ValueError(f"{path} holds no file of the format {known.name}. Check --input and --format.")
    return members
