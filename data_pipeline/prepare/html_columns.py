"""Decides which columns of a file hold HTML, and turns it into text."""

import collections
import itertools

from data_pipeline import cleaning, markup
from data_pipeline.corpora import Reader, Refusals
from data_pipeline.folders.prepared_settings import PrepareSettings
from data_pipeline.prepare.job import HtmlColumns
from data_pipeline.schemas import TEXT, Field

_ROWS = 1_000  # first rows of a file, which decide about its columns
TAGS, ESCAPED = "tags", "escaped tags"  # <p> and &lt;p&gt;


def find(settings: PrepareSettings, path: str, reader: Reader) -> HtmlColumns:
    """Returns the columns whose HTML is turned into text: those where most texts of the first rows hold it."""
    if settings.html == "keep":
        return {}
    tally = {field: collections.Counter() for field in reader.schema.content}
    for _, row in itertools.islice(reader.read(path, settings.columns, Refusals()), _ROWS):
        for field, kinds in tally.items():
            value = getattr(row, field.name)
            kinds.update(map(_kind, [value] if field.kind == TEXT else value))
    decided = {field.name: _decided(kinds, settings.html == "text") for field, kinds in tally.items()}
    return {name: kind for name, kind in decided.items() if kind}


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


def clean(text: str, field: Field, columns: HtmlColumns, changed: collections.Counter[str]) -> str:
    """Returns a clean text, without HTML if its column is one of HTML; counts the texts that hold it."""
    kind = columns.get(field.name)
    source = text
    if kind == ESCAPED and not markup.holds_markup(text):  # beside tags, escaped ones are text
        source = cleaning.decode_entities(text)
    cleaned = cleaning.clean_paragraphs if field.paragraphs else cleaning.clean
    if not markup.holds_markup(source):
        return cleaned(text)
    if kind is None:
        changed[f"{field.plural} with HTML tags, kept"] += 1
        return cleaned(text)
    changed[f"{field.plural} turned from HTML into text"] += 1
    return cleaned(markup.to_text(source), entities=False)
