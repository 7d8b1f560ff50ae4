"""Personal data: what is counted, and the mask that every text of a report wears.

The patterns find what has a form: addresses, numbers, names behind a title or behind "my name is". They miss other
names, and telephone numbers of organisations count as well.
"""

import collections
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from data_pipeline import cleaning
from data_pipeline.report.tally import Examples
from data_pipeline.scrubbing import EMAIL, PHONE

_NAME_WORD = r"[^\W\d_]{2,20}"


class _Kind(NamedTuple):
    """A kind of personal data.

    Attributes:
      name: what it is, for several.
      mark: what it is replaced with.
      hint: found in every text with such data, and quick to look for.
      pattern: of the data; a group `kept` stays.
      accepts: whether a match is one.
    """

    name: str
    mark: str
    hint: re.Pattern[str]
    pattern: re.Pattern[str]
    accepts: Callable[[str], bool] = bool


def _passes_luhn(number: str) -> bool:
    """Returns whether the check digit of a card number is right."""
    digits = [int(digit) for digit in reversed(number) if digit.isdigit()]
    doubled = (sum(divmod(2 * digit, 10)) for digit in digits[1::2])
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


_DIGITS = re.compile(r"\d{3}")
_KINDS = (
    _Kind("e-mail addresses", "[email]", re.compile("@"), EMAIL),
    _Kind(
        "card numbers",
        "[card]",
        _DIGITS,
        re.compile(r"(?<![\w.-])\d{4}(?:[ -]?\d{4}){2}[ -]?\d{1,7}(?![\w-])"),
        _passes_luhn,
    ),
    _Kind(
        "identity numbers",
        "[id]",
        _DIGITS,
        re.compile(
            r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\w-])"  # social security number, USA
            r"|(?<!\d)\d{6}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[\dXx](?!\d)"  # China
        ),
    ),
    _Kind("telephone numbers", "[phone]", _DIGITS, PHONE),
    _Kind(  # in one piece: North America, China
        "telephone numbers",
        "[phone]",
        _DIGITS,
        re.compile(r"(?<![\w.])(?:[2-9]\d\d[2-9]\d{6}|1[3-9]\d{9})(?![\w-]|\.\d)"),
    ),
    _Kind(  # numbers of enzymes (EC 3.4.21.5) begin with one digit
        "IP addresses",
        "[ip]",
        _DIGITS,
        re.compile(r"(?<![\d.])[12]?\d\d(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}(?![\d.])"),
    ),
    _Kind(
        "names behind a title",
        "[name]",
        re.compile(r"\b(?:Dr|Mr|Mrs|Ms|Prof)\b"),
        re.compile(
            rf"(?P<kept>\b(?:Dr|Mr|Mrs|Ms|Prof)\b\.?\s+)(?:[A-Z]\.?\s+)?(?=[A-Z]){_NAME_WORD}(?:\s+(?=[A-Z]){_NAME_WORD})?"
        ),
    ),
    _Kind(
        "names behind a sign-off",
        "[name]",
        re.compile("[Rr]egards"),
        re.compile(
            rf"(?P<kept>\b[Rr]egards,\s+)(?!Dr|Mr|Ms|Prof)(?=[A-Z]){_NAME_WORD}(?:\s+(?=[A-Z]){_NAME_WORD})?"
            r"(?=[.,\r\n]|\s*\Z)"
        ),
    ),
    _Kind(
        "names that writers give",
        "[name]",
        re.compile("[Nn]ame|NAME"),
        re.compile(
            rf"(?P<kept>\bmy\s+(?:full\s+)?name(?:\s+is|'s)\s+){_NAME_WORD}(?:\s+(?-i:[A-Z]){_NAME_WORD}){{0,2}}", re.I
        ),
    ),
)
_ANY_HINT = re.compile(r"@|\d{3}|\b(?:Dr|Mr|Mrs|Ms|Prof)\b|[Nn]ame|NAME|[Rr]egards")
_MARKS = re.compile("|".join(re.escape(mark) for mark in dict.fromkeys(kind.mark for kind in _KINDS)))
_SHOWN_CHARACTERS = 280
_BEFORE = 60  # characters shown before a hit


def masked(text: str) -> tuple[str, collections.Counter[str]]:
    """Returns a text with marks in place of personal data, and the number of hits by kind."""
    hits: collections.Counter[str] = collections.Counter()
    if not _ANY_HINT.search(text):
        return text, hits
    for kind in _KINDS:
        if kind.hint.search(text):

            def replaced(match: re.Match[str], kind: _Kind = kind) -> str:
                if not kind.accepts(match[0]):
                    return match[0]
                hits[kind.name] += 1
                return f"{match.groupdict().get('kept') or ''}{kind.mark}"

            text = kind.pattern.sub(replaced, text)
    return text, hits


def shown(text: str, characters: int = _SHOWN_CHARACTERS) -> str:
    """Returns the beginning of a text in one line, masked before it is cut: all that a report shows passes here."""
    return _cut(_line(text), 0, characters)


def _line(text: str) -> str:
    """Returns a masked text in one line; its entities are decoded first, as cleaning does it."""
    return " ".join(masked(cleaning.decode_entities(text))[0].split())


def _cut(text: str, start: int, characters: int) -> str:
    end = start + characters
    return f"{'…' * (start > 0)}{text[start:end].strip()}{'…' * (end < len(text))}"


def around(text: str, pattern: re.Pattern[str], characters: int = _SHOWN_CHARACTERS) -> str:
    """Returns what stands around the first match of a pattern in a masked text, in one line."""
    line = _line(text)
    match = pattern.search(line)
    return _cut(line, max(0, match.start() - _BEFORE) if match else 0, characters)


class PersonalData:
    """Masks personal data in all rows, and counts it."""

    def __init__(self, num_examples: int):
        self._hits: collections.Counter[str] = collections.Counter()
        self._rows_of_kind: collections.Counter[str] = collections.Counter()
        self._rows = 0
        self._examples = {kind.name: Examples(num_examples) for kind in _KINDS}

    def masked_rows(self, rows: Sequence[Any]) -> list[Any]:
        """Returns rows with masked questions and answers; their hashes stay those of the texts as they were."""
        return [self._masked(row) for row in rows]

    def _masked(self, row: Any) -> Any:
        question, hits = masked(row.question)
        answer, hits_in_answer = masked(row.answer)
        found = hits + hits_in_answer
        if not found:
            return row
        self._rows += 1
        self._hits += found
        self._rows_of_kind.update(found.keys())
        for name in found:
            text = question if name in hits else answer
            self._examples[name].add(row.where, lambda text=text: around(text, _MARKS))
        return row._replace(question=question, answer=answer)

    def numbers(self) -> dict[str, Any]:
        """Returns the rows with any hit, and hits, rows and masked examples of each kind."""
        kinds = [
            {"kind": name, "hits": self._hits[name], "rows": self._rows_of_kind[name], "examples": examples.listed()}
            for name, examples in self._examples.items()
        ]
        return {"rows": self._rows, "kinds": kinds}
