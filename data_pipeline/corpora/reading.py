"""What all readers share: opening a text file, naming columns, counting refused rows."""

import collections
import contextlib
import dataclasses
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, TextIO

MAX_ROW_BYTES = 64 * 2**20
_BLOCK_BYTES = 2**18

# Names that a column usually has, compared without case. The first is also our own; the last are those of tables with
# instructions (Alpaca, ChatDoctor) and count where the others are not there.
_USUAL_NAMES = {
    "question": ("question", "query", "input"),
    "answer": ("answer", "response", "output"),
    "source": ("source",),
    "focus": ("focus", "topic"),
}


ROLES = tuple(_USUAL_NAMES)


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table by role; None: recognise it by its usual names."""

    question: str | None = None
    answer: str | None = None
    source: str | None = None
    focus: str | None = None

    def find(self, path: str, header: Sequence[str]) -> dict[str, str]:
        """Returns the column of each role, for the roles that the table has.

        Raises:
          ValueError: question or answer is missing or stands there twice, or a column named by flag is missing.
        """
        found = {}
        for role, usual in _USUAL_NAMES.items():
            named = getattr(self, role)
            names = [name for name in header if (name == named if named else name.strip().lower() in usual[:2])]
            if not (names or named):
                names = [name for name in header if name.strip().lower() in usual[2:]]
            if len(names) == 1:
                found[role] = names[0]
            elif names:
                raise ValueError(
                    f"{path} has several columns for the {role}: {', '.join(names)}. Name one with --{role}_column."
                )
            elif named or role in ("question", "answer"):
                remedy = f"Name the right one with --{role}_column."
                if len(header) == 1 and (marks := set(header[0]) & set(";\t,|")):
                    remedy = f"Its fields seem to stand between {marks.pop()!r}: .csv means commas, .tsv tabs."
                raise ValueError(
                    f"{path} has no column {named or role!r}. Columns found: {', '.join(header) or 'none'}. {remedy}"
                )
        return found


class Refusals:
    """Counts refused rows by reason, and keeps where the first of each reason stands."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._first: dict[str, tuple[int, str]] = {}

    def add(self, reason: str, where: str, position: int = 0, rows: int = 1) -> None:
        """Counts rows.

        Args:
          reason: why.
          where: file and row of the first.
          position: orders the places; of equal ones, what was added before comes first.
          rows: how many.
        """
        self.counts[reason] += rows
        self._first[reason] = min(self._first.get(reason, (position, where)), (position, where), key=lambda at: at[0])

    def merge(self, report: dict[str, dict[str, int | str]]) -> None:
        """Adds what another has counted."""
        for reason, entry in report.items():
            self.add(reason, entry["first"], entry["position"], entry["rows"])

    def report(self) -> dict[str, dict[str, int | str]]:
        """Returns {reason: {"rows", "first", "position"}}, the most frequent first."""
        return {
            reason: {"rows": n, "first": self._first[reason][1], "position": self._first[reason][0]}
            for reason, n in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        }


class _BoundedLines(io.RawIOBase):
    """Passes bytes on, as long as there is a line break now and then.

    A few bytes of gzip can hold gigabytes: without a bound, one endless line would fill the memory.
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


@contextlib.contextmanager
def open_text(path: str, bounded: bool = True) -> Iterator[TextIO]:
    """Opens a UTF-8 text file, plain or gzipped, with or without a byte order mark.

    Args:
      path: the file; `.gz` at its end means gzip.
      bounded: a line may not be longer than MAX_ROW_BYTES.

    Raises:
      FileNotFoundError: no such file.
      ValueError: while reading: not UTF-8, an endless line, or a damaged gzip file.
    """
    try:
        with gzip.open(path) if path.endswith(".gz") else open(path, "rb") as file:
            lines = io.BufferedReader(_BoundedLines(file, path, bounded), _BLOCK_BYTES)
            yield io.TextIOWrapper(lines, encoding="utf-8-sig", newline="")
    except FileNotFoundError:
        raise FileNotFoundError(f"No file at {path}. Check the path given as input.") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{path} is a folder. Expected a file.") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} cannot be read. Convert it first, for "
            "example with: iconv -f WINDOWS-1252 -t UTF-8 (or another of: iconv -l)."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is a damaged or truncated gzip file ({error}). Nothing of it was taken; fetch it again."
        ) from error
