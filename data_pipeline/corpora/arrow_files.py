"""Reads Arrow files, and the folders that Hugging Face's datasets writes: dataset.save_to_disk(...)."""

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from data_pipeline.corpora.columns import Columns
from data_pipeline.corpora.reading import Refusals, Table

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_BATCH_ROWS = 512
_FILE_START = b"ARROW1"  # of the format with an index at its end; else it is a stream


def is_dataset(path: str) -> bool:
    """Returns whether a folder holds a data set of Hugging Face's datasets.

    Raises:
      ValueError: it holds several splits, or its rows stand in another order or number than in the files.
    """
    if not os.path.isdir(path):
        return False
    if os.path.isfile(os.path.join(path, _SPLITS)):
        names = sorted(name for name in os.listdir(path) if os.path.isfile(os.path.join(path, name, _STATE)))
        raise ValueError(
            f"{path} holds the splits {', '.join(names)}. Give each as an input of its own, such as "
            f"--input={os.path.join(path, names[0] if names else 'train')}, with --test_input for that of the test."
        )
    return os.path.isfile(os.path.join(path, _STATE))


def open_arrow(path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the columns and the rows of an Arrow file or of a data set's folder. Takes only the needed columns.

    Raises:
      ValueError: a file is damaged, or the data set is a selection that was not written out.
    """
    files = _data_files(path) if os.path.isdir(path) else [path]
    with _opened(files[0]) as reader:
        header = reader.schema.names
    if columns.header:
        refusals.note("--header does not count for Arrow, whose columns have names", path)
    places = sorted({place for of_role in columns.find(path, header).values() for place in of_role})
    at = {place: number for number, place in enumerate(places)}

    def rows() -> Iterator[tuple[str, tuple[Any, ...]]]:
        for file in files:
            yield from ((f"{file} row {number}", row) for number, row in enumerate(_rows(file, header, places), 1))

    return Table(header, rows(), lambda row, place: row[at[place]])


def _data_files(folder: str) -> list[str]:
    """Returns the files of a data set's folder, in order."""
    path = os.path.join(folder, _STATE)
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
        names = [entry["filename"] for entry in state["_data_files"]]
        selected = state.get("_indices_files") or state.get("_indices_data_files")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} names no data files. Expected what dataset.save_to_disk(...) writes.") from error
    if selected:
        raise ValueError(f"{folder} is a selection of rows. Write it out: dataset.flatten_indices().save_to_disk(...)")
    files = [os.path.join(folder, os.path.basename(name)) for name in names if isinstance(name, str)]
    if missing := [file for file in files if not os.path.isfile(file)]:
        raise FileNotFoundError(f"No file at {missing[0]}, which {path} names. Copy the whole folder.")
    if not files:
        raise ValueError(f"{path} names no data files: the data set is empty.")
    return files


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    """Opens a stream or a file of Arrow batches while the block runs; damage of any kind is a ValueError."""
    try:
        with pa.memory_map(path) as source:
            is_stream = source.read(len(_FILE_START)) != _FILE_START
            source.seek(0)
            yield (pa.ipc.open_stream if is_stream else pa.ipc.open_file)(source)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"No file at {path}. Check the path given as input.") from None
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} is a damaged Arrow file ({reason}). Write or fetch it again.") from error


def _rows(path: str, header: list[str], places: list[int]) -> Iterator[tuple[Any, ...]]:
    """Yields the values of the columns at these places."""
    with _opened(path) as reader:
        if reader.schema.names != header:
            raise ValueError(f"{path} has other columns than the first file of its data set. Write the data set again.")
        is_stream = isinstance(reader, pa.ipc.RecordBatchStreamReader)
        batches = reader if is_stream else (reader.get_batch(n) for n in range(reader.num_record_batches))
        for batch in batches:
            batch.validate(full=True)  # damaged offsets would read elsewhere in memory
            for start in range(0, batch.num_rows, _BATCH_ROWS):
                part = batch.slice(start, _BATCH_ROWS)
                yield from zip(*(part.column(place).to_pylist() for place in places), strict=True)
