"""Vectors as they stand in columns of a Parquet file and in NumPy files, read as unit vectors.

N rows, B rows of a chunk, D width
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

REASONS = (  # why a row has no vector, by number
    "",
    "no vector in {}",
    "the vector in {} cannot be read",
    "the vector in {} has another length than most",
    "NaN or infinity in {}",
    "only zeros in {}",
)
_BATCH_ROWS = 8_192
_UNREADABLE = -1  # as a length

Chunk = tuple[np.ndarray, np.ndarray]  # lengths [B] and the components of all rows, one after the other


def is_npy(source: str) -> bool:
    """Returns whether a source of vectors is a NumPy file; otherwise it is a column."""
    return source.endswith(".npy")


def unit_vectors(path: str, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Reads the vectors of a source.

    Args:
      path: Parquet file, if the source is a column of it.
      source: A column, or an .npy file.

    Returns:
      Vectors of unit norm, [N, D] float32, and for each row the number in REASONS of why it has none, [N]; 0: it has.

    Raises:
      ValueError: the source holds something else, or no vector can be read.
    """
    chunks = list(_npy_chunks(source) if is_npy(source) else _parquet_chunks(path, source))
    lengths = np.concatenate([np.zeros(0, int), *(lengths for lengths, _ in chunks)])
    if not (lengths > 0).any():
        raise ValueError(f"{source} holds no vector that can be read in {len(lengths)} rows.")
    width = int(np.bincount(lengths[lengths > 0]).argmax())
    vectors = np.zeros((len(lengths), width), np.float32)
    reasons = np.select([lengths == width, lengths == 0, lengths == _UNREADABLE], [0, 1, 2], 3)
    start = 0
    while chunks:  # each is released when it is copied: all together fill as much memory as the result
        chunk_lengths, components = chunks.pop(0)
        ends = np.cumsum(np.maximum(chunk_lengths, 0))
        rows = np.flatnonzero(chunk_lengths == width)
        values = components[(ends[rows] - width)[:, None] + np.arange(width)].astype(np.float64)  # [B, D]
        finite = np.isfinite(values).all(axis=1)
        norms = np.linalg.norm(np.where(finite[:, None], values, 0), axis=1)
        reasons[start + rows] = np.select([~finite, norms == 0], [4, 5], 0)
        good = finite & (norms > 0)
        vectors[start + rows[good]] = values[good] / norms[good, None]
        start += len(chunk_lengths)
    return vectors, reasons


def _parquet_chunks(path: str, name: str) -> Iterator[Chunk]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=[name]):
            yield _chunk(batch.column(0), path, name)


def _npy_chunks(path: str) -> Iterator[Chunk]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Expected an array of numbers that np.save wrote."
        ) from error
    if array.ndim != 2 or not np.issubdtype(array.dtype, np.number) or np.iscomplexobj(array):
        raise ValueError(f"{path} holds {array.dtype} of shape {array.shape}; expected numbers of shape [rows, width].")
    for start in range(0, len(array), _BATCH_ROWS):
        rows = array[start : start + _BATCH_ROWS]
        # Rows of float32 stay in the file until they are scaled: the array is mapped, and not copied here.
        yield np.full(len(rows), rows.shape[1]), rows.astype(np.float32, copy=False).reshape(-1)


def _chunk(column: pa.Array, path: str, name: str) -> Chunk:
    """Returns the vectors of a column of lists of numbers, or of texts such as [0.1 0.2]."""
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        parsed = [_parsed(text) for text in column.to_pylist()]
        lengths = np.array([_UNREADABLE if row is None else len(row) for row in parsed])
        return lengths, np.concatenate([row for row in parsed if row is not None] or [np.empty(0, np.float32)])
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        raise ValueError(
            f"Column {name!r} of {path} holds {kind}; expected lists of numbers, or texts such as [0.1 0.2]."
        )
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):  # infinity is refused later
        return lengths, column.flatten().to_numpy(zero_copy_only=False).astype(np.float32)


def _parsed(text: str | None) -> np.ndarray | None:
    """Returns the numbers of a text; None if it holds anything else, such as the dots of a shortened array."""
    try:
        with np.errstate(over="ignore"):
            return np.array((text or "").strip().strip("[]").replace(",", " ").split(), np.float32)
    except ValueError:
        return None
