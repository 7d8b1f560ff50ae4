"""Reads XML as a stream of elements, without entities of its own: no file can grow by them or name another."""

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple
from xml.parsers import expat

from data_pipeline.corpora.opening import MAX_ROW_BYTES, errors_named, too_long
from data_pipeline.corpora.packings import unpacked

_BLOCK_BYTES = 2**16


class Element(NamedTuple):
    """The start or the end of an element.

    Attributes:
      name: its tag.
      attributes: those of a start; None at an end.
      text: at an end, the text since the last start or end.
      line: its line in the file.
    """

    name: str
    attributes: dict[str, str] | None
    text: str
    line: int


def elements(path: str) -> Iterator[Element]:
    """Yields the starts and ends of the elements of a file, packed or not, in their order.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is no valid XML, declares entities, or has an element of more than MAX_ROW_BYTES.
    """
    with errors_named(path), unpacked(path) as file:
        yield from elements_of(file, path)


def elements_of(file: BinaryIO, path: str) -> Iterator[Element]:
    """Yields the starts and ends of the elements of an open file; see `elements`."""
    reading = _Reading(path)
    try:
        while block := file.read(_BLOCK_BYTES):
            reading.parser.Parse(block)
            yield from reading.taken(len(block))
        reading.parser.Parse(b"", True)
        yield from reading.taken(0)
    except (expat.ExpatError, LookupError, UnicodeError) as error:
        line = reading.parser.CurrentLineNumber
        raise ValueError(f"{path} line {line} is not valid XML ({error}). Correct or fetch it again.") from error


class _Reading:
    """Collects what the parser finds in a block."""

    def __init__(self, path: str):
        self._path = path
        self._found: list[Element] = []
        self._texts: list[str] = []
        self._waiting = 0  # bytes since the last element
        self.parser: Any = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._texts.append
        self.parser.EntityDeclHandler = self._entity

    def taken(self, size: int) -> list[Element]:
        """Returns the elements of a block of `size` bytes."""
        found, self._found = self._found, []
        self._waiting = 0 if found else self._waiting + size
        if self._waiting > MAX_ROW_BYTES:
            raise ValueError(too_long(self._path, "an element"))
        return found

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._texts.clear()
        self._found.append(Element(name, attributes, "", self.parser.CurrentLineNumber))

    def _end(self, name: str) -> None:
        self._found.append(Element(name, None, "".join(self._texts), self.parser.CurrentLineNumber))
        self._texts.clear()

    def _entity(self, name: str, *_: Any) -> None:
        raise ValueError(f"{self._path} declares the entity {name!r}. Expected XML without entities: write its text.")
