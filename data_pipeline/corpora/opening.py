"""Opens a file by its content: what it is packed with, and what its bytes mean as text."""

import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, TextIO

from data_pipeline.corpora import encodings
from data_pipeline.corpora.packings import unpacked

MAX_ROW_BYTES = 64 * 2**20
HEAD_BYTES = 2**14  # that decide what a file is
_BLOCK_BYTES = 2**18
_LINE_END = re.compile(rb"[\n\r]")


class _BoundedLines(io.RawIOBase):
    """Passes bytes on, as long as there is a line break now and then.

    A few packed bytes can hold gigabytes: without a bound, one endless line would fill the memory.
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


def too_long(path: str, what: str) -> str:
    """Returns the message for a row without end."""
    return f"{path} has {what} of more than {MAX_ROW_BYTES:,} bytes. Expected a row of a table; is this the right file?"


def head(path: str) -> bytes:
    """Returns the first bytes of a file, unpacked."""
    with _errors_named(path), unpacked(path) as file:
        content = b""
        while len(content) < HEAD_BYTES and (more := file.read(HEAD_BYTES - len(content))):
            content += more
        return content


def decoded(start: bytes) -> str | None:
    """Returns the text with which a file begins; None for bytes that are no text."""
    encoding = encodings.encoding_of(start)
    return encoding and start.decode(encoding, "ignore")


@contextlib.contextmanager
def open_text(path: str, bounded: bool = True, newline: str = "") -> Iterator[TextIO]:
    """Opens a text file, packed or not; UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Args:
      path: the file.
      bounded: a line may not be longer than MAX_ROW_BYTES.
      newline: how line ends are translated; see the built-in `open`.

    Raises:
      FileNotFoundError: no such file.
      ValueError: while reading: another encoding, an endless line, or a damaged packed file.
    """
    with _errors_named(path):
        encoding = encodings.encoding_of(head(path)) or "utf-8"
        with unpacked(path) as file:
            lines = io.BufferedReader(_BoundedLines(file, path, bounded), _BLOCK_BYTES)
            yield io.TextIOWrapper(lines, encoding=encoding, newline=newline)


def line_end(path: str) -> str:
    """Returns what ends the lines of a table, as `open_text` takes it.

    A carriage return inside a field is text: it ends lines only in a file that has hardly any other line ends.
    """
    text = decoded(head(path)) or ""
    feeds, returns = text.count("\n"), len(re.findall(r"\r(?!\n)", text))
    first = re.search(r"[\r\n]", text)
    return "\r" if returns > feeds and first[0] == "\r" and not text.startswith("\r\n", first.start()) else "\n"


@contextlib.contextmanager
def _errors_named(path: str) -> Iterator[None]:
    """Says of which file an error is, and what to do."""
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
