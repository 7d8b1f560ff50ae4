"""The words of a text in a form that can be compared: keys, and numbers with their units.

    Wording("Asthma isn't treated with 1,000 mg.").keys     # ("asthma", "isn't", "treat", "with", "1000", "mg")
    Wording("Asthma isn't treated with 1,000 mg.").numbers  # (Number("1000", "mg", "1,000 mg"),)

A key is a word without case, accents and English endings, and common synonyms share one. A number has the same key in
figures and in English words. A Chinese or Japanese character has itself and the next character as its key, since no
blanks separate words.
"""

import functools
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from docproduct.answering.evidence import lexicon

_CJK = "\u3040-\u30ff\u3400-\u9fff"
_IS_CJK = re.compile(f"[{_CJK}]")
_WORD = re.compile(rf"[{_CJK}]|\d++(?:[.,]\d+)*+(?![^\W\d_{_CJK}])|[^\W_{_CJK}]+(?:'[^\W\d_{_CJK}]+)?|[%°]")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_ATTACHED_UNIT = re.compile(r"(?<=\d)(?=(?:[mkc]?g|mcg|[mc]?l|mm|cm|iu)\b)", re.IGNORECASE)  # 40mg
# The first ending that leaves enough letters is replaced: (ending, replacement, letters to leave).
_ENDINGS = (
    ("ies", "y", 3), ("ied", "y", 3), ("ments", "", 4), ("ment", "", 4), ("ions", "", 4), ("ion", "", 4),
    ("ings", "", 3), ("ing", "", 3), ("ed", "", 3), ("ss", "ss", 1), ("us", "us", 1), ("is", "is", 1), ("s", "", 3),
)  # fmt: skip
_NEGATING_PREFIX = re.compile(r"(?:un|in|im|ir|il|ab|non|dis|a)(?=\w{4})")


class Number(NamedTuple):
    """A number in a text.

    Attributes:
      value: The value in figures, such as 1000 or 0.5.
      unit: Its unit, by one name however it is written; empty if none follows.
      text: Number and unit as they are written, for messages.
    """

    value: str
    unit: str
    text: str

    def is_in(self, numbers: "Collection[Number]") -> bool:
        """Returns whether one of the numbers has the same value, and the same unit if both have one."""
        return any(n.value == self.value and (n.unit == self.unit or not (n.unit and self.unit)) for n in numbers)


class Wording:
    """A text as words.

    Attributes:
      words: The words as they are written.
      keys: The key of each word.
      numbers: Its numbers, in their order.
      claims: The numbers without the word `one`, which is rather a pronoun.
    """

    def __init__(self, text: str):
        text = _ATTACHED_UNIT.sub(" ", unicodedata.normalize("NFKC", text).replace("’", "'"))
        self.words = tuple(_WORD.findall(text))
        self.keys = tuple(_with_next(*pair) for pair in zip(self.words, (*self.words[1:], ""), strict=False))
        self.numbers = tuple(_numbers(self.words))
        self.claims = tuple(n for n in self.numbers if n.text.split()[0].lower() != "one")


def _with_next(word: str, following: str) -> str:
    """Returns the key of a word; a Chinese or Japanese character takes the next one along."""
    if not _IS_CJK.fullmatch(word):
        return key_of(word)
    return word + following if _IS_CJK.fullmatch(following) else word


@functools.lru_cache(100_000)
def key_of(word: str) -> str:
    """Returns what inflected forms and common synonyms of a word share; of a number, its shortest form."""
    key = _stem(word)
    return _CANONICAL.get(key, key)


def _stem(word: str) -> str:
    word = "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))
    if word in lexicon.NUMBER_WORDS:
        return str(lexicon.NUMBER_WORDS[word])
    if _NUMBER.fullmatch(word):
        return _value(word)
    word = word.removesuffix("'s")
    if not word.isalpha() or len(word) < 4:
        return word
    for ending, replacement, least in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= least:
            word = word.removesuffix(ending) + replacement
            break
    if word[-1] == word[-2] and word[-1] in "bdgmnprt":
        word = word[:-1]  # stopp(ed)
    return word.removesuffix("e") if len(word) > 3 else word


def is_function_word(key: str) -> bool:
    """Returns whether a key is that of a word which says nothing about the matter, such as `the` and `source`."""
    return key in _FUNCTION_KEYS or (not key.isalnum() and "'" not in key)


def is_number(key: str) -> bool:
    """Returns whether a key is that of a number."""
    return _NUMBER.fullmatch(key) is not None


def is_negation(key: str) -> bool:
    """Returns whether a key is that of a word which negates."""
    return lexicon.NEGATION.fullmatch(key) is not None


def is_faint_negation(key: str) -> bool:
    """Returns whether a key may stand for a negation, as that of `unknown` does for `not known`."""
    return key in _FAINT_NEGATIONS or (key.startswith("un") and len(key) > 5)


@functools.lru_cache(100_000)
def are_opposites(key: str, other: str) -> bool:
    """Returns whether two words contradict each other: increase and decrease, hypertension and hypotension."""
    if frozenset((key, other)) in _OPPOSITES:
        return True
    if {key[:4], other[:4]} == {"hypo", "hype"}:
        return key.removeprefix("hypo").removeprefix("hyper") == other.removeprefix("hypo").removeprefix("hyper")
    return any(
        (prefix := _NEGATING_PREFIX.match(a)) and a[prefix.end() :] == b for a, b in ((key, other), (other, key))
    )


def _opposites() -> Iterator[frozenset[str]]:
    for line in lexicon.OPPOSITES:
        some, others = (side.split() for side in line.split("/"))
        yield from (frozenset((key_of(a), key_of(b))) for a in some for b in others)


def _value(figures: str) -> str:
    """Returns figures without superfluous zeros and separators of thousands, with a point for a decimal comma."""
    if _THOUSANDS.fullmatch(figures):
        figures = figures.replace(",", "")
    figures = figures.replace(",", ".")
    return f"{float(figures):.12g}" if figures.count(".") < 2 else figures


def _numbers(words: Sequence[str]) -> Iterator[Number]:
    """Yields the numbers among words; the first of `5 to 10 mg` has the unit of the second."""
    place = 0
    while place < len(words):
        value, end = _number_at(words, place)
        if value is None:
            place += 1
            continue
        unit, num_words = _unit_at(words, end)
        yield Number(value, unit or _unit_of_range(words, end), " ".join(words[place : end + num_words]))
        place = end


def _number_at(words: Sequence[str], place: int) -> tuple[str | None, int]:
    """Returns the value of the number that begins at a place, and the place behind it; None if there is none."""
    if place >= len(words):
        return None, place
    word, end = words[place].lower(), place + 1
    if _NUMBER.fullmatch(word):
        value = _value(word)
    elif word in lexicon.NUMBER_WORDS:
        number = lexicon.NUMBER_WORDS[word]
        ones = lexicon.NUMBER_WORDS.get(words[end].lower(), 0) if end < len(words) else 0
        if number >= 20 and 0 < ones < 10:  # twenty-five
            number, end = number + ones, end + 1
        value = str(number)
    else:
        return None, place
    while end < len(words) and words[end].lower() in lexicon.FACTORS and value.count(".") < 2:
        value, end = f"{float(value) * lexicon.FACTORS[words[end].lower()]:.12g}", end + 1
    return value, end


def _unit_at(words: Sequence[str], place: int) -> tuple[str, int]:
    """Returns the unit at a place and the number of its words; a Chinese unit may have two characters."""
    for num_words in (2, 1):
        unit = lexicon.UNITS.get("".join(words[place : place + num_words]).lower())
        if unit:
            return unit, num_words
    return "", 0


def _unit_of_range(words: Sequence[str], place: int) -> str:
    """Returns the unit of the number that follows directly, or behind a word such as `to`; empty if there is none."""
    if place < len(words) and words[place].lower() in lexicon.BETWEEN_NUMBERS:
        place += 1
    value, end = _number_at(words, place)
    return _unit_at(words, end)[0] if value is not None else ""


_CANONICAL = {_stem(word): _stem(line.split()[0]) for line in lexicon.SYNONYMS for word in line.split()}
_FUNCTION_KEYS = frozenset(map(key_of, (*lexicon.FUNCTION_WORDS, *lexicon.FRAME_WORDS)))
_FAINT_NEGATIONS = frozenset(map(key_of, lexicon.FAINT_NEGATIONS))
_OPPOSITES = frozenset(_opposites())
