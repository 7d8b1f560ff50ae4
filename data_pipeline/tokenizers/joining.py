"""Joins words and marks to a text that reads well: a tokenizer that splits at marks forgets where blanks were."""

import re
from collections.abc import Iterable

# Characters of scripts without blanks between words, with their punctuation.
_NO_BLANKS = re.compile("[\u2e80-\u9fff\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\u3000-\u303f]|[\U00020000-\U0002fa1f]")
_CLOSING, _OPENING = tuple(".,!?;:%)]}\u2019\u201d"), tuple("([{\u2018\u201c")
_THOUSANDS = 3  # digits behind a comma in a number
_INSIDE = "'-/"  # between letters, as in don't and follow-up


def join_words(words: Iterable[str]) -> str:
    """Returns words with blanks between them where English has them; Chinese has none."""
    parts: list[str] = []
    for word in words:
        if parts and _apart(parts, word):
            parts.append(" ")
        parts.append(word)
    return "".join(parts)


def _apart(parts: list[str], word: str) -> bool:
    """Returns whether a blank stands between the words so far and the next one."""
    last = parts[-1]
    if _NO_BLANKS.match(word[:1]) or _NO_BLANKS.match(last[-1:]) or word in _CLOSING or last in _OPENING:
        return False
    if word in _INSIDE:
        return not last[-1:].isalnum()
    before = parts[-2] if len(parts) > 1 else ""
    if last in _INSIDE:
        return not before[-1:].isalnum()
    # 3.5 and 1,000
    in_number = last == "." or (last == "," and len(word) == _THOUSANDS)
    return not (in_number and before[-1:].isdigit() and word.isdigit())
