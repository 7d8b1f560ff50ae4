"""Recognises the encoding of a text file by its bytes."""

import codecs
import re

_MARKS = (  # longest first: that of UTF-32-LE begins with that of UTF-16-LE
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
# In the wrong byte order, a line break is U+0A00 and a comma U+2C00: hardly any text holds these characters.
_MARKS_OF_TEXT = re.compile(r"""[\n\r\t ,;|:"{}\[\]]""")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_STRAY_SHARE = 0.01  # largest share of control characters in a text
_CHINESE_SHARE = 0.3  # share of bytes above 0x7f from which GB18030 is likelier than a Western encoding


def encoding_of(start: bytes) -> str | None:
    """Returns the encoding of a text file by its first bytes; None for bytes that are no text.

    Without a byte order mark, zero bytes tell UTF-16 and UTF-32, and the byte order is the one that gives a text with
    line breaks and marks between fields. Everything else counts as UTF-8, until reading it fails.
    """
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if start.count(0) <= len(start) * _STRAY_SHARE and (_decoded(start, "utf-8") or b"\x00" not in start):
        return None if _is_binary(start.decode("latin-1")) else "utf-8"
    marks = {encoding: _marks(start, encoding) for encoding in _WIDE}
    return max(marks, key=marks.__getitem__) if any(marks.values()) else None


def _decoded(start: bytes, encoding: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(encoding)().decode(start)  # the last character may be cut off
    except UnicodeDecodeError:
        return None


def _is_binary(text: str) -> bool:
    return len(_CONTROLS.findall(text)) > len(text) * _STRAY_SHARE


def _marks(start: bytes, encoding: str) -> int:
    """Returns the number of characters that separate words and fields; 0 if this is not the encoding."""
    text = _decoded(start, encoding)
    if not text or "\x00" in text or _is_binary(text):
        return 0
    return len(_MARKS_OF_TEXT.findall(text))


def is_chinese(start: bytes) -> bool:
    """Returns whether a file that begins with these bytes is likely to be in GB18030, or in its part GBK."""
    is_plain = encoding_of(start) == "utf-8" and _decoded(start, "utf-8") is None
    return is_plain and likely(start) == "GB18030"


def likely(content: bytes) -> str:
    """Returns the likely encoding of a text that is not UTF-8, by iconv's name."""
    high = sum(byte > 0x7F for byte in content)
    chinese = high > _CHINESE_SHARE * len(content) and _decoded(content, "gb18030") is not None
    return "GB18030" if chinese else "WINDOWS-1252"
