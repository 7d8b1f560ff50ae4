"""What all readers share: naming columns, rows to pairs, counting what is refused and what is noted."""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from data_pipeline.rows import Pair

# Names that a column usually has, compared without case. Those of a later group count where no earlier one is there.
_USUAL_NAMES: dict[str, tuple[tuple[str, ...], ...]] = {
    "question": (("question", "query"), ("questions", "queries"), ("instruction",), ("prompt", "input"), ("anchor",)),
    "answer": (
        ("answer", "response"),
        ("answers", "responses"),
        ("output", "completion"),
        ("positive", "pos"),
    ),
    "source": (("source",),),
    "focus": (("focus", "topic"),),
}
ROLES = tuple(_USUAL_NAMES)
INSTRUCTION, INPUT = "instruction", "input"
# Fields of layouts that hold no pair a row, and what they are.
OTHER_LAYOUTS = {
    "conversations": "ShareGPT conversations",
    "messages": "chat messages",
    "paragraphs": "SQuAD's paragraphs",
    "turns": "dialogues",
    "dialogue": "dialogues",
}


@dataclasses.dataclass(frozen=True)
class Columns:
    """The columns of a table, and how it is written.

    Attributes:
      question: the column with the question; None: recognise it by its usual names. #3 means the third column.
      answer: the same for the answer, as for the next two.
      source: the collection a pair comes from.
      focus: its topic.
      delimiter: the character between fields; None: as the header line looks.
      header: names of the columns of a table that has no header line.
    """

    question: str | None = None
    answer: str | None = None
    source: str | None = None
    focus: str | None = None
    delimiter: str | None = None
    header: tuple[str, ...] = ()

    def find(self, path: str, header: Sequence[str]) -> dict[str, tuple[int, ...]]:
        """Returns the places of each role's columns, for the roles that the table has.

        A role has one column, but for the question of an instruction table: instruction and input.

        Raises:
          ValueError: question or answer is missing or stands there twice, or a column named by flag is missing.
        """
        found: dict[str, tuple[int, ...]] = {}
        names = [name.strip().lower() for name in header]
        for role, groups in _USUAL_NAMES.items():
            named = getattr(self, role)
            places = _named(named, header) if named else _usual(groups, names)
            if len(places) > 1:
                shown = ", ".join(f"{header[i]} (#{i + 1})" for i in places)
                raise ValueError(
                    f"{path} has several columns for the {role}: {shown}. Name one with --{role}_column, by its name "
                    f"or its number: --{role}_column=#{places[0] + 1}."
                )
            if places:
                found[role] = tuple(places)
            elif named or role in ("question", "answer"):
                raise ValueError(self._missing(path, header, named or role, role))
        (question,) = found["question"]
        if not self.question and names[question] == INSTRUCTION and INPUT in names:
            found["question"] = (question, names.index(INPUT))
        if found["question"] == found["answer"]:
            raise ValueError(f"{path} has one column for question and answer, {header[question]!r}. Name two.")
        return found

    def _missing(self, path: str, header: Sequence[str], wanted: str, role: str) -> str:
        other = next((what for name, what in OTHER_LAYOUTS.items() if name in header), None)
        if other:
            return (
                f"{path} holds {other}. Expected one question and one answer a row: write each question with its "
                "answer as a row of its own."
            )
        remedy = f"Name the right one with --{role}_column; a table without a header line with --header."
        if len(header) == 1 and not self.delimiter and (marks := set(header[0]) & set(";\t,|:")):
            remedy = f"If its fields stand between {marks.pop()!r}, say so with --delimiter."
        shown = ", ".join(header) or "none"
        return f"{path} has no column {wanted!r}. Columns found: {shown[:500]}. {remedy}"


def _named(name: str, header: Sequence[str]) -> list[int]:
    if name.startswith("#") and name[1:].isdecimal() and name not in header:
        place = int(name[1:]) - 1
        return [place] if 0 <= place < len(header) else []
    return [i for i, other in enumerate(header) if other == name]


def _usual(groups: Sequence[Sequence[str]], names: Sequence[str]) -> list[int]:
    return next(filter(None, ([i for i, name in enumerate(names) if name in group] for group in groups)), [])


class Refusals:
    """Counts refused rows by reason, and what was read in another way than it looks; each with its first place."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.noted: collections.Counter[str] = collections.Counter()
        self._first: dict[str, tuple[int, str]] = {}
        self._first_noted: dict[str, str] = {}

    def add(self, reason: str, where: str, position: int = 0, rows: int = 1) -> None:
        """Counts rows.

        Args:
          reason: why.
          where: file and row of the first.
          position: orders the places; of equal ones, what was added before comes first.
          rows: how many.
        """
        self.counts[reason] += rows
        self._first[reason] = min(self._first.get(reason, (position, where)), (position, where), key=lambda at: at[0])

    def note(self, what: str, where: str) -> None:
        """Counts what a reader decided, such as the delimiter of a file."""
        self.noted[what] += 1
        self._first_noted.setdefault(what, where)

    def merge(self, report: dict[str, dict[str, int | str]]) -> None:
        """Adds what another has counted."""
        for reason, entry in report.items():
            self.add(reason, entry["first"], entry["position"], entry["rows"])

    def report(self) -> dict[str, dict[str, int | str]]:
        """Returns {reason: {"rows", "first", "position"}}, the most frequent first."""
        return {
            reason: {"rows": n, "first": self._first[reason][1], "position": self._first[reason][0]}
            for reason, n in sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        }

    def notes(self) -> dict[str, dict[str, int | str]]:
        """Returns {what was noted: {"times", "first"}}."""
        return {what: {"times": n, "first": self._first_noted[what]} for what, n in self.noted.items()}


class Table(NamedTuple):
    """A file that was opened.

    Attributes:
      header: names of its columns.
      rows: (place, values), where `value` takes the value of a column out of the values.
      value: (values, place of the column in the header) -> text, list or None.
    """

    header: list[str]
    rows: Iterable[tuple[str, Any]]
    value: Callable[[Any, int], Any]


def pairs_of(table: Table, path: str, columns: Columns, refusals: Refusals, instruction: bool) -> Iterator[Any]:
    """Yields (place, Pair) for each row of a table, several where it has several answers.

    Args:
      table: the file.
      path: names it in errors.
      columns: the columns by flag.
      refusals: counts the rows that are no pair.
      instruction: whether the instruction of an instruction table is a part of its questions.
    """
    found = columns.find(path, table.header)
    questions, (answer,) = found["question"], found["answer"]
    if len(questions) == 2 and not instruction:
        questions = questions[1:]
    known = {role: found[role][0] for role in ("source", "focus") if role in found}
    value, several = table.value, False
    (first, *rest) = questions
    for where, row in table.rows:
        question, answers = value(row, first), value(row, answer)
        if rest:
            question = joined(question, value(row, rest[0]))
        if isinstance(answers, list):
            answers = list(map(_text_of, answers))
            if not several and len(answers) > 1:
                refusals.note("several answers in a row: each is a pair", where)
                several = True
            if not answers:
                refusals.add("empty answer", where)
        else:
            answers = [answers]
        extra = {role: text for role, place in known.items() if isinstance(text := value(row, place), str)}
        for text in answers:
            if isinstance(question, str) and isinstance(text, str):
                yield where, Pair(question, text, **extra)
            else:
                refusals.add("question or answer is not a text", where)


def joined(instruction: Any, text: Any) -> Any:
    """Returns the question of an instruction table; one of both may be missing or empty."""
    parts = [part for part in (instruction, text) if part is not None and part != ""]
    return "\n".join(parts) if parts and all(isinstance(part, str) for part in parts) else (parts[0] if parts else "")


def _text_of(answer: Any) -> Any:
    return answer.get("text") if isinstance(answer, dict) else answer
