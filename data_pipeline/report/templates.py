"""Texts from a template: names that programs put into other people's mouths, and frames that many rows share."""

import re
from collections.abc import Sequence
from typing import Any

from data_pipeline.report.corpus import Row
from data_pipeline.report.personal_data import around, shown
from data_pipeline.report.tally import Examples, Tally, share

_HINTS_AND_PATTERNS = {  # each name: parts in lower case, one of which every match holds, and the pattern
    "ChatDoctor": (("chatdoctor", "chat doctor"), r"\bchat ?doctor\b"),
    "HealthCareMagic": (("healthcare", "health care"), r"\bhealth ?care ?magic\b"),
    "iCliniq": (("icliniq",), r"\bicliniq\b"),
    "HealthTap": (("healthtap", "health tap"), r"\bhealth ?tap\b"),
    "a language model": (
        ("as an ai", "as an art", "language model", "chatgpt", "openai"),
        r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)\b|\bchatgpt\b|\bopenai\b",
    ),
    "an empty form field": (
        ("[your", "[patient", "[doctor", "[insert", "{", "lorem"),
        r"\[(?:your|patient|doctor|insert)[^\]]{0,30}\]|\{\{?[a-z_]{2,30}\}?\}|\blorem ipsum\b",
    ),
}
_NAMES = {name: (hints, re.compile(pattern, re.IGNORECASE)) for name, (hints, pattern) in _HINTS_AND_PATTERNS.items()}
_WORDS = 6  # of a shared beginning or end
_LEAST_ROWS, _LEAST_SHARE = 3, 0.001
_TOP = 10
_FRAME_CHARACTERS = 150
GAP = "___"


class Templates:
    """Counts named templates and shared frames in all rows."""

    def __init__(self, num_examples: int):
        self._rows = self._with_name = 0
        self._texts = dict.fromkeys(_NAMES, 0)
        self._examples = {name: Examples(num_examples) for name in _NAMES}
        self._frames = {kind: Tally() for kind in ("question_frames", "answer_beginnings", "answer_ends")}

    def add(self, rows: Sequence[Row]) -> None:
        """Counts rows."""
        self._rows += len(rows)
        for row in rows:
            text = f"{row.question}\n{row.answer}"
            self._with_name += self._count_names(row.where, text)
            if frame := _frame(row):
                self._frames["question_frames"].add([frame])
            words = row.answer.casefold().split()
            if len(words) >= 2 * _WORDS:
                self._frames["answer_beginnings"].add([" ".join(words[:_WORDS])])
                self._frames["answer_ends"].add([" ".join(words[-_WORDS:])])

    def _count_names(self, where: str, text: str) -> bool:
        lowered, found = text.casefold(), False
        for name, (hints, pattern) in _NAMES.items():
            if any(hint in lowered for hint in hints) and pattern.search(text):
                found = True
                self._texts[name] += 1
                self._examples[name].add(where, lambda pattern=pattern: around(text, pattern))
        return found

    def numbers(self) -> dict[str, Any]:
        """Returns rows and examples of each name, and the most frequent frames."""
        names = [
            {"name": name, "rows": rows, "examples": self._examples[name].listed()}
            for name, rows in self._texts.items()
        ]
        least = max(_LEAST_ROWS, int(_LEAST_SHARE * self._rows))
        frames = {kind: self._listed(tally, least) for kind, tally in self._frames.items()}
        return {"rows": self._with_name, "names": names, **frames}

    def _listed(self, tally: Tally, least: int) -> list[dict[str, Any]]:
        return [
            {"text": shown(text), "rows": count, "share": share(count, self._rows)}
            for text, count in tally.top(_TOP, least)
        ]


def _frame(row: Row) -> str:
    """Returns the question with a gap in place of its topic; empty if it does not hold it."""
    question, focus = row.question.casefold(), row.focus.casefold()
    if len(focus) < 2 or len(question) > _FRAME_CHARACTERS or focus not in question:
        return ""
    frame = question.replace(focus, GAP)
    return "" if frame.strip(" .?!") == GAP else frame
