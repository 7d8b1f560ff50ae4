"""Unpacks gzip, bzip2, xz and zstandard files, recognised by their first bytes."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import zstandard

# What opening a damaged archive raises: the last two for an unknown version, and for names that are no UTF-8.
ZIP_ERRORS = (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError)
_ZSTD_WINDOW = 2**31  # for dumps that were packed with --long
# Bytes read at once from a .zst file: four of them unpack to 128 KiB at most, so that these make 32 MiB at most.
_ZSTD_BYTES = 2**10


class _Zstandard(io.RawIOBase):
    """The content of a .zst file. Unlike the package's stream, it refuses a file that was cut off."""

    def __init__(self, file: BinaryIO):
        self._file = file
        self._unpack, self._rest = self._unpacker(), memoryview(b"")

    @staticmethod
    def _unpacker() -> Any:
        return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            packed = self._unpack.unused_data if self._unpack.eof else b""
            packed = packed or self._file.read(_ZSTD_BYTES)
            if not packed:
                if not self._unpack.eof:
                    raise EOFError("it ends in the middle")
                return 0
            if self._unpack.eof:
                self._unpack = self._unpacker()  # a file may hold several frames
            self._rest = memoryview(self._unpack.decompress(packed))
        size = min(len(buffer), len(self._rest))
        buffer[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


class _Packing(NamedTuple):
    name: str
    start: re.Pattern[bytes]
    open: Callable[[BinaryIO], Any]


_PACKINGS = (
    _Packing("gzip", re.compile(rb"\x1f\x8b"), gzip.open),
    _Packing("bzip2", re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"), bz2.open),
    _Packing("xz", re.compile(rb"\xfd7zXZ\x00"), lzma.open),
    # A frame, or a frame to skip, with which some tools begin.
    _Packing("zstandard", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL), _Zstandard),
)


_opened: dict[str, BinaryIO | None] = {}
_ended: dict[str, int] = {}  # where the last reading of a file ended


def bytes_read(path: str) -> int:
    """Returns how many bytes of a file, as it lies on the disk, the present or the last reading of it has taken."""
    opened = _opened.get(path)
    return opened.tell() if opened else _ended.get(path, 0)


def forget(path: str) -> None:
    """Lets `bytes_read` return 0 until the file is opened again."""
    _ended.pop(path, None)


def packing_of(path: str) -> str | None:
    """Returns the packing of a file; None for a plain file."""
    packing = _find(path)
    return packing and packing.name


def is_packed(path: str) -> bool:
    """Returns whether a file is smaller than its texts, as Parquet and .xlsx are, too; a folder is not."""
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        return file.read(4) in (b"PAR1", b"PK\x03\x04") or packing_of(path) is not None


def names_in_zip(path: str) -> list[str]:
    """Returns the names of the files in a zip archive; none for a damaged archive or another file."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except ZIP_ERRORS:
        return []


def _find(path: str) -> _Packing | None:
    with open(path, "rb") as file:
        start = file.read(16)
    return next((packing for packing in _PACKINGS if packing.start.match(start)), None)


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[BinaryIO]:
    """Opens the content of a file, packed or not.

    Raises:
      ValueError: while reading, if a packed file is damaged or was cut off.
    """
    packing = _find(path)
    with open(path, "rb") as raw:
        outer = _opened.get(path)
        _opened[path] = raw
        try:
            yield from _content(path, raw, packing)
        finally:
            _ended[path], _opened[path] = raw.tell(), outer


def _content(path: str, raw: BinaryIO, packing: _Packing | None) -> Iterator[BinaryIO]:
    if packing is None:
        yield raw
        return
    try:
        with packing.open(raw) as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, gzip.BadGzipFile) as error:
        raise _damaged(path, packing, error) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, packing, error) from error  # bz2 has no error of its own


def _damaged(path: str, packing: _Packing, error: Exception) -> ValueError:
    return ValueError(
        f"{path} is a damaged or truncated {packing.name} file ({error}). Nothing of it was taken; fetch it again."
    )
