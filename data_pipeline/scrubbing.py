"""Removes set phrases of forum doctors, links, e-mail addresses and telephone numbers from texts, by flag.

Counts every change. A text stays as it is if nothing would be left of it.
"""

import collections
import dataclasses
import os
import re
from collections.abc import Callable

from data_pipeline.folders import files
from data_pipeline.settings import Settings, setting

BOILERPLATE_FILE = os.path.join(os.path.dirname(__file__), "boilerplate.txt")

_LINK = re.compile(r"\b(?:https?://|www\.)[^\s<>\"]+[^\s<>\".,;:!?)\]]", re.IGNORECASE)
# Bounded, and tried only at the edge of a word, so that the time is linear in the length of the text.
EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}\b")
_UNITS = (
    "mg|mcg|µg|ng|pg|g|kg|ml|l|mmol|iu|units?|k?cal|calories|ppm|mm|cm|m|km|nm|hz|steps|years?|days?|hours?|people"
    "|patients"
)
# Seven digits or more with the marks that people write between them; not dates, doses, ratios or ranges of years.
PHONE = re.compile(
    r"(?<![\w.])(?:\+?\d{1,3}[ .-])?"
    r"(?:\(\d{2,4}\)[ .-]?\d{3,4}[ .-]?\d{3,4}|\d{3}[ .-]\d{3}[ .-]\d{4}"
    rf"|\d{{3}}-\d{{4}}(?!\s?(?:{_UNITS})\b))(?![\w-])"
    r"|(?<!\w)\+\d[\d .-]{7,16}\d(?!\w)"
)
_PUNCTUATION = r"[\s.,;:!-]{0,20}"
_MOST = 9  # phrases at one end: "Hope this helps. Regards." are two
_LONGEST_CLOSING = 400  # characters


@dataclasses.dataclass(frozen=True)
class ScrubSettings(Settings):
    """What to remove from texts; the help beside each field says what it does."""

    boilerplate: str | None = setting(None, "File of set phrases to remove from the ends of answers; none: keep them.")
    mask_links: bool = setting(False, "Replace web addresses with [link].")
    mask_personal: bool = setting(False, "Replace e-mail addresses with [email] and telephone numbers with [phone].")


class Scrubber:
    """Scrubs texts and counts the changes.

    Attributes:
      counts: {change: number of texts}.
    """

    def __init__(self, settings: ScrubSettings):
        self.counts: collections.Counter[str] = collections.Counter()
        self._masks: list[tuple[str, re.Pattern[str], str]] = []
        if settings.mask_links:
            self._masks.append(("links masked", _LINK, "[link]"))
        if settings.mask_personal:
            self._masks.append(("e-mail addresses masked", EMAIL, "[email]"))
            self._masks.append(("telephone numbers masked", PHONE, "[phone]"))
        self._opening, self._closing = _read(settings.boilerplate) if settings.boilerplate else (None, None)

    def mask(self, text: str) -> str:
        """Masks links and personal data in a clean text."""
        for name, pattern, mark in self._masks:
            text = self._counted(name, text, lambda text, p=pattern, m=mark: p.sub(m, text))
        return text

    def answer(self, text: str) -> str:
        """Masks a clean answer, and takes set phrases from its ends."""
        text = self.mask(text) if self._masks else text
        if self._opening:
            text = self._counted("openings removed", text, lambda text: self._opening.sub("", text))
        if self._closing:
            text = self._counted("sign-offs removed", text, self._without_closing)
        return text

    def _without_closing(self, text: str) -> str:
        # Only the end is searched: in a long text, a pattern could begin at every word.
        start = max(0, len(text) - _LONGEST_CLOSING)
        return text[:start] + self._closing.sub("", text[start:])

    def _counted(self, name: str, text: str, change: Callable[[str], str]) -> str:
        changed = change(text).strip()
        if changed == text or not re.search(r"\w", changed):
            return text
        self.counts[name] += 1
        return changed


def _read(path: str) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """Reads a file of patterns; returns one for openings and one for sign-offs, None if the file has none of a kind.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: a line is no pattern; the message names it.
    """
    patterns: dict[str, list[str]] = {"opening": [], "closing": []}
    files.size(path)
    for number, line in enumerate(files.read_text(path).splitlines(), 1):
        kind, _, pattern = line.strip().partition(": ")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            patterns[kind].append(re.compile(pattern).pattern)
        except (KeyError, re.error) as error:
            raise ValueError(
                f"{path} line {number} is no pattern ({error}). Expected opening: or closing: and a regular "
                "expression, a comment (#) or nothing."
            ) from error
    opening, closing = ("|".join(f"(?:{pattern})" for pattern in patterns[kind]) for kind in ("opening", "closing"))
    before, most = r"(?:\A|(?<=[\s.,;:!?-]))", f"{{1,{_MOST}}}"
    return (
        re.compile(rf"\A(?:(?:{opening})(?!\w){_PUNCTUATION}){most}", re.IGNORECASE) if opening else None,
        re.compile(rf"{before}(?:(?:{closing}){_PUNCTUATION}){most}\Z", re.IGNORECASE) if closing else None,
    )
