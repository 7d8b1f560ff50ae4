"""Readers: one a source format, each yields (where it stands, `rows.Pair`) and counts what it refuses, and why."""

from collections.abc import Callable, Iterator

from data_pipeline.corpora import json_files, tables
from data_pipeline.corpora.reading import Columns, Refusals
from data_pipeline.rows import Pair

__all__ = ["Columns", "Refusals", "read_pairs"]

Reader = Callable[[str, Columns, Refusals], Iterator[tuple[str, Pair]]]

_READERS: dict[str, Reader] = {
    ".csv": tables.read_csv,
    ".tsv": tables.read_tsv,
    ".json": json_files.read_json,
    ".jsonl": json_files.read_jsonl,
}


def read_pairs(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file, each with the place where it stands; the reader is chosen by the file's ending.

    Args:
      path: a .csv, .tsv, .json (one list of objects) or .jsonl file; `.gz` behind the ending means gzip.
      columns: the columns that hold question and answer; unnamed ones are recognised by their usual names.
      refusals: counts the rows that are no pair.

    Raises:
      ValueError: the file is empty, damaged, not UTF-8, or lacks a column; the message names the file.
    """
    name = path.removesuffix(".gz")
    for ending, reader in _READERS.items():
        if name.endswith(ending):
            return reader(path, columns, refusals)
    raise ValueError(f"{path} has no known ending. Expected one of {', '.join(_READERS)}, or the same with .gz behind.")
