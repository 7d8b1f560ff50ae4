"""Words as a report counts them: runs of letters and digits; a Chinese character is a word."""

import re

from data_pipeline.tokenizers.wordpiece import CHINESE

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words_of(text: str) -> list[str]:
    """Returns the words of a text, in lower case."""
    text = text.casefold()
    return _WORD.findall(text if text.isascii() else CHINESE.sub(r" \g<0> ", text))
