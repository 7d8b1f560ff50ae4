"""Normal form of a text: for reading (`clean`) and for comparing (`group`)."""

import html
import re
import unicodedata

import xxhash

# Control, surrogate and private-use characters, and invisible marks (byte order mark, soft hyphen, zero-width space).
# Not those that str.splitlines() takes for line breaks. Joiners (U+200C, U+200D) stay: Persian, Hindi and emoji need
# them.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ue000-\uf8ff\ufeff\u00ad\u200b\u2060\ufffd]"
)
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # fillers, which Unicode files under letters and symbols
_CLOSING_MARKS = " .?!。？！…"


def clean(text: str) -> str:
    """Returns `text` as a reader should see it.

    HTML entities are decoded, Unicode is in NFC, control characters and invisible marks are gone, a run of white space
    with a line break is one line break and any other run one blank; where nothing visible is left, it is "". Cleaning a
    clean text changes nothing, unless decoding left another entity behind (`&amp;lt;` is the text `&lt;`).
    """
    text = html.unescape(text)
    if text.isascii() and text.isprintable():  # most texts: nothing but blanks between visible characters
        return " ".join(text.split()) if "  " in text else text.strip()
    if not (text.isascii() and text.replace("\n", " ").isprintable()):
        text = unicodedata.normalize("NFC", _UNREADABLE.sub("", text))
        if not any(map(_is_visible, text)):
            return ""
    return "\n".join(filter(None, map(_single_blanks, text.splitlines())))


def _single_blanks(line: str) -> str:
    """Returns a line with one blank for each run of white space, and none at its ends."""
    # Of all white space, only the blank is printable.
    return " ".join(line.split()) if "  " in line or not line.isprintable() else line.strip()


def _is_visible(character: str) -> bool:
    """Whether it is a letter, number, mark of punctuation or symbol that leaves ink."""
    return unicodedata.category(character)[0] in "LNPS" and character not in _BLANK_LETTERS


def normal_form(text: str) -> str:
    """Returns what two clean texts share that say the same: case, line breaks and closing marks do not count."""
    folded = unicodedata.normalize("NFC", text.casefold()).replace("\n", " ")
    return folded.rstrip(_CLOSING_MARKS) or folded


def hash64(text: str) -> int:
    """Returns a 64-bit hash that is the same on every machine, as a signed number (what TFRecord and Parquet hold).

    Source: XXH3 (Collet), whose values are fixed.
    """
    value = xxhash.xxh3_64_intdigest(text.encode())
    return value - 2**64 if value >= 2**63 else value


def group(text: str) -> int:
    """Returns the hash of a clean text in normal form: equal texts are one group."""
    return hash64(normal_form(text))


def pair_id(question: str, answer: str) -> int:
    """Returns the id of a pair: the hash of its content, so that it outlives a change of order or of files."""
    return hash64(f"{question}\0{answer}")
