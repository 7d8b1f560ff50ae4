"""Reads JSON (one list of objects) and JSON Lines (one object a line)."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from data_pipeline.corpora.reading import MAX_ROW_BYTES, Columns, Refusals, open_text, too_long
from data_pipeline.rows import Pair

_BLOCK = 2**20  # characters read at once
_BLANKS = re.compile(r"[ \t\n\r]*")


def read_json(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file that holds one list of objects; one object at a time is in memory."""
    with open_text(path, bounded=False) as file:
        yield from _pairs(_items(_Scanner(file, path)), path, columns, refusals)


def read_jsonl(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a file with one object a line."""
    with open_text(path) as file:
        lines = ((f"{path} line {i}", line) for i, line in enumerate(file, 1) if line.strip())
        yield from _pairs(((where, _parse(line, where)) for where, line in lines), path, columns, refusals)


class _Scanner:
    """Reads JSON values one after the other from a file, block by block."""

    def __init__(self, file: TextIO, path: str):
        self._file, self.path = file, path
        self._decoder = json.JSONDecoder()
        self._text, self._at = "", 0

    def peek(self) -> str:
        """Returns the next character that is not white space; "" at the end."""
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._more(_BLOCK):
                return self._text[self._at : self._at + 1]

    def take(self, expected: str) -> str:
        """Returns the next character, which must be one of `expected`."""
        if (found := self.peek()) and found in expected:
            self._at += 1
            return found
        found = repr(found) if found else "the end of the file"
        raise ValueError(f"{self.path} is not valid JSON: {found} where one of {expected!r} was expected. Mend it.")

    def value(self, where: str) -> Any:
        """Returns the next value."""
        self.peek()
        size = _BLOCK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
                # A number at the end of the block may go on in the next.
                if end < len(self._text) or not self._more(size):
                    self._at = end
                    return value
            except RecursionError as error:
                raise ValueError(f"{where} is not valid JSON (nested too deeply). Mend or remove it.") from error
            except ValueError as error:
                # What is cut off at the end of the block looks like an error, too.
                if not self._more(size):
                    raise ValueError(f"{where} is not valid JSON ({error}). Mend or remove it.") from error
            size *= 2

    def _more(self, size: int) -> bool:
        block = self._file.read(size)
        self._text, self._at = self._text[self._at :] + block, 0
        if len(self._text) > MAX_ROW_BYTES + size:
            raise ValueError(too_long(self.path, "an item"))
        return bool(block)


def _items(scanner: _Scanner) -> Iterator[tuple[str, Any]]:
    """Yields the place and the value of each item of the list that the file holds."""
    path = scanner.path
    first = scanner.peek()
    if first != "[":
        held = {"": "nothing: it is empty", "{": "an object"}.get(first, "no list")
        raise ValueError(f"{path} holds {held}. Expected a list of objects, one a pair.")
    scanner.take("[")
    number = 0
    if scanner.peek() != "]":
        while number == 0 or scanner.take(",]") == ",":
            number += 1
            yield f"{path} item {number}", scanner.value(f"{path} item {number}")
    else:
        scanner.take("]")
    if scanner.peek():
        raise ValueError(f"{path} is not valid JSON: something stands behind the list. Mend it.")


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise ValueError(f"{where} is not valid JSON ({reason}). Mend or remove it.") from error


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
