"""Normal form of a text: for reading (`clean`) and for comparing (`group`)."""

import hashlib
import html
import re
import unicodedata

_LINE_BREAKS = re.compile(r"\r\n?|[\u0085\u2028\u2029\v\f]")
_BREAK_RUN = re.compile(r"[^\S\n]*\n\s*")
_BLANK_RUN = re.compile(r"[^\S\n]+")
# Control, surrogate and private-use characters, and invisible marks (byte order mark, soft hyphen, zero-width space).
# Joiners (U+200C, U+200D) stay: Persian, Hindi and emoji need them.
_UNREADABLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\ufeff\u00ad\u200b\u2060\ufffd]")
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # fillers, which Unicode files under letters and symbols
_CLOSING_MARKS = " .?!。？！…"


def clean(text: str) -> str:
    """Returns `text` as a reader should see it.

    HTML entities are decoded, Unicode is in NFC, control characters and invisible marks are gone, a run of white space
    with a line break is one line break and any other run one blank; where nothing visible is left, it is "". Cleaning a
    clean text changes nothing, unless decoding left another entity behind (`&amp;lt;` is the text `&lt;`).
    """
    text = _LINE_BREAKS.sub("\n", html.unescape(text))
    text = unicodedata.normalize("NFC", _UNREADABLE.sub("", text))
    text = _BLANK_RUN.sub(" ", _BREAK_RUN.sub("\n", text)).strip()
    return text if text.isascii() or any(map(_is_visible, text)) else ""


def _is_visible(character: str) -> bool:
    """Whether it is a letter, number, mark of punctuation or symbol that leaves ink."""
    return unicodedata.category(character)[0] in "LNPS" and character not in _BLANK_LETTERS


def normal_form(text: str) -> str:
    """Returns what two texts share that say the same to a reader: case, white space and closing marks do not count."""
    folded = " ".join(unicodedata.normalize("NFC", text.casefold()).split())
    return folded.rstrip(_CLOSING_MARKS) or folded


def hash64(text: str) -> int:
    """Returns a 64-bit hash that is the same on every machine, as a signed number (what TFRecord and Parquet hold)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


def group(text: str) -> int:
    """Returns the hash of a text in normal form: equal texts are one group."""
    return hash64(normal_form(text))


def pair_id(question: str, answer: str) -> int:
    """Returns the id of a pair: the hash of its content, so that it outlives a change of order or of files."""
    return hash64(f"{question}\0{answer}")
