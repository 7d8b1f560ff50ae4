"""Opens a text file by its content: unpacks it and recognises its encoding."""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from data_pipeline.corpora import encodings
from data_pipeline.corpora.packings import unpacked

MAX_ROW_BYTES = 64 * 2**20
HEAD_BYTES = 2**14  # first bytes, which decide what a file is
_BLOCK_BYTES = 2**18
_LINE_END = re.compile(rb"[\n\r]")


class _BoundedLines(io.RawIOBase):
    """Passes bytes on and refuses a line without end.

    A few packed bytes can hold gigabytes: without a bound, one line could fill the memory.
    """

    def __init__(self, file: BinaryIO, path: str, bounded: bool):
        self._file, self._path = file, path
        self._left = MAX_ROW_BYTES if bounded else None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = self._file.readinto(buffer)
        if self._left is not None:
            ends = _LINE_END.search(memoryview(buffer)[:size])
            self._left = MAX_ROW_BYTES if ends else self._left - size
            if self._left < 0:
                raise ValueError(too_long(self._path, "a line"))
        return size


def too_long(path: str, unit: str) -> str:
    """Returns the message for a row without end; the unit is "a line" or "an item"."""
    return f"{path} has {unit} of more than {MAX_ROW_BYTES:,} bytes. Expected a row of a table; is this the right file?"


def head(path: str, size: int = HEAD_BYTES) -> bytes:
    """Returns the first bytes of a file, unpacked."""
    with errors_named(path), unpacked(path) as file:
        content = bytearray()
        while len(content) < size and (more := file.read(min(size - len(content), _BLOCK_BYTES))):
            content += more
        return bytes(content)


def decoded(start: bytes) -> str | None:
    """Returns the text with which a file begins; None for bytes that are no text."""
    encoding = encodings.encoding_of(start)
    return encoding and start.decode(encoding, "ignore")


@contextlib.contextmanager
def open_text(path: str, bounded: bool = True, newline: str = "", encoding: str | None = None) -> Iterator[TextIO]:
    """Opens a text file, packed or not, in UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Args:
      path: the file.
      bounded: whether a line of more than MAX_ROW_BYTES is an error.
      newline: how line ends are translated; see the built-in `open`.
      encoding: another encoding; None: one of these, which is recognised.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: while reading, if the file has another encoding or a line without end, or its packing is damaged.
    """
    with errors_named(path):
        encoding = encoding or encodings.encoding_of(head(path)) or "utf-8"
        with unpacked(path) as file:
            lines = io.BufferedReader(_BoundedLines(file, path, bounded), _BLOCK_BYTES)
            yield io.TextIOWrapper(lines, encoding=encoding, newline=newline)


def line_end(path: str) -> str:
    """Returns the line end of a table, for `open_text`.

    A carriage return inside a field is text. It ends lines only if the file has hardly any other line ends.
    """
    text = decoded(head(path)) or ""
    feeds, returns = text.count("\n"), len(re.findall(r"\r(?!\n)", text))
    first = re.search(r"[\r\n]", text)
    return "\r" if returns > feeds and first[0] == "\r" and not text.startswith("\r\n", first.start()) else "\n"


@contextlib.contextmanager
def errors_named(path: str) -> Iterator[None]:
    """Gives errors the name of the file, and a remedy."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"No file at {path}. Check the path given as input.") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder. Expected a file.") from None
    except UnicodeDecodeError as error:
        at = error.object[error.start : error.start + 1].hex()
        likely = encodings.likely(error.object)
        raise ValueError(
            f"{path} is not {error.encoding.upper()}: byte 0x{at} cannot be read. Convert it first, for example with: "
            f"iconv -f {likely} -t UTF-8 (or another of: iconv -l)."
        ) from error
