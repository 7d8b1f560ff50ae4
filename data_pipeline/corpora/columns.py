"""Finds the columns of a table that hold question, answer, source and focus."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from data_pipeline.corpora.reading import NotATableError, Refusals
from data_pipeline.rows import ANNOTATIONS
from data_pipeline.settings import Settings, setting

# Usual names of a column, compared without case. A later group is tried if the table has no name of an earlier one.
# Several names of one group are ambiguous, except instruction and input, which both belong to the question.
UsualNames = Mapping[str, tuple[tuple[str, ...], ...]]  # of each role
_USUAL_NAMES: UsualNames = {
    "question": (
        ("question", "query"),
        ("questions", "queries"),
        ("instruction", "instructions", "input", "inputs", "prompt", "prompts", "anchor"),
    ),
    "answer": (
        ("answer", "response"),
        ("answers", "responses"),
        ("output", "outputs", "completion", "completions", "positive", "positives", "pos"),
    ),
    "source": (("source",),),
    "focus": (("focus", "topic"),),
    **{name: ((name,), (name.replace("_", ""),)) for name in ANNOTATIONS},
}
INSTRUCTION = ("instruction", "instructions")
INPUT = ("input", "inputs", "context")  # the text of an instruction: Alpaca's input, Dolly's context
# Fields of layouts whose rows are no pairs, and what such a file holds.
OTHER_LAYOUTS = {
    "conversations": "ShareGPT conversations",
    "conversation": "conversations",
    "messages": "chat messages",
    "paragraphs": "SQuAD's paragraphs",
    "qas": "SQuAD's questions of a paragraph",
    "turns": "dialogues",
    "dialogue": "dialogues",
    "dialog": "dialogues",
}
_MOST_NAMES, _LONGEST_NAME = 30, 60  # in an error
_INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"  # byte order marks and the like, at the ends of a name
# How texts without a header begin, and what to do with them. {} stands for the fields of a row.
_OTHER_TEXTS = (
    (r"<", "It looks like HTML or XML: export {} as CSV or JSON Lines."),
    (r"\+[-=+]+$", "It looks like a drawn table: export it as CSV or TSV (mysql --batch, psql --csv)."),
    (
        r"--|/\*|(create|drop|insert|use|set|begin|lock)\b[^,]* ",
        "It looks like SQL: export {} of the table as CSV or JSON Lines.",
    ),
    (r"-\s+\S+:(\s|$)|---$|\w+:$", "It looks like YAML: write it as JSON."),
    (r"(q|question)\s*\d*\s*[:.)]\s", "It looks like a text: write each question with its answer as a row of a table."),
    (r"(var|let|const|window)\b.*=", "It looks like JavaScript: keep the JSON alone."),
)
Roles = dict[str, tuple[int, ...]]  # the places of the columns of each role
_COLUMN_HELP = "Column with the {}, by name or as #3; usual names are recognised."


@dataclasses.dataclass(frozen=True)
class Columns(Settings):
    """The columns and the form of a table; the help beside each field says what it does."""

    question: str | None = setting(None, _COLUMN_HELP.format("question"))
    answer: str | None = setting(None, _COLUMN_HELP.format("answer"))
    source: str | None = setting(None, _COLUMN_HELP.format("source"))
    focus: str | None = setting(None, _COLUMN_HELP.format("focus"))
    delimiter: str | None = setting(
        None, r"Character between the fields of a table (\t: a tab); default: recognized from the header."
    )
    header: tuple[str, ...] = setting((), "Names of the columns of a table without a header line: question,answer.")
    label: str | None = setting(None, "Column with the label of a triage row, by name or as #3.")
    title: str | None = setting(None, "Column whose text is put before that of a triage row, by name or as #3.")
    facts: tuple[str, ...] = setting(
        (),
        "Columns with facts of a database, by name or as #3, commas between. "
        "Default: every column except the name, the source and row numbers.",
    )
    format: str = setting(
        "auto", "Format of the input files; auto recognises it by content. python -m data_pipeline.formats lists all."
    )
    min_score: int | None = setting(None, "Smallest score of questions and answers from Reddit and StackExchange.")
    keep_deleted: bool = setting(False, "Keep Reddit questions whose text was deleted: the title is the question.")
    sample: int = setting(0, "Rows to read of each input, its first ones, for a trial; 0: all.", least=0)

    # What is otherwise in `triage.TriageColumns`: usual names by role, the roles of the content, those of them that a
    # table needs, whether a question may have two columns, whether GB18030 is read, and words for messages.
    usual_names: ClassVar[UsualNames] = _USUAL_NAMES
    content: ClassVar[tuple[str, ...]] = ("question", "answer")
    required: ClassVar[tuple[str, ...]] = ("question", "answer")
    instructed: ClassVar[bool] = True
    chinese: ClassVar[bool] = False
    row: ClassVar[str] = "pair"
    fields: ClassVar[str] = "question and answer"
    lists: ClassVar[str] = "a list of all questions and one of all answers"
    one_a_row: ClassVar[str] = (
        "one question and one answer a row: write each question with its answer as a row of its own"
    )
    nested: ClassVar[tuple[str, ...]] = ()  # fields of JSON, in lower case, whose list belongs to one row
    # Field under which a JSON row that is itself a list is stored. None: such rows are refused.
    lone_list: ClassVar[str | None] = None

    def __post_init__(self) -> None:
        """Raises a ValueError for a delimiter that cannot stand between fields."""
        super().__post_init__()
        if self.delimiter is not None and (len(self.delimiter) != 1 or self.delimiter in '"\r\n'):
            raise ValueError(
                f"The delimiter is {self.delimiter!r}; expected one character, such as ; or \\t for a tab. No quote."
            )

    def find(self, path: str, header: Sequence[str]) -> Roles:
        """Returns the places of the columns of each role that the table has.

        A role has one column. Only the question of an instruction table has two: instruction and input.

        Raises:
          ValueError: question or answer is missing or ambiguous, or a column named by flag is missing.
        """
        if unused := next((name for name in ("label", "title") if getattr(self, name)), None):
            raise ValueError(
                f"--{unused}_column is given. Expected it with --rows=triage only: pairs have no {unused}."
            )
        if self.facts:
            raise ValueError("--facts_columns is given. Expected it with --rows=facts only.")
        roles = self._roles(path, header)
        if set(roles["question"]) & set(roles["answer"]):
            raise ValueError(
                f"{path} has one column for question and answer, {header[roles['answer'][0]]!r}. Name two, with "
                "--question_column and --answer_column."
            )
        return roles

    def named(self, role: str) -> str | None:
        """Returns the column that a setting names for a role; None without such a setting."""
        return getattr(self, role, None)

    def _roles(self, path: str, header: Sequence[str]) -> Roles:
        roles: Roles = {}
        names = list(map(plain_name, header))
        for role, groups in self.usual_names.items():
            named = self.named(role)
            places = _named(named, header) if named else _usual(groups, names)
            if len(places) > 1 and role in ANNOTATIONS:
                continue
            if len(places) > 1 and not _is_instructed(named, places, names):
                raise ValueError(_ambiguous(path, header, role, places))
            if places:
                roles[role] = tuple(places)
            elif named or role in self.required:
                raise NotATableError(self._missing(path, header, f"no column {named or role!r}", f"--{role}_column"))
        return roles

    def is_found(self, path: str, header: Sequence[str]) -> bool:
        """Returns whether the columns that a row needs are among these."""
        try:
            return bool(self.find(path, header))
        except ValueError:
            return False

    def is_header(self, row: Sequence[Any], where: str, refusals: Refusals) -> bool:
        """Returns whether a first row repeats the names given as `header`, which is noted: such a row holds names."""
        repeats = [plain_name(str(field)) for field in row] == list(map(plain_name, self.header))
        if repeats:
            refusals.note("the first row repeats --header, and is left out", where)
        return repeats

    def _missing(self, path: str, header: Sequence[str], problem: str, flag: str) -> str:
        """Returns the message for a table without a column; `flag` names the column."""
        names = list(map(plain_name, header))
        if other := next((layout for name, layout in OTHER_LAYOUTS.items() if name in names), None):
            remedy = "" if "SQuAD" in other else " --rows=dialogues reads dialogues."
            return f"{path} holds {other}. Expected {self.one_a_row}.{remedy}"
        if {"columns", "data"} <= set(names):
            return f"{path} holds a table split into columns and data. Write rows, in pandas with: orient='records'."
        remedy = f"Name the right one with {flag}; a table without a header line with --header."
        first = header[0].strip() if header else ""
        likely = (mark for mark in ";\t,|:^~" if mark in first and self.is_found(path, first.split(mark)))
        if len(header) == 1 and (mark := next(likely, None)) and not self.delimiter:
            remedy = f"If its fields stand between {mark!r}, say so with --delimiter."
            if mark in ";\t,|":  # it was tried
                remedy = "Its lines stand in quotes as a whole: take the outer quotes away."
        elif other := next((advice for start, advice in _OTHER_TEXTS if re.match(start, first, re.IGNORECASE)), None):
            remedy = other.format(self.fields)
        return f"{path} has {problem}. Columns found: {_shown(header)}. {remedy}"


def plain_name(name: str) -> str:
    """Returns the name of a column in lower case, without blanks and invisible marks at its ends."""
    return _visible(name).lower()


def _visible(name: str) -> str:
    return name.strip().strip(_INVISIBLE).strip()


def _named(name: str, header: Sequence[str]) -> list[int]:
    if name.startswith("#") and name[1:].isdecimal() and name not in header:
        place = int(name[1:]) - 1
        return [place] if 0 <= place < len(header) else []
    return [i for i, other in enumerate(header) if name in (other, other.strip(), _visible(other))]


def _usual(groups: Sequence[Sequence[str]], names: Sequence[str]) -> list[int]:
    places = next(filter(None, ([i for i, name in enumerate(names) if name in group] for group in groups)), [])
    if any(names[i] in INSTRUCTION for i in places):
        (instruction, *more) = sorted(places, key=lambda i: names[i] not in INSTRUCTION)
        return [instruction, *(more or [i for i, name in enumerate(names) if name in INPUT])]
    return places


def _is_instructed(named: str | None, places: Sequence[int], names: Sequence[str]) -> bool:
    first, *more = (names[i] for i in places)
    return not named and first in INSTRUCTION and len(more) == 1 and more[0] in INPUT


def _ambiguous(path: str, header: Sequence[str], role: str, places: Sequence[int]) -> str:
    candidates = ", ".join(f"{header[i]} (#{i + 1})" for i in places)
    return (
        f"{path} has several columns for the {role}: {candidates}. Name one with --{role}_column, by its name or its "
        f"number: --{role}_column=#{places[0] + 1}."
    )


def _shown(header: Sequence[str]) -> str:
    names = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in header[:_MOST_NAMES]]
    return ", ".join(names + ["..."] * (len(header) > _MOST_NAMES)) or "none"
