"""Reads tables for triage: texts of patients with the department, the doctor's reply, or both.

Chinese tables of departments (department, title, ask, answer) are read in UTF-8 and in GB18030.
"""

import dataclasses
import operator
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from data_pipeline import cleaning
from data_pipeline.corpora import Reader, doubts, kinds, opened
from data_pipeline.corpora.columns import Columns, Roles, UsualNames
from data_pipeline.corpora.pairs import data_rows
from data_pipeline.corpora.reading import NotATableError, Refusals
from data_pipeline.rows import TRIAGE, Triage

NO_LABEL = "the table has no column with a label: its rows serve the reply task only"
NO_REPLY = "the table has no column with a reply: its rows serve the label task only"
_NO_TEXT = "text, label or reply is of another type than text"
_SETTINGS = {"text": "question", "reply": "answer"}  # the setting that names the column of a role, if it is another


@dataclasses.dataclass(frozen=True)
class TriageColumns(Columns):
    """The columns of a table for triage: `question` names that with the text, and `answer` that with the reply."""

    usual_names: ClassVar[UsualNames] = {
        "text": (
            ("text",),
            ("ask", "question", "query"),
            ("description", "complaint", "chief_complaint", "symptoms", "patient"),
            ("input", "prompt", "sentence", "content"),
        ),
        "label": (
            ("label",),
            ("department", "category", "class", "specialty", "speciality", "medical_specialty"),
            ("labels", "target", "intent"),
        ),
        "reply": (("reply",), ("answer", "response"), ("output", "completion"), ("doctor",)),
        "title": (),
        "source": (("source",),),
    }
    content: ClassVar[tuple[str, ...]] = ("text", "label", "reply")
    required: ClassVar[tuple[str, ...]] = ("text",)
    instructed: ClassVar[bool] = False
    chinese: ClassVar[bool] = True
    row: ClassVar[str] = "text"
    fields: ClassVar[str] = "text, label and reply"
    lists: ClassVar[str] = "a list of all texts and others of all labels or replies"
    one_a_row: ClassVar[str] = "one text a row, with its label, its reply or both"

    @classmethod
    def of(cls, columns: Columns) -> "TriageColumns":
        """Returns the columns of a table for triage that these settings describe."""
        return cls(**{field.name: getattr(columns, field.name) for field in dataclasses.fields(Columns)})

    def find(self, path: str, header: Sequence[str]) -> Roles:
        """Returns the places of the columns of each role that the table has: text, label, reply, title, source.

        Raises:
          ValueError: the text is missing, label and reply are both missing, a column named by flag is missing, a role
            has several columns, or a column has several roles.
        """
        if self.focus:
            raise ValueError("--focus_column is given. Expected it with --rows=pairs only: a triage row has no focus.")
        roles = self._roles(path, header)
        if not roles.keys() & {"label", "reply"}:
            problem = "neither a column with a label nor one with a reply"
            raise NotATableError(self._missing(path, header, problem, "--label_column or --reply_column"))
        role_at: dict[int, str] = {}
        for role, (place,) in roles.items():
            if (other := role_at.setdefault(place, role)) != role:
                raise ValueError(
                    f"{path} has one column for {other} and {role}, {header[place]!r}. Name two, with "
                    f"--{other}_column and --{role}_column."
                )
        return roles

    def named(self, role: str) -> str | None:
        """Returns the column that a setting names for a role."""
        return getattr(self, _SETTINGS.get(role, role))


def read_triages(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Triage]]:
    """Yields the rows of a file, each with its place; see `corpora.read_pairs` for the formats.

    A row has the text "" where the table has none, and so for label and reply: preparing refuses a row without a text,
    and one with neither label nor reply.

    Args:
      path: the file.
      columns: `question` names the column with the text, `answer` that with the reply, `label` that with the label,
        `title` that with a title to put before the text; all but the title are recognised by their usual names. Label
        or reply may be missing.
      refusals: counts the rows that hold something other than texts, and notes a missing column.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is empty, damaged, of another kind or encoding, or lacks a column; the message names it.
    """
    columns = TriageColumns.of(columns)
    with opened(path, kinds.kind_of(path, columns.format), columns, refusals) as table:
        roles = {role: place for role, (place,) in columns.find(path, table.header).items()}
        for role, note in (("label", NO_LABEL), ("reply", NO_REPLY)):
            if role not in roles:
                refusals.note(note, path)
        value = table.value or operator.getitem
        second = roles["reply"] if "reply" in roles else roles["label"]
        for where, row in data_rows(table, roles["text"], second, refusals):
            values = {role: value(row, place) for role, place in roles.items()}
            if (triage := _triage(values)) is None:
                refusals.add(_NO_TEXT, where)
            else:
                doubts.note(triage.text, triage.reply, where, refusals)
                yield where, triage


TRIAGES = Reader(TRIAGE, read_triages, "texts with labels or replies")


def _triage(values: dict[str, Any]) -> Triage | None:
    """Returns a row from the value of each role; None if one is neither a text nor missing."""
    if "label" in values:
        values["label"] = _label(values["label"])
    texts = {role: "" if value is None else value for role, value in values.items()}
    if not isinstance(texts.get("source"), str):  # a row is worth more than its source
        texts.pop("source", None)
    if not all(isinstance(text, str) for text in texts.values()):
        return None
    title = texts.pop("title", "")
    if _is_filled(title) and _is_filled(texts["text"]):
        texts["text"] = f"{title}\n{texts['text']}"
    return Triage(**texts)


def _label(value: Any) -> Any:
    """Returns a label as a text: data sets often number their classes, and a missing number makes floats of them."""
    if isinstance(value, float) and value != value:
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, int) else value


def _is_filled(text: str) -> bool:
    """Returns whether a text is more than blanks and words for "no value"."""
    text = cleaning.clean(text)
    return bool(text) and not cleaning.is_null_word(text)
