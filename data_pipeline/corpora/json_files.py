"""Reads JSON (one list of objects) and JSON Lines (one object a line)."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from data_pipeline.corpora.reading import Columns, Refusals, open_text
from data_pipeline.rows import Pair


def read_json(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file that holds one list of objects; the list is read into memory."""
    with open_text(path) as file:
        text = file.read()
    if not text.strip():
        raise ValueError(f"{path} is empty. Expected a list of objects.")
    rows = _parse(text, path)
    if not isinstance(rows, list):
        raise ValueError(f"{path} holds a {type(rows).__name__}. Expected a list of objects, one a pair.")
    yield from _pairs(((f"{path} item {i}", row) for i, row in enumerate(rows, 1)), path, columns, refusals)


def read_jsonl(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file with one object a line."""
    with open_text(path) as file:
        lines = ((f"{path} line {i}", line) for i, line in enumerate(file, 1) if line.strip())
        yield from _pairs(((where, _parse(line, where)) for where, line in lines), path, columns, refusals)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON ({error}). Mend or remove it.") from error


def _pairs(
    rows: Iterable[tuple[str, Any]], path: str, columns: Columns, refusals: Refusals
) -> Iterator[tuple[str, Pair]]:
    fields = None
    for where, row in rows:
        if not isinstance(row, dict):
            refusals.add("not an object", where)
            continue
        # The first object stands for the header of a table.
        fields = fields or columns.find(path, list(row))
        values = {role: row.get(name) for role, name in fields.items()}
        if all(isinstance(values[role], str) for role in ("question", "answer")):
            yield where, Pair(**{role: value for role, value in values.items() if isinstance(value, str)})
        else:
            refusals.add("question or answer is not a text", where)
    if fields is None:
        raise ValueError(f"{path} holds no object. Expected objects with a question and an answer.")
