"""Damaged characters in the texts as the files hold them, before cleaning."""

import re
from collections.abc import Iterable
from typing import Any

from data_pipeline.report.personal_data import around, masked, shown
from data_pipeline.report.tally import Examples

WRONG_ENCODING, LOST, ESCAPED, CONTROL = "wrong encoding", "lost characters", "escaped bytes", "control characters"
_LOST = re.compile("\ufffd")
_ESCAPED = re.compile(r"\\x[89a-f][0-9a-f]|\\u[0-9a-f]{4}", re.IGNORECASE)
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f]")
_BEFORE = 40  # characters shown before the first damaged one
_SHOWN = 160


class Mojibake:
    """Counts damaged texts: ftfy's badness tells a wrong encoding, patterns tell the rest."""

    def __init__(self, num_examples: int):
        import ftfy  # an extra

        self._ftfy = ftfy
        kinds = (WRONG_ENCODING, LOST, ESCAPED, CONTROL)
        self._texts, self._examples = dict.fromkeys(kinds, 0), {kind: Examples(num_examples) for kind in kinds}
        self._rows = self._repairable = 0

    def add(self, raw: Iterable[tuple[str, str]]) -> None:
        """Counts in (place, text) of rows."""
        for where, text in raw:
            found = [kind for kind, pattern in _PATTERNS.items() if pattern.search(text)]
            for kind in found:
                self._count(kind, where, text, _PATTERNS[kind])
            if not text.isascii() and self._ftfy.badness.is_bad(text):
                found.append(WRONG_ENCODING)
                self._count_wrong_encoding(where, text)
            self._rows += bool(found)

    def _count(self, kind: str, where: str, text: str, pattern: re.Pattern[str]) -> None:
        self._texts[kind] += 1
        self._examples[kind].add(where, lambda: _visible(around(text, pattern, _SHOWN)), repaired="")

    def _count_wrong_encoding(self, where: str, text: str) -> None:
        self._texts[WRONG_ENCODING] += 1
        text = masked(text)[0]  # before it is cut
        repaired = self._ftfy.fix_encoding(text)
        self._repairable += repaired != text
        first = next((i for i, (old, new) in enumerate(zip(text, repaired, strict=False)) if old != new), 0)
        start = max(0, first - _BEFORE)
        part = slice(start, None)
        new = shown(repaired[part], _SHOWN) if repaired != text else ""
        self._examples[WRONG_ENCODING].add(where, lambda: _visible(shown(text[part], _SHOWN)), repaired=new)

    def numbers(self) -> dict[str, Any]:
        """Returns the rows with any damage, and rows and examples of each kind."""
        kinds = [
            {"kind": kind, "rows": rows, "examples": self._examples[kind].listed()}
            for kind, rows in self._texts.items()
        ]
        return {"rows": self._rows, "repairable": self._repairable, "kinds": kinds}


_PATTERNS = {LOST: _LOST, ESCAPED: _ESCAPED, CONTROL: _CONTROL}


def _visible(text: str) -> str:
    """Returns a text with a mark in place of each control character."""
    return "".join(f"\\x{ord(c):02x}" if _CONTROL.match(c) or "\x80" <= c < "\xa0" else c for c in text)
