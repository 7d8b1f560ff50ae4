"""Notes texts that an earlier program seems to have damaged. They are kept unchanged."""

import re

from data_pipeline.corpora.reading import Refusals

# How pandas and Hugging Face datasets write a list or a dict into CSV, and how JSON looks in a field.
_LISTED = re.compile(r"""\s*(\[\s*(['"{\[]|array\().*\]|\{\s*['"].*\})\s*""", re.DOTALL)
# UTF-8 that was read as Windows-1252: letters with accents, curly quotes, dashes.
_WRONG_ENCODING = re.compile(
    "Ã[\u0080-\u00bf\u0152-\u0161\u0178-\u017e\u0192\u02c6\u2013-\u203a\u20ac\u2122]|â€[™œ“”˜¦\u009d]"
)
_IN_QUOTES = re.compile(r"'.+'|=\".*\"", re.DOTALL)
_LIST_STARTS, _QUOTE_STARTS = ("[", "{", " "), ("'", "=")
_SUSPECT = (*_LIST_STARTS, *_QUOTE_STARTS)

LISTED = "a text looks like a list or an object, and is kept as it is: JSON Lines or Parquet keep its texts apart"
LOST = "a text has marks of characters that were lost before (U+FFFD), which are left out"
WRONG_ENCODING = "a text looks like UTF-8 that was read as Windows-1252, and is kept as it is"
QUOTED = 'question and answer stand in single quotes or in ="...", and are kept as they are'


def note(question: str, answer: str, where: str, refusals: Refusals) -> None:
    """Notes damage in the texts of a pair."""
    if (
        question.isascii()
        and answer.isascii()
        and not question.startswith(_SUSPECT)
        and not answer.startswith(_SUSPECT)
    ):
        return  # most pairs: they need no more time
    for text in (question, answer):
        if text.startswith(_LIST_STARTS) and _LISTED.fullmatch(text):
            refusals.note(LISTED, where)
        if "\ufffd" in text:
            refusals.note(LOST, where)
        if ("Ã" in text or "â€" in text) and _WRONG_ENCODING.search(text):
            refusals.note(WRONG_ENCODING, where)
    if question.startswith(_QUOTE_STARTS) and _IN_QUOTES.fullmatch(question) and _IN_QUOTES.fullmatch(answer):
        refusals.note(QUOTED, where)
