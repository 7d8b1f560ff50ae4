"""The files that a flag names: paths with commas between, folders, patterns."""

import glob
import os
from collections.abc import Sequence

from absl import logging

_TABLES = (".csv", ".tsv", ".tab", ".txt", ".json", ".jsonl", ".ndjson", ".parquet", ".xlsx")
_PACKED = (".gz", ".bz2", ".zst")


def find_inputs(values: Sequence[str]) -> tuple[str, ...]:
    """Returns the files that the values of a flag name.

    Args:
      values: each a path, a folder (its tables, in the order of their names), a pattern such as `data/*.csv`, or
        several of them with commas between. A path that has a comma in it is taken as it is.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: a folder holds no table, or a file is named twice.
    """
    found = [path for value in values for part in _parts(value) for path in _files(part)]
    if twice := sorted({path for path in found if found.count(path) > 1}):
        raise ValueError(f"{twice[0]} is given twice. Name every file once.")
    return tuple(found)


def _parts(value: str) -> list[str]:
    """Splits at commas, but not inside a path that is there; the longest such path counts."""
    pieces, parts = value.split(","), []
    while pieces:
        sizes = range(len(pieces), 1, -1)
        size = next((n for n in sizes if _is_there(",".join(pieces[:n]))), 1)
        parts.append(",".join(pieces[:size]))
        pieces = pieces[size:]
    return [part for part in parts if part.strip()]


def _is_there(path: str) -> bool:
    return os.path.exists(path) or bool(glob.glob(path))


def _files(path: str) -> list[str]:
    if not os.path.exists(path) and os.path.exists(path.strip()):
        path = path.strip()
    if os.path.isdir(path):
        return _tables_in(path)
    if os.path.exists(path):
        return [path]
    if found := sorted(name for name in glob.glob(path, recursive=True) if os.path.isfile(name)):
        return found
    raise FileNotFoundError(f"No file at {path}. Check the path given as input.")


def _tables_in(folder: str) -> list[str]:
    names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    tables = [name for name in names if _ending(name) in _TABLES and os.path.isfile(os.path.join(folder, name))]
    if others := [name for name in names if name not in tables]:
        logging.warning("Of the folder %s, these are not read: %s.", folder, ", ".join(others))
    if not tables:
        raise ValueError(f"{folder} holds no table. Expected files that end in one of {', '.join(_TABLES)}.")
    return [os.path.join(folder, name) for name in tables]


def _ending(name: str) -> str:
    stem, ending = os.path.splitext(name.lower())
    return os.path.splitext(stem)[1] if ending in _PACKED else ending
