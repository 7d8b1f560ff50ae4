"""Brings texts into a normal form: for reading (`clean`) and for comparing (`group`)."""

import html
import html.entities
import re
import unicodedata

import xxhash

# Control, surrogate and private-use characters, and invisible marks (byte order mark, soft hyphen, zero-width space),
# except the line breaks of str.splitlines(). Joiners (U+200C, U+200D) stay: Persian, Hindi and emoji need them.
_UNREADABLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ue000-\uf8ff\ufeff\u00ad\u200b\u2060\ufffd]"
)
_BLANK_LETTERS = "\u115f\u1160\u2800\u3164\uffa0"  # fillers, which Unicode files under letters and symbols
# How programs write "no value": pandas, R, databases and their clients, JavaScript; what spreadsheets show where a
# formula failed, and Reddit where a text is gone. `none`, `na`, `undefined`, `Null` (German: zero) are words of people.
_NULL_WORD = re.compile(
    r"[+-]?(?:nan|NaN|NAN)|<NaN>|[(<\[]?(?:null|NULL)[)>\]]?|#?[Nn]/[Aa]|#?NA|<NA>|NaT|None|\\N"
    r"|#(?:REF|VALUE|NUM|NULL|DIV/0|ERROR|SPILL|CALC)!|#NAME\?|\[object Object\]|\[(?:deleted|removed)\]"
)
_LONGEST_NULL_WORD = 15
_CLOSING_MARKS = " .?!。？！…"
_BLANK_LINES = re.compile(r"(?:\r\n|[\r\n])[^\S\r\n]*(?:\r\n|[\r\n])\s*")

# The end of an address: white space, a mark that no address holds, or an entity for one of these. But `&lt;=5` is a
# parameter, and an apostrophe may stand inside an address.
_NO_ADDRESS = r"\s<>\"\u3000-\u303f\uff00-\uffef"  # the last two are Chinese and Japanese marks
_END_OF_ADDRESS = (
    r"&(?:lt|gt|quot|[lr]dquo|nbsp|e[mn]sp|thinsp|NewLine|Tab"
    r"|\#0*(?:9|10|13|32|34|60|62|160|822[01])|\#x0*(?:9|a|d|20|22|3c|3e|a0|201[cd]));(?!=)"
    r"|&(?:apos|[lr]squo|[lr]aquo|\#0*(?:39|171|187|821[67])|\#x0*(?:27|ab|bb|201[89]));(?![\w/&])"  # closes
)
_ADDRESS_REST = rf"(?:(?!{_END_OF_ADDRESS})(?:[^{_NO_ADDRESS}()]|\([^{_NO_ADDRESS}()]*\)))*"
# Addresses stay as they are: from `//`, `www.`, `mailto:` or the first `?name=` on, and the name before an @. The parts
# before these hold no entity.
_ADDRESS_OR_ENTITY = re.compile(
    rf"(?:(?://|\bwww\.|\bmailto:|\?[\w.%\[\]-]{{1,64}}=){_ADDRESS_REST}"
    rf"|@[\w.-]{{1,255}}\?{_ADDRESS_REST}"
    r"|(?<![\w.+-])[\w.+-]{1,64}(?:&(?:amp|\#38|\#x26);[\w.+-]{1,64}){1,4}@(?=\w))"
    r"|&(?P<entity>\#[0-9]{1,9}|\#x[0-9a-f]{1,8}|[a-z][a-z0-9]{1,31});",
    re.IGNORECASE,
)


def clean(text: str, entities: bool = True) -> str:
    """Returns `text` as a reader should see it; "" if nothing visible is left.

    Decodes HTML entities (see `decode_entities`), brings Unicode into NFC, and removes control characters and invisible
    marks. A run of white space becomes one line break if it holds one, else one blank. Cleaning a clean text changes
    nothing, unless decoding made a new entity (`&amp;lt;` is the text `&lt;`).

    Args:
      text: any text.
      entities: whether to decode entities; off for texts that a parser of HTML has made.
    """
    if entities and "&" in text:
        text = decode_entities(text)
    if text.isascii() and text.isprintable():  # most texts: visible characters and blanks
        return " ".join(text.split()) if "  " in text else text.strip()
    if not (text.isascii() and text.replace("\n", " ").isprintable()):
        text = unicodedata.normalize("NFC", _UNREADABLE.sub("", text))
        if not any(map(_is_visible, text)):
            return ""
    return "\n".join(filter(None, map(_single_blanks, text.splitlines())))


def clean_paragraphs(text: str, entities: bool = True) -> str:
    """Returns a text whose paragraphs are clean, with a blank line between them; see `clean` for the arguments."""
    parts = _BLANK_LINES.split(text) if "\n" in text or "\r" in text else [text]
    return "\n\n".join(filter(None, (clean(part, entities) for part in parts)))


def decode_entities(text: str) -> str:
    """Returns `text` with its HTML entities decoded, if they are known, end with `;` and stand in no address.

    `AT&T`, `&para` and `R&D;` are text. In a web or e-mail address, `?lang=de&para=7` stays as it is, and so does
    `?a=1&amp;b=2`: nothing tells whether an address was escaped.
    """
    if ";" not in text:
        return text
    if not text.isascii():  # marks that will be removed must not hide an entity
        text = unicodedata.normalize("NFC", _UNREADABLE.sub("", text))
    return _ADDRESS_OR_ENTITY.sub(_decoded, text)


def _decoded(match: re.Match[str]) -> str:
    return (match["entity"] and character_of(match[0])) or match[0]


def character_of(entity: str) -> str:
    """Returns the characters that an entity, from `&` to `;`, stands for; "" for an unknown one."""
    if entity[1:2] != "#" and entity[1:] not in html.entities.html5:
        return ""
    return html.unescape(entity).replace("\ufffd", "")  # for numbers that stand for no character


def _single_blanks(line: str) -> str:
    """Returns a line with one blank for each run of white space, and no blank at its ends."""
    # Of all white space, only the blank is printable.
    return " ".join(line.split()) if "  " in line or not line.isprintable() else line.strip()


def _is_visible(character: str) -> bool:
    """Returns whether a character is a letter, number, mark of punctuation or symbol that leaves ink."""
    return unicodedata.category(character)[0] in "LNPS" and character not in _BLANK_LETTERS


def is_null_word(text: str) -> bool:
    """Returns whether a clean text is just a word for "no value", such as NULL, nan or N/A."""
    return len(text) <= _LONGEST_NULL_WORD and _NULL_WORD.fullmatch(text) is not None


def normal_form(text: str) -> str:
    """Returns a form that equal texts share: case, line breaks and closing marks make no difference."""
    folded = unicodedata.normalize("NFC", text.casefold()).replace("\n", " ")
    return folded.rstrip(_CLOSING_MARKS) or folded


def hash64(text: str) -> int:
    """Returns a 64-bit hash that is the same on every machine, as a signed number, which TFRecord and Parquet hold.

    Source: XXH3 (Collet), whose values are fixed.
    """
    value = xxhash.xxh3_64_intdigest(text.encode())
    return value - 2**64 if value >= 2**63 else value


def group(text: str) -> int:
    """Returns the hash of a clean text in normal form: equal texts have one group."""
    return hash64(normal_form(text))


def pair_id(question: str, answer: str) -> int:
    """Returns the id of a pair: the hash of its content, which outlives a change of order or of files."""
    return hash64(f"{question}\0{answer}")
