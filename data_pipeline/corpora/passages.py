"""Reads passages: documents, other formats, and tables with a column of texts, such as the answers of pairs."""

import dataclasses
import operator
import os
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from data_pipeline import markup
from data_pipeline.corpora import Reader, formats, kinds, opened
from data_pipeline.corpora.columns import Columns, Roles, UsualNames
from data_pipeline.corpora.pairs import data_rows
from data_pipeline.corpora.reading import Refusals
from data_pipeline.rows import PASSAGE, Passage

_NO_TEXT = "the text is empty, or of another type than text"


@dataclasses.dataclass(frozen=True)
class PassageColumns(Columns):
    """The columns of a table of documents: `question` names that with the text."""

    usual_names: ClassVar[UsualNames] = {
        "text": (
            ("passage", "text"),
            ("context", "contexts", "abstract", "content", "document", "body"),
            ("answer", "response"),
            ("answers", "responses", "output"),
        ),
        "title": (("title", "heading"),),
        "source": (("source",),),
        "focus": (("focus", "topic"),),
    }
    content: ClassVar[tuple[str, ...]] = ("text",)
    required: ClassVar[tuple[str, ...]] = ("text",)
    instructed: ClassVar[bool] = False
    row: ClassVar[str] = "text"
    fields: ClassVar[str] = "a text"
    lists: ClassVar[str] = "a list of all texts"
    one_a_row: ClassVar[str] = "one text a row"

    @classmethod
    def of(cls, columns: Columns) -> "PassageColumns":
        """Returns the columns of a table of documents that these settings describe."""
        return cls(**{field.name: getattr(columns, field.name) for field in dataclasses.fields(Columns)})

    def find(self, path: str, header: Sequence[str]) -> Roles:
        """Returns the place of the column of each role that the table has: text, title, source, focus.

        Raises:
          ValueError: the text is missing or ambiguous, or a column named by flag is missing.
        """
        return self._roles(path, header)

    def named(self, role: str) -> str | None:
        """Returns the column that a setting names for a role."""
        return getattr(self, "question" if role == "text" else role)


def read_passages(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Passage]]:
    """Yields the passages of a file, each with its place.

    Args:
      path: a document (see documents.py), a file or folder of another format with passages, or a table, whose texts are
        not cut; see `corpora.read_pairs` for its formats.
      columns: `question` names the column with the text, `title` that with a title; both are recognised by their usual
        names. A list of texts is one passage.
      refusals: counts the rows without a text.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is empty, damaged, of another kind or encoding, or lacks a column; the message names it.
    """
    if layout := formats.find(path, columns, PASSAGE.plural):
        yield from layout.read[PASSAGE.plural](path, columns, refusals)
        return
    kind, name = kinds.kind_of(path, columns.format), os.path.basename(path)
    columns = PassageColumns.of(columns)
    with opened(path, kind, columns, refusals) as table:
        roles = {role: place for role, (place,) in columns.find(path, table.header).items()}
        value = table.value or operator.getitem
        for where, row in data_rows(table, roles["text"], roles["text"], refusals):
            values = {role: _text(value(row, place)) for role, place in roles.items()}
            if values["text"]:
                values["source"] = values.get("source") or name
                yield where, Passage(**{role: text or "" for role, text in values.items()})
            else:
                refusals.add(_NO_TEXT, where)


PASSAGES = Reader(PASSAGE, read_passages, "texts")


def _text(value: Any) -> str | None:
    """Returns a text, without HTML; that of a list with a paragraph for each; None for anything else."""
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        value = "\n\n".join(value)
    if not isinstance(value, str) or not value.strip():
        return None
    return markup.to_text(value).strip() if markup.holds_markup(value) else value
