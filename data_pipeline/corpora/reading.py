"""What all readers share: opening a text file, naming columns, counting refused rows."""

import collections
import contextlib
import dataclasses
import gzip
import zlib
from collections.abc import Iterator, Sequence
from typing import TextIO

# Names that a column usually has, compared without case. The first is also our own.
_USUAL_NAMES = {
    "question": ("question", "query"),
    "answer": ("answer", "response"),
    "source": ("source",),
    "focus": ("focus", "topic"),
}


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
            names = [name for name in header if (name == named if named else name.strip().lower() in usual)]
            if len(names) == 1:
                found[role] = names[0]
            elif names:
                raise ValueError(
                    f"{path} has several columns for the {role}: {', '.join(names)}. Name one with --{role}_column."
                )
            elif named or role in ("question", "answer"):
                raise ValueError(
                    f"{path} has no column {named or role!r}. Columns found: {', '.join(header) or 'none'}. "
                    f"Name the right one with --{role}_column."
                )
        return found


class Refusals:
    """Counts refused rows by reason, and keeps where the first of each reason stands."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.first: dict[str, str] = {}

    def add(self, reason: str, where: str) -> None:
        """Counts one row; `where` is its file and row."""
        self.counts[reason] += 1
        self.first.setdefault(reason, where)

    def report(self) -> dict[str, dict[str, int | str]]:
        """Returns {reason: {"rows", "first"}}, the most frequent first."""
        return {reason: {"rows": n, "first": self.first[reason]} for reason, n in self.counts.most_common()}


@contextlib.contextmanager
def open_text(path: str) -> Iterator[TextIO]:
    """Opens a UTF-8 text file, plain or gzipped, with or without a byte order mark.

    Raises:
      FileNotFoundError: no such file.
      ValueError: while reading: not UTF-8, or a damaged gzip file.
    """
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.endswith(".gz")
            else open(path, encoding="utf-8-sig", newline="")
        ) as file:
            yield file
    except FileNotFoundError:
        raise FileNotFoundError(f"No file at {path}. Check the path given as input.") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} cannot be read. Convert it first, for "
            "example with: iconv -f GB18030 -t UTF-8."
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{path} is a damaged or truncated gzip file ({error}). Nothing of it was taken; fetch it again."
        ) from error
