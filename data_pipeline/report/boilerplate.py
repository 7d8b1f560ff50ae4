"""Set phrases of forum doctors at the ends of answers: what `prepare --strip_boilerplate` would remove."""

from collections.abc import Sequence
from typing import Any

from data_pipeline.report.corpus import Row
from data_pipeline.report.personal_data import shown
from data_pipeline.report.tally import Examples, Tally, share
from data_pipeline.scrubbing import BOILERPLATE_FILE, Scrubber, ScrubSettings

_TOP = 10
_PHRASE_CHARACTERS = 80
_MARKS = " \n.,;:!?-"
_OPENINGS, _CLOSINGS = "openings", "sign-offs"


class Boilerplate:
    """Counts answers that begin or end with set phrases."""

    def __init__(self, num_examples: int):
        self._scrubber = Scrubber(ScrubSettings(boilerplate=BOILERPLATE_FILE))
        self._answers = self._with_any = self._characters = self._removed = 0
        self._phrases = {end: Tally() for end in (_OPENINGS, _CLOSINGS)}
        self._examples = {end: Examples(num_examples) for end in (_OPENINGS, _CLOSINGS)}

    def add(self, rows: Sequence[Row]) -> None:
        """Counts the answers of rows."""
        for row in rows:
            if not row.answer:
                continue
            self._answers += 1
            self._characters += len(row.answer)
            left = self._scrubber.answer(row.answer)
            if left != row.answer:
                self._with_any += 1
                self._removed += len(row.answer) - len(left)
                self._count(row, left)

    def _count(self, row: Row, left: str) -> None:
        start = row.answer.find(left)
        ends = {_OPENINGS: row.answer[:start], _CLOSINGS: row.answer[start + len(left) :]}
        for end, phrase in ends.items():
            if phrase.strip(_MARKS):
                self._phrases[end].add([shown(phrase.strip(_MARKS), _PHRASE_CHARACTERS).casefold()])
                self._examples[end].add(row.where, lambda phrase=phrase: shown(phrase))

    def numbers(self) -> dict[str, Any]:
        """Returns the answers with set phrases, their share of all characters, and the most frequent ones."""
        ends = [
            {
                "end": end,
                "answers": tally.total(),
                "phrases": [{"text": text, "answers": count} for text, count in tally.top(_TOP)],
                "examples": self._examples[end].listed(),
            }
            for end, tally in self._phrases.items()
        ]
        return {
            "answers": self._with_any,
            "share": share(self._with_any, self._answers),
            "characters_share": share(self._removed, self._characters),
            "ends": ends,
        }
