"""What is taken out of texts by flag: forum doctors' set phrases, links, e-mail addresses, telephone numbers.

Every change is counted. A text of which nothing would be left stays as it is.
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
# Bounded, and begun only at the edge of a word: a long row of such characters costs no more than its length.
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}\b")
_UNITS = (
    "mg|mcg|µg|g|kg|ml|l|mmol|iu|units?|k?cal|calories|ppm|mm|cm|m|km|nm|hz|steps|years?|days?|hours?|people|patients"
)
# Seven digits or more with the marks that people write between them; not dates, doses, ratios or ranges of years.
_PHONE = re.compile(
    r"(?<![\w.])(?:\+?\d{1,3}[ .-])?"
    r"(?:\(\d{2,4}\)[ .-]?\d{3,4}[ .-]?\d{3,4}|\d{3}[ .-]\d{3}[ .-]\d{4}"
    rf"|\d{{3}}-\d{{4}}(?!\s?(?:{_UNITS})\b))(?![\w-])"
    r"|(?<!\w)\+\d[\d .-]{7,16}\d(?!\w)"
)
_PUNCTUATION = r"[\s.,;:!-]{0,20}"
_MOST = 9  # phrases taken from an end: "Hope this helps. Regards." are two
_LONGEST_CLOSING = 400  # characters


@dataclasses.dataclass(frozen=True)
class ScrubSettings(Settings):
    """What is taken out."""

    boilerplate: str | None = setting(None, "File of set phrases that are taken from answers; none: nothing is.")
    mask_links: bool = setting(False, "Put [link] for web addresses.")
    mask_personal: bool = setting(False, "Put [email] and [phone] for e-mail addresses and telephone numbers.")


class Scrubber:
    """Applies the settings to texts, and counts.

    Attributes:
      counts: {what was done: texts it was done to}.
    """

    def __init__(self, settings: ScrubSettings):
        self.counts: collections.Counter[str] = collections.Counter()
        self._masks: list[tuple[str, re.Pattern[str], str]] = []
        if settings.mask_links:
            self._masks.append(("links masked", _LINK, "[link]"))
        if settings.mask_personal:
            self._masks.append(("e-mail addresses masked", _EMAIL, "[email]"))
            self._masks.append(("telephone numbers masked", _PHONE, "[phone]"))
        self._opening, self._closing = _read(settings.boilerplate) if settings.boilerplate else (None, None)

    def question(self, text: str) -> str:
        """Masks a clean question."""
        for name, pattern, mark in self._masks:
            text = self._counted(name, text, lambda text, p=pattern, m=mark: p.sub(m, text))
        return text

    def answer(self, text: str) -> str:
        """Masks a clean answer and takes set phrases from its ends."""
        text = self.question(text) if self._masks else text
        if self._opening:
            text = self._counted("openings removed", text, lambda text: self._opening.sub("", text))
        if self._closing:
            text = self._counted("sign-offs removed", text, self._without_closing)
        return text

    def _without_closing(self, text: str) -> str:
        # Only the end is searched: a pattern may begin at every word of a long text.
        start = max(0, len(text) - _LONGEST_CLOSING)
        return text[:start] + self._closing.sub("", text[start:])

    def _counted(self, name: str, text: str, change: Callable[[str], str]) -> str:
        changed = change(text).strip()
        if changed == text or not re.search(r"\w", changed):
            return text
        self.counts[name] += 1
        return changed


def _read(path: str) -> tuple[re.Pattern[str] | None, re.Pattern[str] | None]:
    """Reads a file of patterns.

    Raises:
      FileNotFoundError: there is none.
      ValueError: a line is no pattern; the message names it.
    """
    found: dict[str, list[str]] = {"opening": [], "closing": []}
    files.size(path)
    for number, line in enumerate(files.read_text(path).splitlines(), 1):
        kind, _, pattern = line.strip().partition(": ")
        if not line.strip() or line.startswith("#"):
            continue
        try:
            found[kind].append(re.compile(pattern).pattern)
        except (KeyError, re.error) as error:
            raise ValueError(
                f"{path} line {number} is no pattern ({error}). Expected opening: or closing: and a regular "
                "expression, a comment (#) or nothing."
            ) from error
    opening, closing = ("|".join(f"(?:{pattern})" for pattern in found[kind]) for kind in ("opening", "closing"))
    before, most = r"(?:\A|(?<=[\s.,;:!?-]))", f"{{1,{_MOST}}}"
    return (
        re.compile(rf"\A(?:(?:{opening})(?!\w){_PUNCTUATION}){most}", re.IGNORECASE) if opening else None,
        re.compile(rf"{before}(?:(?:{closing}){_PUNCTUATION}){most}\Z", re.IGNORECASE) if closing else None,
    )
