"""Normal form of a text: for reading (`clean`) and for comparing (`group`)."""

import html
import html.entities
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
# How programs write "no value": pandas, R, databases and their clients, JavaScript; what spreadsheets show where a
# formula failed, and Reddit where a text is gone. `none`, `na`, `undefined`, `Null` (German: zero) are words of people.
_NULL_WORD = re.compile(
    r"[+-]?(?:nan|NaN|NAN)|<NaN>|[(<\[]?(?:null|NULL)[)>\]]?|#?[Nn]/[Aa]|#?NA|<NA>|NaT|None|\\N"
    r"|#(?:REF|VALUE|NUM|NULL|DIV/0|ERROR|SPILL|CALC)!|#NAME\?|\[object Object\]|\[(?:deleted|removed)\]"
)
_LONGEST_NULL_WORD = 15
_CLOSING_MARKS = " .?!。？！…"

# What ends an address: white space, marks that no address holds, and entities that stand for these; but `&lt;=5` is a
# parameter, and an apostrophe may stand inside.
_NO_ADDRESS = r"\s<>\"\u3000-\u303f\uff00-\uffef"  # the last two are Chinese and Japanese marks
_END_OF_ADDRESS = (
    r"&(?:lt|gt|quot|[lr]dquo|nbsp|e[mn]sp|thinsp|NewLine|Tab"
    r"|\#0*(?:9|10|13|32|34|60|62|160|822[01])|\#x0*(?:9|a|d|20|22|3c|3e|a0|201[cd]));(?!=)"
    r"|&(?:apos|[lr]squo|[lr]aquo|\#0*(?:39|171|187|821[67])|\#x0*(?:27|ab|bb|201[89]));(?![\w/&])"  # closes
)
_ADDRESS_REST = rf"(?:(?!{_END_OF_ADDRESS})(?:[^{_NO_ADDRESS}()]|\([^{_NO_ADDRESS}()]*\)))*"
# Addresses, to be left as they are: from `//`, `www.`, `mailto:` or the first `?name=` on; and a name before an @.
# Whatever stands before these holds no entity.
_ADDRESS_OR_ENTITY = re.compile(
    rf"(?:(?://|\bwww\.|\bmailto:|\?[\w.%\[\]-]{{1,64}}=){_ADDRESS_REST}"
    rf"|@[\w.-]{{1,255}}\?{_ADDRESS_REST}"
    r"|(?<![\w.+-])[\w.+-]{1,64}(?:&(?:amp|\#38|\#x26);[\w.+-]{1,64}){1,4}@(?=\w))"
    r"|&(?P<entity>\#[0-9]{1,9}|\#x[0-9a-f]{1,8}|[a-z][a-z0-9]{1,31});",
    re.IGNORECASE,
)


def clean(text: str, entities: bool = True) -> str:
    """Returns `text` as a reader should see it.

    HTML entities are decoded (see `decode_entities`), Unicode is in NFC, control characters and invisible marks are
    gone, a run of white space with a line break is one line break and any other run one blank; where nothing visible is
    left, it is "". Cleaning a clean text changes nothing, unless decoding left another entity behind (`&amp;lt;` is the
    text `&lt;`). Where `entities` is off, they stay: the text is one that a parser of HTML has made.
    """
    if entities and "&" in text:
        text = decode_entities(text)
    if text.isascii() and text.isprintable():  # most texts: nothing but blanks between visible characters
        return " ".join(text.split()) if "  " in text else text.strip()
    if not (text.isascii() and text.replace("\n", " ").isprintable()):
        text = unicodedata.normalize("NFC", _UNREADABLE.sub("", text))
        if not any(map(_is_visible, text)):
            return ""
    return "\n".join(filter(None, map(_single_blanks, text.splitlines())))


def decode_entities(text: str) -> str:
    """Returns `text` with its HTML entities decoded: known ones that end with `;`, and stand in no address.

    `AT&T`, `&para` and `R&D;` are text. `?lang=de&para=7` in a web or e-mail address is left as it is, and so is
    `?a=1&amp;b=2`: whether an address was escaped cannot be told from it.
    """
    if ";" not in text:
        return text
    if not text.isascii():  # marks that are about to go must not hide an entity
        text = unicodedata.normalize("NFC", _UNREADABLE.sub("", text))
    return _ADDRESS_OR_ENTITY.sub(_decoded, text)


def _decoded(match: re.Match[str]) -> str:
    return (match["entity"] and character_of(match[0])) or match[0]


def character_of(entity: str) -> str:
    """Returns the characters that an entity, from `&` to `;`, stands for; "" if it is not known."""
    if entity[1:2] != "#" and entity[1:] not in html.entities.html5:
        return ""
    return html.unescape(entity).replace("\ufffd", "")  # which stands for numbers that are no character's


def _single_blanks(line: str) -> str:
    """Returns a line with one blank for each run of white space, and none at its ends."""
    # Of all white space, only the blank is printable.
    return " ".join(line.split()) if "  " in line or not line.isprintable() else line.strip()


def _is_visible(character: str) -> bool:
    """Whether it is a letter, number, mark of punctuation or symbol that leaves ink."""
    return unicodedata.category(character)[0] in "LNPS" and character not in _BLANK_LETTERS


def is_null_word(text: str) -> bool:
    """Returns whether a clean text is nothing but a word for "no value", such as NULL, nan or N/A."""
    return len(text) <= _LONGEST_NULL_WORD and _NULL_WORD.fullmatch(text) is not None


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
