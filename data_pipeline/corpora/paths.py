"""Finds the files that a flag names: paths with commas between, folders, patterns."""

import glob
import os
from collections.abc import Sequence

from absl import logging

from data_pipeline.corpora import PAIRS, Columns, Reader, Refusals, arrow_files, formats
from data_pipeline.corpora.reading import NotATableError


def find_inputs(values: Sequence[str], columns: Columns, refusals: Refusals, reader: Reader = PAIRS) -> tuple[str, ...]:
    """Returns the files that the values of a flag name.

    Args:
      values: each a path, a folder (its tables, sorted by name), a pattern such as `data/*.csv`, or several of these
        with commas between. The comma in the name of a file that exists separates nothing.
      columns: the columns of the tables.
      refusals: notes the files of a folder that are left out.
      reader: reads the files; of a folder, those that it can read are named.

    Raises:
      FileNotFoundError: a path or pattern names no file.
      ValueError: a folder holds no table or a damaged one, or a file is named twice.
    """
    paths = [path for value in values for part in _parts(value) for path in _files(part, columns, refusals, reader)]
    if twice := sorted({path for path in paths if paths.count(path) > 1}):
        raise ValueError(f"{twice[0]} is given twice. Name every file once.")
    return tuple(paths)


def _parts(value: str) -> list[str]:
    """Splits at commas, but not inside a path that exists; the longest such path counts."""
    pieces, parts = value.split(","), []
    while pieces:
        sizes = range(len(pieces), 1, -1)
        size = next((n for n in sizes if _is_there(",".join(pieces[:n]))), 1)
        parts.append(",".join(pieces[:size]))
        pieces = pieces[size:]
    return [part for part in parts if part.strip()]


def _is_there(path: str) -> bool:
    return os.path.exists(path) or bool(glob.glob(path, recursive=True))


def _files(path: str, columns: Columns, refusals: Refusals, reader: Reader) -> list[str]:
    if not _is_there(path):
        path = path.strip()
    if os.path.isdir(path):
        if known := formats.find(path, columns, reader.schema.plural):
            members = formats.files_read(path, columns, reader.schema.plural)
            return [path] if known.is_folder else members
        if arrow_files.is_dataset(path):
            return [path]
        return _tables_in(path, columns, refusals, reader)
    if os.path.exists(path):
        return [path]
    if matches := sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name)):
        return matches
    raise FileNotFoundError(f"No file at {path}. Check the path given as input.")


def _tables_in(folder: str, columns: Columns, refusals: Refusals, reader: Reader) -> list[str]:
    """Returns the files of a folder that the reader reads. Hidden files are ignored; the log names other files."""
    tables = []
    for name in sorted(name for name in os.listdir(folder) if not name.startswith(".")):
        path = os.path.join(folder, name)
        try:
            if os.path.isdir(path):
                raise NotATableError(f"{path} is a folder. Give it, too, or a pattern such as {folder}/**/*.csv.")
            if next(reader.read(path, columns, Refusals()), None) is None and columns.header:
                raise NotATableError(f"{path} has no row with the fields of --header.")
            tables.append(path)
        except NotATableError as error:
            refusals.note(f"a file of a folder is left out, as it holds no table of {reader.contents}", path)
            logging.warning("Left out of the folder %s: %s", folder, error)
    if not tables:
        raise ValueError(
            f"{folder} holds no table of {reader.contents}. Expected CSV, JSON, Parquet, ... in it. "
            "Documents are read with --rows=passages."
        )
    return tables
