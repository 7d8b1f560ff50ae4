"""Which encoding the bytes of a text file have."""

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
# In the wrong byte order, a line break is U+0A00, a comma U+2C00: characters that hardly a text holds.
_MARKS_OF_TEXT = re.compile(r"""[\n\r\t ,;|:"{}\[\]]""")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f]")
_STRAY_SHARE = 0.01  # of a text's characters that may be control characters
_CHINESE_SHARE = 0.3  # of bytes above 0x7f, from which a text is rather GB18030 than a Western encoding


def encoding_of(start: bytes) -> str | None:
    """Returns the encoding of a text file that begins so; None for bytes that are no text.

    Without a byte order mark, UTF-16 and UTF-32 are told by their zero bytes, and by which byte order gives a text with
    line breaks and marks between fields. What is neither of them is taken for UTF-8: reading it tells whether it is.
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
    """Returns how many characters stand between words and fields; 0 where this is not the encoding."""
    text = _decoded(start, encoding)
    if not text or "\x00" in text or _is_binary(text):
        return 0
    return len(_MARKS_OF_TEXT.findall(text))


def likely(content: bytes) -> str:
    """Returns the encoding that a text which is not UTF-8 probably has, as iconv names it."""
    high = sum(byte > 0x7F for byte in content)
    chinese = high > _CHINESE_SHARE * len(content) and _decoded(content, "gb18030") is not None
    return "GB18030" if chinese else "WINDOWS-1252"
