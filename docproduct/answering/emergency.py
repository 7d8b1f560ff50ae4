"""Questions that speak of an emergency: they get a line to seek help at once, before any answer.

The list, emergency.txt, is a list of words: it misses what is said in other words, and finds it in questions that only
ask about it. Better once too often.
"""

import functools
import pathlib
import re

from data_pipeline import cleaning

ADVICE = (
    "If this is happening now, do not wait for an answer here: call your local emergency number (112 in the European "
    "Union, 999 in the United Kingdom, 911 in the United States, 120 in China) or go to the nearest emergency "
    "department. If you think of harming yourself, call a crisis line, such as 988 in the United States, or talk to "
    "someone near you."
)
_LIST = pathlib.Path(__file__).with_name("emergency.txt")
_CJK = "\u3400-\u9fff"


def advice(question: str) -> str | None:
    """Returns what to do at once, None for a question that speaks of no emergency."""
    text = re.sub("[\u2019\u00b4`]", "'", cleaning.clean(question).casefold())
    return ADVICE if any(all(term.search(text) for term in terms) for terms in _patterns()) else None


@functools.cache
def _patterns() -> tuple[tuple[re.Pattern[str], ...], ...]:
    """Returns a tuple of terms for each line of the list; all of them must be there."""
    lines = (line.split("#")[0].strip() for line in _LIST.read_text(encoding="utf-8").splitlines())
    return tuple(tuple(_pattern(term.strip()) for term in line.split("+")) for line in lines if line)


def _pattern(term: str) -> re.Pattern[str]:
    """Returns what finds a term as whole words; a * stands for any letters; Chinese has no blanks between words.

    A Chinese character after ! must not stand before the term, with which it would be another word.
    """
    term, _, not_before = term.casefold().partition("!")
    letters = re.escape(term.strip()).replace(r"\*", r"\w*").replace(r"\ ", r"\s+")
    if re.search(f"[{_CJK}]", term):
        return re.compile(f"(?<![{not_before.strip()}]){letters}" if not_before else letters)
    return re.compile(rf"(?<!\w){letters}(?!\w)")
