"""Reads a table whose texts have vectors already: columns of a Parquet file, or NumPy files beside a table of pairs.

N rows, D width
"""

import dataclasses
import os
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging

from data_pipeline import cleaning
from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.corpora.pairs import instructions_differ, joined
from data_pipeline.corpora.reading import ROLES, Table
from docproduct.index.content import TEXT_COLUMNS
from docproduct.index.vector_columns import REASONS, is_npy, unit_vectors

USUAL_COLUMNS = {"question": "Q_FFNN_embeds", "answer": "A_FFNN_embeds"}  # docproduct 0.2.0's
_PARQUET, _PICKLE = b"PAR1", b"\x80"  # first bytes of such files; 0.2.0 gave its Parquet files the ending .zip


@dataclasses.dataclass(frozen=True)
class VectorTable:
    """A table of texts and its vectors.

    Attributes:
      path: Parquet file, whatever its name; if the vectors are in NumPy files, any table of pairs.
      question_vectors: Column with the questions' vectors, or an .npy file [N, D] whose rows are those of the table.
        Empty: the column Q_FFNN_embeds, if the table has it.
      answer_vectors: The same for the answers. Empty: the column A_FFNN_embeds, if the table has it.
      columns: The columns of the texts.
    """

    path: str
    question_vectors: str = ""
    answer_vectors: str = ""
    columns: Columns = Columns()


class Rows(NamedTuple):
    """The rows that can be searched.

    Attributes:
      pairs: N rows with TEXT_COLUMNS.
      vectors: By side, [N, D] float32 of unit norm.
      refused: The rows that were refused; see `Refusals.report`.
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
        vectors[side], reasons[side] = unit_vectors(table.path, source)
        if len(reasons[side]) != num_rows:
            raise ValueError(
                f"{source} holds {len(reasons[side])} vectors, {table.path} {num_rows} rows; expected one each."
            )
    widths = {side: array.shape[1] for side, array in vectors.items()}
    if len({*widths.values()}) == 2:
        raise ValueError(
            f"The questions' vectors have {widths['question']} components, the answers' {widths['answer']}; expected "
            "vectors of one space. Give the columns that were made together."
        )
    refusals = Refusals()
    rows, columns = _pairs(table.path, texts, sources, reasons, refusals)
    refused = refusals.report()
    for reason, entry in refused.items():
        logging.warning("%d rows are left out: %s (first: %s).", entry["rows"], reason, entry["first"])
    if not rows:
        raise ValueError(f"No row of {table.path} is left of {num_rows}. Refused: {refused}.")
    if len(rows) < num_rows:
        vectors = {side: array[rows] for side, array in vectors.items()}
    return Rows(pa.table(columns), vectors, refused)


def _first_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(4)


def _sources(table: VectorTable) -> dict[str, str]:
    """Returns for each side that has vectors their column or file."""
    given = {"question": table.question_vectors, "answer": table.answer_vectors}
    if not os.path.isfile(table.path):
        raise FileNotFoundError(f"No file at {table.path}. Check the path given as --vectors.")
    mark = _first_bytes(table.path)
    if mark != _PARQUET:
        if any(given.values()) and all(map(is_npy, filter(None, given.values()))):
            return {side: source for side, source in given.items() if source}
        remedy = "Convert it first; or give its vectors as .npy files."
        if mark[:1] == _PICKLE:
            remedy = (
                "It looks like a pickle, which can run any code when it is read. If you trust it: "
                "pandas.read_pickle(FILE).to_parquet(FILE.parquet)."
            )
        raise ValueError(f"{table.path} is no Parquet file. Expected a Parquet file with columns of vectors. {remedy}")
    names = pq.read_schema(table.path).names
    sources = {}
    for side, source in given.items():
        if source and not is_npy(source) and source not in names:
            raise ValueError(f"{table.path} has no column {source!r}. Columns found: {', '.join(names)}.")
        if source or (not any(given.values()) and USUAL_COLUMNS[side] in names):
            sources[side] = source or USUAL_COLUMNS[side]
    if not sources:
        raise ValueError(
            f"{table.path} has neither {' nor '.join(USUAL_COLUMNS.values())}. Columns found: {', '.join(names)}. Name "
            "the columns of the vectors with --question_vectors and --answer_vectors."
        )
    return sources


def _texts(table: VectorTable) -> dict[str, list[Any]]:
    """Returns the texts of every row by role, in the order of the vectors."""
    if _first_bytes(table.path) == _PARQUET:
        names = pq.read_schema(table.path).names
        columns = {role: [names[i] for i in places] for role, places in table.columns.find(table.path, names).items()}
        read_table = pq.read_table(table.path, columns=sorted({name for both in columns.values() for name in both}))
        parts = {role: [read_table[name].to_pylist() for name in both] for role, both in columns.items()}
        return {role: _joined(*both) if len(both) == 2 else both[0] for role, both in parts.items()}
    refusals = Refusals()
    pairs = [pair for _, pair in read_pairs(table.path, table.columns, refusals)]
    if refusals.counts:
        raise ValueError(
            f"Some rows of {table.path} cannot be read, so vectors and texts cannot be matched: {refusals.report()}. "
            "Correct them, or remove them and their vectors."
        )
    return {role: [getattr(pair, role) for pair in pairs] for role in ROLES}


def _joined(instructions: list[Any], inputs: list[Any]) -> list[Any]:
    """Returns the questions of an instruction table, as `read_pairs` does: an instruction for all rows is left out."""
    rows = list(zip(instructions, inputs, strict=True))
    instructed = instructions_differ(Table(["instruction", "input"], (("", row) for row in rows)), (0, 1))
    return [joined(*row, instructed) for row in rows]


def _pairs(
    path: str,
    texts: dict[str, list[Any]],
    sources: dict[str, str],
    reasons: dict[str, np.ndarray],
    refusals: Refusals,
) -> tuple[list[int], dict[str, list[Any]]]:
    """Returns the rows without faults, and their TEXT_COLUMNS as `data_pipeline.prepare` cleans and groups them."""
    columns: dict[str, list[Any]] = {name: [] for name in TEXT_COLUMNS}
    rows: list[int] = []
    seen: set[int] = set()
    for row, (question, answer) in enumerate(zip(texts["question"], texts["answer"], strict=True)):
        pair = {"question": _clean(question), "answer": _clean(answer)}
        faults = [f"empty {side}" for side, text in pair.items() if not text]
        faults += [f"{side} is the word {text}" for side, text in pair.items() if cleaning.is_null_word(text)]
        faults += [REASONS[reasons[side][row]].format(source) for side, source in sources.items() if reasons[side][row]]
        pair_id = cleaning.pair_id(*pair.values())
        if not faults and pair_id in seen:
            faults = ["duplicate"]
        if faults:
            refusals.add(faults[0], f"{path} row {row + 1}", row)
            continue
        seen.add(pair_id)
        rows.append(row)
        source, focus = (_clean(texts[role][row]) if role in texts else "" for role in ("source", "focus"))
        groups = map(cleaning.group, pair.values())
        values = pair_id, *pair.values(), source or os.path.basename(path), focus, *groups
        for name, value in zip(TEXT_COLUMNS, values, strict=True):
            columns[name].append(value)
    return rows, columns


def _clean(text: Any) -> str:
    """Returns a text cleaned; "" for a value that is no text."""
    return cleaning.clean(text) if isinstance(text, str) else ""
