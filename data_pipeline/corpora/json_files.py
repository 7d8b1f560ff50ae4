"""Reads JSON: a list of objects, one object a line (JSON Lines), or one object with such a list in a field."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from data_pipeline.corpora.opening import MAX_ROW_BYTES, too_long
from data_pipeline.corpora.reading import OTHER_LAYOUTS, Columns, Refusals, Table

_BLOCK = 2**20  # characters read at once
_BLANKS = re.compile(r"[ \t\n\r]*")
_NEAR_THE_END = 16  # characters: an error there may come from the end of the block


def open_json(file: TextIO, path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the names of the first object's fields, and the objects.

    Raises:
      ValueError: it is not valid JSON, or holds no object; the message has the line.
    """
    rows = _objects(_values(_Scanner(file, path), path, columns), refusals)
    where, first = next(rows, (None, None))
    if first is None:
        raise ValueError(f"{path} holds no object. Expected objects with a question and an answer.")
    # The first object stands for the header of a table.
    header = list(first)

    def value(row: dict[str, Any], place: int) -> Any:
        return row.get(header[place])

    return Table(header, _with_first((where, first), rows), value)


def _with_first(first: tuple[str, Any], rest: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    yield first
    yield from rest


def _objects(values: Iterable[tuple[str, Any]], refusals: Refusals) -> Iterator[tuple[str, dict[str, Any]]]:
    for where, value in values:
        if isinstance(value, dict):
            yield where, value
        else:
            refusals.add("not an object", where)


def _values(scanner: "_Scanner", path: str, columns: Columns) -> Iterator[tuple[str, Any]]:
    """Yields the place and the value of each row."""
    first = scanner.peek()
    if first == "[":
        yield from scanner.items()
        return
    if not first:
        raise ValueError(f"{path} is empty. Expected a list of objects, or an object a line, one a pair.")
    place, value = f"{path} line {scanner.line}", scanner.value()
    if not scanner.peek() and (rows := _wrapped(value, path, columns)) is not None:
        yield from ((f"{path} item {number}", row) for number, row in enumerate(rows, 1))
        return
    yield place, value
    while scanner.peek():
        place = f"{path} line {scanner.line}"
        yield place, scanner.value()


def _wrapped(value: Any, path: str, columns: Columns) -> list[Any] | None:
    """Returns the rows of an object that holds them in its only list; None for an object that is a row."""
    if not isinstance(value, dict) or value.keys() & OTHER_LAYOUTS.keys():
        return None
    lists = [field for field in value.values() if isinstance(field, list) and field and isinstance(field[0], dict)]
    try:
        columns.find(path, list(value))
    except ValueError:
        return lists[0] if len(lists) == 1 else None
    return None


class _Scanner:
    """Reads JSON values one after the other from a file, block by block."""

    def __init__(self, file: TextIO, path: str):
        self._file, self.path = file, path
        self._decoder = json.JSONDecoder()
        self._text, self._at = "", 0
        self._line, self._counted = 1, 0  # line of the character at `_counted`

    @property
    def line(self) -> int:
        """Number of the line of the file where the next value begins, from 1."""
        self._line, self._counted = self._line + self._text.count("\n", self._counted, self._at), self._at
        return self._line

    def peek(self) -> str:
        """Returns the next character that is not white space; "" at the end."""
        while True:
            self._at = _BLANKS.match(self._text, self._at).end()
            if self._at < len(self._text) or not self._more(_BLOCK):
                return self._text[self._at : self._at + 1]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yields the place and the value of each item of a list."""
        self._take("[")
        number = 0
        if self.peek() == "]":
            self._take("]")
        else:
            while number == 0 or self._take(",]") == ",":
                number += 1
                yield f"{self.path} item {number}", self.value()
        if self.peek():
            raise ValueError(
                f"{self.path} line {self.line} is not valid JSON: something stands behind the list. Mend it."
            )

    def value(self) -> Any:
        """Returns the next value."""
        self.peek()
        size = _BLOCK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise ValueError(
                    f"{self.path} line {self.line} is not valid JSON (nested too deeply). Mend it."
                ) from error
            except json.JSONDecodeError as error:
                # What is cut off at the end of the block looks like an error, too.
                cut = error.pos > len(self._text) - _NEAR_THE_END or error.msg.startswith("Unterminated string")
                if not cut or not self._more(size):
                    line = self.line + self._text.count("\n", self._at, error.pos)
                    raise ValueError(f"{self.path} line {line} is not valid JSON ({error.msg}). Mend it.") from error
            else:
                # A number at the end of the block may go on in the next.
                if end < len(self._text) or not self._more(size):
                    self._at = end
                    return value
            size *= 2

    def _take(self, expected: str) -> str:
        """Returns the next character, which must be one of `expected`."""
        if (found := self.peek()) and found in expected:
            self._at += 1
            return found
        found = repr(found) if found else "the end of the file"
        raise ValueError(
            f"{self.path} line {self.line} is not valid JSON: {found} where one of {expected!r} was expected. Mend it."
        )

    def _more(self, size: int) -> bool:
        block = self._file.read(size)
        self._line = self.line  # before its text is dropped
        self._text, self._at, self._counted = self._text[self._at :] + block, 0, 0
        if len(self._text) > MAX_ROW_BYTES + size:
            raise ValueError(too_long(self.path, "an item"))
        return bool(block)
