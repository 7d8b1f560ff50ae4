"""Asks a stored question as its users might: without its template, inside a sentence, misspelt. By rules, for English.

An index is calibrated on such questions, since nobody asks in the words of the table. Texts in other languages are
misspelt, shortened to their focus, and otherwise left alone.
"""

import random
import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from data_pipeline import cleaning
from data_pipeline.paraphrases import STOP_WORDS, reworded_form, subject

KINDS = ("terms", "rephrased", "asked", "misspelt", "name", "information")
SYNONYM = "synonym"  # a kind that no rule makes: it takes another name of the focus from the corpus
# Kinds that leave out what is asked about the subject: only a question about the subject as a whole remains.
SUBJECT_ALONE = frozenset(("name", "information"))
_ASKED = (
    "can you tell me {q}",
    "hello, i would like to know {q}",
    "my mother is worried. {q}",
    "{q} i could not find anything about it. thank you for your help",
    "i have read a lot, but nobody tells me: {q} thanks",
)
_INFORMATION = (
    "where can i find information on {x}",
    "my doctor says i have {x}, what should i know",
    "i was told that it is {x}. please send me what you have about it",
    "i am looking for information about {x}. thank you",
    "my son has {x}",
)
_ENGLISH = re.compile(r"(?:what|how|who|which|why|when|where|is|are|do|does|can|should|could|will)\b", re.IGNORECASE)
_LONG_WORD = re.compile(r"[A-Za-zÀ-ÿ]{6,}")


class Reworded(NamedTuple):
    """A question in other words.

    Attributes:
      text: The question.
      kind: One of KINDS.
    """

    text: str
    kind: str


def rewordings(question: str, focus: str, draw: random.Random, stored: Collection[int] = ()) -> list[Reworded]:
    """Returns a question in other words, once for each kind that fits.

    Args:
      question: A clean text.
      focus: Its topic. If it is empty or not in the question, the forms of questions of paraphrases.py find one.
      draw: Chooses among the rules of a kind.
      stored: Groups of questions (`cleaning.group`) that would not be other words.
    """
    question, name = _without_marks(question), _name(question, focus)
    own = cleaning.group(question)
    made = []
    for kind, rule in _RULES.items():
        text = rule(question, name, draw)
        text = text.lower() if text and draw.random() < 0.5 else text
        if text and (group := cleaning.group(text)) != own and group not in stored:
            made.append(Reworded(cleaning.clean(text), kind))
    return made


def by_another_name(question: str, focus: str, synonyms: Iterable[str], draw: random.Random) -> str:
    """Returns a question with a synonym in place of its focus; empty if there is no synonym, or no focus in it."""
    question = _without_marks(question)
    known = {cleaning.group(focus), cleaning.group("")}
    others = [other.strip() for other in synonyms if cleaning.group(other) not in known]
    place = question.lower().find(focus.lower())
    if not focus or not others or place < 0:
        return ""
    return cleaning.clean(f"{question[:place]}{draw.choice(others)}{question[place + len(focus) :]}")


def _without_marks(question: str) -> str:
    """Returns a question as it is spoken: tables have "What is (are) X ?" and "X? ?"."""
    return re.sub(r"\s*(?:\((?:is|are)\)|[?\s]+(?=\?$))", "", question)


def _name(question: str, focus: str) -> str:
    is_named = focus and focus.lower() in question.lower()
    return focus if is_named else subject(_without_marks(question)) or ""


def reworded(question: str, focus: str, draw: random.Random) -> str:
    """Returns a question that asks the same in other words, or itself if it is not in English or fits no rule."""
    made = {kind: text for text, kind in rewordings(question, focus, draw) if kind not in SUBJECT_ALONE}
    return draw.choice(list(made.values())) if made.keys() - {"misspelt"} else question


def topic(question: str, focus: str) -> str:
    """Returns what a question is about, in normal form: its focus, else its subject, else the whole question."""
    return cleaning.normal_form(focus or subject(question) or question)


def misspelt(text: str, draw: random.Random) -> str:
    """Returns the text with one slip in a long word: a letter dropped, doubled, or swapped with the next one."""
    words = list(_LONG_WORD.finditer(text))
    if not words:
        return text
    word = draw.choice(words)
    # The first letter is seldom the wrong one.
    place = draw.randrange(word.start() + 1, word.end() - 1)
    slips = [text[place + 1 :], text[place] * 2 + text[place + 1 :]]
    if text[place] != text[place + 1]:
        slips.append(text[place + 1] + text[place] + text[place + 2 :])
    return text[:place] + draw.choice(slips)


def _terms(question: str, name: str, draw: random.Random) -> str:
    """Returns the words that carry meaning, as they are typed into a search box: `measles symptoms`."""
    place = question.lower().find(name.lower()) if name else -1
    rest = question if place < 0 else f"{question[:place]} {question[place + len(name) :]}"
    words = [word for word in re.findall(r"[\w'-]+", rest) if word.lower() not in STOP_WORDS]
    if not words or not _ENGLISH.match(question):
        return ""
    return " ".join(words if place < 0 else draw.choice([[name, *words], [*words, name]]))


def _asked(question: str, name: str, draw: random.Random) -> str:
    if not _ENGLISH.match(question):
        return ""
    return draw.choice(_ASKED).format(q=question[:1].lower() + question[1:])


def _information(question: str, name: str, draw: random.Random) -> str:
    return draw.choice(_INFORMATION).format(x=name) if name and _ENGLISH.match(question) else ""


def _misspelt(question: str, name: str, draw: random.Random) -> str:
    """Returns the question, as it is or as terms, with a slip in its name, or in another word."""
    text = draw.choice([question, _terms(question, name, draw) or question])
    slipped = misspelt(name, draw)
    if name in text and slipped != name:
        return text.replace(name, slipped)
    return misspelt(text, draw)


_RULES: dict[str, Callable[[str, str, random.Random], str]] = {
    "terms": _terms,
    "rephrased": lambda question, name, draw: reworded_form(question, draw) or "",
    "asked": _asked,
    "misspelt": _misspelt,
    "name": lambda question, name, draw: name,
    "information": _information,
}
