"""Types of questions: their form, by the word that they begin with, and what English ones ask about."""

import collections
import re
from collections.abc import Sequence
from typing import Any

from data_pipeline.report.corpus import Row
from data_pipeline.report.tally import share
from data_pipeline.tokenizers.wordpiece import CHINESE

_YES_NO_WORDS = (
    "is are was were am do does did can could may might will would should shall has have had must "
    "isn't aren't don't doesn't can't won't"
)
_FORMS = {
    **{word: word for word in ("what", "how", "why", "when", "where", "which", "who")},
    "what's": "what",
    "whats": "what",
    **dict.fromkeys(_YES_NO_WORDS.split(), "yes or no"),
}
_FIRST_WORD = re.compile(r"\W*([a-z]+(?:['’][a-z]+)?)", re.IGNORECASE)
STATEMENT, OTHER_QUESTION, SEVERAL, NOT_ENGLISH = "no question", "other question", "several sentences", "other script"
_SENTENCE_END = re.compile(r"[.?!。？！]\s*\S")
_SHORT = 200  # characters: longer questions tell a story
_SUBJECTS = {
    "what it is": r"\bwhat (?:is|are)\b(?! the )|\bdefin|\bmean(?:s|ing)?\b",
    "symptoms": r"symptom|\bsigns?\b|\bfeel(?:s|ing)? like\b",
    "causes": r"\bcaus|\bwhy\b|\brisk factor|\bat risk\b|\breason",
    "diagnosis": r"diagnos|\btests?\b|\bscan|\bbiops|\bx-?ray",
    "treatment": r"treat|therap|\bcure|\bremed|\bmedic(?:ine|ation)|\bdrugs?\b|\bsurgery\b|\bhelps?\b",
    "prevention": r"prevent|\bavoid|vaccin",
    "outlook": r"\boutlook\b|prognos|surviv|\blife expectancy|\bcomplication",
    "inheritance": r"inherit|\bgene(?:s|tic)?\b|hereditary",
    "how many have it": r"how many people|\bhow common\b|prevalen",
    "doses and side effects": r"\bdos(?:e|es|age)\b|side effect|interact|\boverdose|\bmg\b",
    "research": r"\bresearch\b|clinical trial",
}
_PATTERNS = {subject: re.compile(pattern, re.IGNORECASE) for subject, pattern in _SUBJECTS.items()}


class QuestionTypes:
    """Counts forms and subjects of all questions; a question may have several subjects."""

    def __init__(self) -> None:
        self._questions, self._without_subject = 0, 0
        self._forms, self._subjects = collections.Counter[str](), collections.Counter[str]()

    def add(self, rows: Sequence[Row]) -> None:
        """Counts the questions of rows."""
        for row in rows:
            self._questions += 1
            self._forms[form_of(row.question)] += 1
            subjects = [subject for subject, pattern in _PATTERNS.items() if pattern.search(row.question)]
            self._subjects.update(subjects)
            self._without_subject += not subjects

    def numbers(self) -> dict[str, Any]:
        """Returns the counts, the most frequent first."""
        return {
            "questions": self._questions,
            "forms": self._listed(self._forms),
            "subjects": self._listed(self._subjects),
            "without_subject": self._without_subject,
        }

    def _listed(self, counts: collections.Counter[str]) -> list[dict[str, Any]]:
        ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        return [{"name": name, "rows": count, "share": share(count, self._questions)} for name, count in ordered]


def form_of(question: str) -> str:
    """Returns the form of a question."""
    if CHINESE.search(question) or not (match := _FIRST_WORD.match(question)):
        return NOT_ENGLISH
    if len(question) > _SHORT or _SENTENCE_END.search(question):
        return SEVERAL
    form = _FORMS.get(match[1].lower().replace("’", "'"))
    return form or (OTHER_QUESTION if question.rstrip().endswith("?") else STATEMENT)
