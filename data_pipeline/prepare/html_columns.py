"""Which columns of which files hold HTML, and their texts without it."""

import collections
import itertools

from data_pipeline import cleaning, markup
from data_pipeline.corpora import Refusals, read_pairs
from data_pipeline.folders.prepared import SIDES
from data_pipeline.prepare.settings import Settings

_ROWS = 1_000  # of a file, by which its columns are judged
TAGS, ESCAPED = "tags", "escaped tags"  # <p> and &lt;p&gt;

HtmlColumns = dict[str, str]  # {side: TAGS or ESCAPED}, for those sides of a file whose HTML is turned into text


def find(settings: Settings, path: str) -> HtmlColumns:
    """Returns the columns of a file whose HTML is turned into text: where most texts of its first rows hold some."""
    if settings.html == "keep":
        return {}
    tally = {side: collections.Counter() for side in SIDES}
    for _, pair in itertools.islice(read_pairs(path, settings.columns, Refusals()), _ROWS):
        for side in SIDES:
            tally[side][_kind(getattr(pair, side))] += 1
    return {side: kind for side in SIDES if (kind := _decided(tally[side], settings.html == "text"))}


def _decided(tally: dict[str, int], always: bool) -> str:
    half = (tally[TAGS] + tally[ESCAPED] + tally["text"]) / 2
    if tally[ESCAPED] > half:
        return ESCAPED
    return TAGS if always or tally[TAGS] > half else ""


def _kind(text: str) -> str:
    if markup.holds_markup(text):
        return TAGS
    if "&lt;" in text and markup.holds_markup(cleaning.decode_entities(text)):
        return ESCAPED
    return "empty" if not text.strip() or cleaning.is_null_word(text.strip()) else "text"


def clean(text: str, side: str, columns: HtmlColumns, changed: collections.Counter[str]) -> str:
    """Returns a clean text, without HTML if it stands in a column of it; counts what held HTML."""
    kind = columns.get(side)
    source = text
    if kind == ESCAPED and not markup.holds_markup(text):  # what is escaped beside tags is text
        source = cleaning.decode_entities(text)
    if not markup.holds_markup(source):
        return cleaning.clean(text)
    if kind is None:
        changed[f"{side}s with HTML tags, kept"] += 1
        return cleaning.clean(text)
    changed[f"{side}s turned from HTML into text"] += 1
    return cleaning.clean(markup.to_text(source), entities=False)
