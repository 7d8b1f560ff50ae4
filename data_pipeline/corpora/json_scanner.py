"""Reads JSON values one after the other from a file, block by block, with Python's json module.

Errors name the line of the file. ijson lexes twice as fast, but cannot take its place: it refuses the NaN and Infinity
that json.dump writes, turns half a surrogate pair into a question mark, builds lists of any depth until the memory is
full, and knows no lines.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from data_pipeline.corpora.opening import MAX_ROW_BYTES, too_long

CUT = object()
_BLOCK = 2**20  # characters read at once
_LIST_A_LINE = re.compile(r"\[[^\n]*\]\s*\n\s*\[")
_BLANKS = re.compile(r"[ \t\n\r]*")
_NEAR_THE_END = 16  # characters: an error there may come from the cut at the end of the block


class Scanner:
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

    def start(self) -> str:
        """Returns the text that comes next, up to a block."""
        self.peek()
        return self._text[self._at :]

    def items(self) -> Iterator[Any]:
        """Yields the items of a list, which is the next value."""
        self.take("[")
        if self.peek() == "]":
            self.take("]")
            return
        yield self.value()
        while self.take(",]") == ",":
            yield self.value()

    def fields(self) -> Iterator[str]:
        """Yields the names of the fields of an object, which is the next value.

        The caller reads the value of a field before it asks for the next name.
        """
        self.take("{")
        if self.peek() == "}":
            self.take("}")
            return
        more = ","
        while more == ",":
            if self.peek() != '"':
                self.take('"')  # an error
            name = self.value()
            self.take(":")
            yield name
            more = self.take(",}")

    def end(self) -> None:
        """Raises a ValueError unless this is the end of the file."""
        if self.peek():
            raise ValueError(f"{self.path} line {self.line} is not valid JSON: more text follows its end. Correct it.")

    def value(self, longest: int | None = None) -> Any:
        """Returns the next value; if it is longer than `longest` characters, takes nothing and returns CUT."""
        self.peek()
        size = _BLOCK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise ValueError(
                    f"{self.path} line {self.line} is not valid JSON (nested too deeply). Correct it."
                ) from error
            except json.JSONDecodeError as error:
                # A value that the end of the block cuts off looks like an error, too.
                cut = error.pos > len(self._text) - _NEAR_THE_END or error.msg.startswith("Unterminated string")
                if cut and longest is not None and len(self._text) - self._at >= longest:
                    return CUT
                line = self.line + self._text.count("\n", self._at, error.pos)
                if not cut or not self._more(size):
                    raise ValueError(f"{self.path} line {line} is not valid JSON ({error.msg}). Correct it.") from error
            else:
                # A number at the end of the block may go on in the next one.
                if end < len(self._text) or not self._more(size):
                    self._at = end
                    return value
            size *= 2

    def take(self, expected: str) -> str:
        """Returns the next character, which must be one of `expected`."""
        if (character := self.peek()) and character in expected:
            self._at += 1
            return character
        received = repr(character) if character else "the end of the file"
        raise ValueError(
            f"{self.path} line {self.line} is not valid JSON: {received} where one of {expected!r} was expected. "
            "Correct it."
        )

    def _more(self, size: int) -> bool:
        block = self._file.read(size)
        self._line = self.line  # before its text is dropped
        self._text, self._at, self._counted = self._text[self._at :] + block, 0, 0
        if len(self._text) > MAX_ROW_BYTES + size:
            raise ValueError(too_long(self.path, "an item"))
        return bool(block)


def values(scanner: Scanner) -> Iterator[tuple[str, Any]]:
    """Yields the items of a file's list, or its values one after the other (JSON Lines), each with its place.

    Raises:
      ValueError: the file is not valid JSON; the message names the line.
    """
    if scanner.peek() == "[" and not _LIST_A_LINE.match(scanner.start()):
        yield from numbered(scanner.path, scanner.items())
        scanner.end()
    yield from lines(scanner)


def lines(scanner: Scanner) -> Iterator[tuple[str, Any]]:
    """Yields the values that follow one after the other, each with its place."""
    while scanner.peek():
        place = f"{scanner.path} line {scanner.line}"
        yield place, scanner.value()


def numbered(path: str, items: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Yields each item with its number as its place."""
    return ((f"{path} item {number}", item) for number, item in enumerate(items, 1))
