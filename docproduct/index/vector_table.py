"""Reads a table whose texts have vectors already: columns of a Parquet file, or NumPy files beside a table of pairs.

N rows, D width
"""

import dataclasses
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from absl import logging

from data_pipeline import cleaning
from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.corpora.pairs import instructions_differ, joined
from data_pipeline.corpora.reading import ROLES, Table
from docproduct.index.folder import TEXT_COLUMNS

USUAL_COLUMNS = {"question": "Q_FFNN_embeds", "answer": "A_FFNN_embeds"}  # docproduct 0.2.0's
_PARQUET, _PICKLE = b"PAR1", b"\x80"  # first bytes of such files; 0.2.0 gave its Parquet files the ending .zip
_BATCH_ROWS = 8_192
_UNREADABLE = -1  # as a length
_REASONS = (
    "",
    "no vector in {}",
    "the vector in {} cannot be read",
    "the vector in {} has another length than most",
    "NaN or infinity in {}",
    "only zeros in {}",
)

Chunk = tuple[np.ndarray, np.ndarray]  # lengths [B] and the components of all, one after the other


@dataclasses.dataclass(frozen=True)
class VectorTable:
    """Where the texts and their vectors are.

    Attributes:
      path: Parquet file, whatever its name; any table of pairs, where the vectors are in NumPy files.
      question_vectors: column with the questions' vectors, or an .npy file [N, D] whose rows are those of the table;
        "": Q_FFNN_embeds, if it is there.
      answer_vectors: the same of the answers; "": A_FFNN_embeds, if it is there.
      columns: the columns of the texts.
    """

    path: str
    question_vectors: str = ""
    answer_vectors: str = ""
    columns: Columns = Columns()


class Rows(NamedTuple):
    """The rows that can be searched.

    Attributes:
      pairs: N rows with TEXT_COLUMNS.
      vectors: by side, [N, D] float32 of unit norm.
      refused: see `Refusals.report`.
    """

    pairs: pa.Table
    vectors: dict[str, np.ndarray]
    refused: dict[str, Any]


def read(table: VectorTable) -> Rows:
    """Reads a table; a row that cannot be searched is refused and counted.

    Raises:
      ValueError: the file or a column is of another kind, both sides differ in width, or no row is left.
      FileNotFoundError: there is no such file.
    """
    sources = _sources(table)
    texts = _texts(table)
    num_rows = len(texts["question"])
    vectors, reasons = {}, {}
    for side, source in sources.items():
        chunks = _npy_chunks(source) if _is_npy(source) else _parquet_chunks(table.path, source)
        vectors[side], reasons[side] = _unit_vectors(list(chunks), source)
        if len(reasons[side]) != num_rows:
            raise ValueError(
                f"{source} holds {len(reasons[side])} vectors, {table.path} {num_rows} rows; expected one each."
            )
    if len(widths := {side: found.shape[1] for side, found in vectors.items()}) == 2 and len({*widths.values()}) == 2:
        raise ValueError(
            f"The questions' vectors have {widths['question']} components, the answers' {widths['answer']}; expected "
            "vectors of one space. Give the columns that were made together."
        )
    refusals = Refusals()
    kept, columns = _pairs(table.path, texts, sources, reasons, refusals)
    refused = refusals.report()
    for reason, entry in refused.items():
        logging.warning("%d rows are left out: %s (first: %s).", entry["rows"], reason, entry["first"])
    if not kept:
        raise ValueError(f"No row of {table.path} is left of {num_rows}. Refused: {refused}.")
    whole = len(kept) == num_rows
    return Rows(pa.table(columns), {s: found if whole else found[kept] for s, found in vectors.items()}, refused)


def _first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)


def _is_npy(source: str) -> bool:
    return source.endswith(".npy")


def _sources(table: VectorTable) -> dict[str, str]:
    """Returns the column or the file of the vectors of each side that has any."""
    given = {"question": table.question_vectors, "answer": table.answer_vectors}
    if not os.path.isfile(table.path):
        raise FileNotFoundError(f"No file at {table.path}. Check the path given as --vectors.")
    mark = _first_bytes(table.path)
    if mark != _PARQUET:
        if any(given.values()) and all(map(_is_npy, filter(None, given.values()))):
            return {side: source for side, source in given.items() if source}
        remedy = "Convert it first; or give its vectors as .npy files."
        if mark[:1] == _PICKLE:
            remedy = (
                "It looks like a pickle, which can run any code when it is read. If you trust it: "
                "pandas.read_pickle(FILE).to_parquet(FILE.parquet)."
            )
        raise ValueError(f"{table.path} is no Parquet file. Expected one with columns of vectors. {remedy}")
    names = pq.read_schema(table.path).names
    sources = {}
    for side, source in given.items():
        if source and not _is_npy(source) and source not in names:
            raise ValueError(f"{table.path} has no column {source!r}. Columns found: {', '.join(names)}.")
        if source or (not any(given.values()) and USUAL_COLUMNS[side] in names):
            sources[side] = source or USUAL_COLUMNS[side]
    if not sources:
        raise ValueError(
            f"{table.path} has neither {' nor '.join(USUAL_COLUMNS.values())}. Columns found: {', '.join(names)}. Name "
            "those of the vectors with --question_vectors and --answer_vectors."
        )
    return sources


def _texts(table: VectorTable) -> dict[str, list[Any]]:
    """Returns the texts of every row by role, in the order of the vectors."""
    if _first_bytes(table.path) == _PARQUET:
        names = pq.read_schema(table.path).names
        found = {role: [names[i] for i in of_role] for role, of_role in table.columns.find(table.path, names).items()}
        read_table = pq.read_table(table.path, columns=sorted({name for of_role in found.values() for name in of_role}))
        parts = {role: [read_table[name].to_pylist() for name in of_role] for role, of_role in found.items()}
        return {role: _joined(*both) if len(both) == 2 else both[0] for role, both in parts.items()}
    refusals = Refusals()
    pairs = [pair for _, pair in read_pairs(table.path, table.columns, refusals)]
    if refusals.counts:
        raise ValueError(
            f"Rows of {table.path} cannot be read, so that nobody knows which vectors are theirs: {refusals.report()}. "
            "Mend them, or remove them and their vectors."
        )
    return {role: [getattr(pair, role) for pair in pairs] for role in ROLES}


def _joined(instructions: list[Any], inputs: list[Any]) -> list[Any]:
    """Returns the questions of an instruction table, as `read_pairs` does: one for all rows says nothing."""
    rows = list(zip(instructions, inputs, strict=True))
    instructed = instructions_differ(Table(["instruction", "input"], (("", row) for row in rows)), (0, 1))
    return [joined(*row, instructed) for row in rows]


def _parquet_chunks(path: str, name: str) -> Iterator[Chunk]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=[name]):
            yield _chunk(batch.column(0), path, name)


def _npy_chunks(path: str) -> Iterator[Chunk]:
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}). Expected an array of numbers that np.save wrote."
        ) from error
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.number) or np.iscomplexobj(found):
        raise ValueError(f"{path} holds {found.dtype} of shape {found.shape}; expected numbers of shape [rows, width].")
    for start in range(0, len(found), _BATCH_ROWS):
        rows = found[start : start + _BATCH_ROWS]
        yield np.full(len(rows), rows.shape[1]), rows.astype(np.float32).reshape(-1)


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
    """Returns the numbers of a text; None where it holds anything else, such as the dots of a shortened array."""
    try:
        with np.errstate(over="ignore"):
            return np.array((text or "").strip().strip("[]").replace(",", " ").split(), np.float32)
    except ValueError:
        return None


def _unit_vectors(chunks: list[Chunk], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns vectors of unit norm, [N, D], and for each row the number of the reason why it has none, [N]."""
    lengths = np.concatenate([np.zeros(0, int), *(lengths for lengths, _ in chunks)])
    if not (lengths > 0).any():
        raise ValueError(f"{name} holds no vector that can be read in {len(lengths)} rows.")
    width = int(np.bincount(lengths[lengths > 0]).argmax())
    vectors = np.zeros((len(lengths), width), np.float32)
    reasons = np.select([lengths == width, lengths == 0, lengths == _UNREADABLE], [0, 1, 2], 3)
    start = 0
    while chunks:  # each is given up once it is copied: all together fill as much memory as the result
        of_rows, components = chunks.pop(0)
        ends = np.cumsum(np.maximum(of_rows, 0))
        rows = np.flatnonzero(of_rows == width)
        found = components[(ends[rows] - width)[:, None] + np.arange(width)].astype(np.float64)  # [B, D]
        finite = np.isfinite(found).all(axis=1)
        norms = np.linalg.norm(np.where(finite[:, None], found, 0), axis=1)
        reasons[start + rows] = np.select([~finite, norms == 0], [4, 5], 0)
        good = finite & (norms > 0)
        vectors[start + rows[good]] = found[good] / norms[good, None]
        start += len(of_rows)
    return vectors, reasons


def _pairs(
    path: str,
    texts: dict[str, list[Any]],
    sources: dict[str, str],
    reasons: dict[str, np.ndarray],
    refusals: Refusals,
) -> tuple[list[int], dict[str, list[Any]]]:
    """Returns the rows that are kept and their TEXT_COLUMNS: cleaned and grouped as `data_pipeline.prepare` does."""
    columns: dict[str, list[Any]] = {name: [] for name in TEXT_COLUMNS}
    kept: list[int] = []
    seen: set[int] = set()
    for row, (question, answer) in enumerate(zip(texts["question"], texts["answer"], strict=True)):
        pair = {"question": _clean(question), "answer": _clean(answer)}
        wrong = [f"empty {side}" for side, text in pair.items() if not text]
        wrong += [f"{side} is the word {text}" for side, text in pair.items() if cleaning.is_null_word(text)]
        wrong += [_REASONS[reasons[side][row]].format(source) for side, source in sources.items() if reasons[side][row]]
        pair_id = cleaning.pair_id(*pair.values())
        if not wrong and pair_id in seen:
            wrong = ["duplicate"]
        if wrong:
            refusals.add(wrong[0], f"{path} row {row + 1}", row)
            continue
        seen.add(pair_id)
        kept.append(row)
        source, focus = (_clean(texts[role][row]) if role in texts else "" for role in ("source", "focus"))
        groups = map(cleaning.group, pair.values())
        values = pair_id, *pair.values(), source or os.path.basename(path), focus, *groups
        for name, value in zip(TEXT_COLUMNS, values, strict=True):
            columns[name].append(value)
    return kept, columns


def _clean(text: Any) -> str:
    """Returns a clean text; "" for what is none."""
    return cleaning.clean(text) if isinstance(text, str) else ""
