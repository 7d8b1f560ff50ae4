"""Questions that speak of an emergency: they get a line to seek help at once, before any answer.

A list of terms misses what is said in other words, and matches questions that only ask about an emergency. Advice that
comes once too often does less harm than advice that is missing.
"""

import re
from collections.abc import Iterable

from data_pipeline import cleaning
from data_pipeline.folders import files

ADVICE = (
    "If this is happening now, do not wait for an answer here: call your local emergency number (112 in the European "
    "Union, 999 in the United Kingdom, 911 in the United States, 120 in China) or go to the nearest emergency "
    "department. If you think of harming yourself, call a crisis line, such as 988 in the United States, or talk to "
    "someone near you."
)
_CJK = "\u3400-\u9fff"


class Emergency:
    """Recognizes questions that speak of an emergency by a list of terms."""

    def __init__(self, lines: Iterable[str]):
        """Takes the lines of a list, such as `chest + pain* + breath*`.

        A question matches a line if it holds all terms of the line, joined by +, in any order, as whole words. A *
        stands for any letters. In Chinese, `term !characters` does not match behind one of these characters, with which
        the term would be another word. The rest of a line behind a # is a comment.

        Raises:
          ValueError: there is no term in the lines.
        """
        lines = [text for line in lines if (text := line.split("#")[0].strip())]
        if not lines:
            raise ValueError("An emergency list has no terms; expected lines such as: chest + pain* + breath*")
        self._lines = [[_pattern(term.strip()) for term in line.split("+")] for line in lines]

    @classmethod
    def load(cls, path: str) -> "Emergency":
        """Reads a list from a UTF-8 file.

        Raises:
          FileNotFoundError: there is no such file.
          ValueError: the file is not UTF-8, or has no terms.
        """
        return cls(files.read_text(path).splitlines())

    def advice(self, question: str) -> str | None:
        """Returns ADVICE for a question that speaks of an emergency, None for any other."""
        text = re.sub("[\u2019\u00b4`]", "'", cleaning.clean(question).casefold())
        return ADVICE if any(all(term.search(text) for term in line) for line in self._lines) else None


def _pattern(term: str) -> re.Pattern[str]:
    """Returns a pattern of a term as whole words; Chinese has no blanks between words."""
    term, _, not_behind = term.casefold().partition("!")
    letters = re.escape(term.strip()).replace(r"\*", r"\w*").replace(r"\ ", r"\s+")
    if re.search(f"[{_CJK}]", term):
        return re.compile(f"(?<![{not_behind.strip()}]){letters}" if not_behind else letters)
    return re.compile(rf"(?<!\w){letters}(?!\w)")
