"""Opens a file by its content: what it is packed with, and what its bytes mean as text."""

import bz2
import codecs
import contextlib
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, TextIO

import zstandard

MAX_ROW_BYTES = 64 * 2**20
HEAD_BYTES = 2**12  # that decide what a file is
_BLOCK_BYTES = 2**18
_ZSTD_WINDOW = 2**31  # dumps that were packed with --long need it
_MARKS = (  # longest first: that of UTF-32-LE begins with that of UTF-16-LE
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class _Zstandard(io.RawIOBase):
    """The content of a .zst file; unlike the package's stream, it refuses a file that was cut off."""

    def __init__(self, path: str):
        self._file = open(path, "rb")  # noqa: SIM115 (closed by close)
        self._unpack, self._rest = self._unpacker(), b""

    @staticmethod
    def _unpacker() -> Any:
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            packed = self._unpack.unused_data if self._unpack.eof else b""
            packed = packed or self._file.read(_BLOCK_BYTES)
            if not packed:
                if not self._unpack.eof:
                    raise EOFError("it ends in the middle")
                return 0
            if self._unpack.eof:
                self._unpack = self._unpacker()  # a file may hold several frames
            self._rest = self._unpack.decompress(packed)
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


# How a packed file begins, and what unpacks it.
_PACKINGS: dict[bytes, Callable[[str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\x28\xb5\x2f\xfd": _Zstandard,
}


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
            self._left = MAX_ROW_BYTES if b"\n" in bytes(memoryview(buffer)[:size]) else self._left - size
            if self._left < 0:
                raise ValueError(too_long(self._path, "a line"))
        return size


def too_long(path: str, what: str) -> str:
    """Returns the message for a row without end."""
    return f"{path} has {what} of more than {MAX_ROW_BYTES:,} bytes. Expected a row of a table; is this the right file?"


def head(path: str) -> bytes:
    """Returns the first bytes of a file, unpacked."""
    with _errors_named(path), _unpacked(path) as file:
        content = b""
        while len(content) < HEAD_BYTES and (more := file.read(HEAD_BYTES - len(content))):
            content += more
        return content


def encoding_of(start: bytes) -> str:
    """Returns the encoding of a text file that begins so; without a mark, zero bytes tell UTF-16 and UTF-32."""
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    # Of ASCII characters, and every text has blanks and line breaks, all bytes but one are zero.
    zeros = [start[i::4].count(0) / max(len(start[i::4]), 1) for i in range(4)]
    many = tuple(share > 0.02 for share in zeros)
    wide = {
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
    }
    return wide.get(many, "utf-8")


@contextlib.contextmanager
def open_text(path: str, bounded: bool = True) -> Iterator[TextIO]:
    """Opens a text file: plain, gzip, bzip2 or zstandard; UTF-8, UTF-16 or UTF-32, with a byte order mark or without.

    Args:
      path: the file.
      bounded: a line may not be longer than MAX_ROW_BYTES.

    Raises:
      FileNotFoundError: no such file.
      ValueError: while reading: another encoding, an endless line, or a damaged packed file.
    """
    with _errors_named(path):
        encoding = encoding_of(head(path))
        with _unpacked(path) as file:
            lines = io.BufferedReader(_BoundedLines(file, path, bounded), _BLOCK_BYTES)
            yield io.TextIOWrapper(lines, encoding=encoding, newline="")


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[BinaryIO]:
    with open(path, "rb") as file:
        start = file.read(4)
    unpack = next((unpack for mark, unpack in _PACKINGS.items() if start.startswith(mark)), None)
    with unpack(path) if unpack else open(path, "rb") as file:
        yield file


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
        name = error.encoding.upper()
        raise ValueError(
            f"{path} is not {name}: byte 0x{at} cannot be read. Convert it first, for example with: iconv -f "
            "WINDOWS-1252 -t UTF-8 (or GB18030, or another of: iconv -l)."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile, zstandard.ZstdError) as error:
        raise ValueError(_damaged(path, error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ValueError(_damaged(path, error)) from error  # bz2's


def _damaged(path: str, error: Exception) -> str:
    with open(path, "rb") as file:
        kind = {b"\x1f": "gzip", b"B": "bzip2", b"\x28": "zstandard"}.get(file.read(1), "packed")
    return f"{path} is a damaged or truncated {kind} file ({error}). Nothing of it was taken; fetch it again."
