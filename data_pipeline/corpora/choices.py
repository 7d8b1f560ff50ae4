"""Reads questions with answers to choose from, in the layouts of published sets, and series of them about one case.

    {"question": ..., "options": {"A": ..., "B": ...}, "answer_idx": "B"}               MedQA
    {"question": ..., "opa": ..., "opb": ..., "opc": ..., "opd": ..., "cop": 2}         MedMCQA: from 1, or from 0
    {"question": ..., "answers": {"a": ..., "b": ...}, "correct_answers": ["a", "b"]}   FrenchMedMCQA
    {"question": ..., "contexts": [...], "final_decision": "yes"}                       PubMedQA
    {"query": ..., "choices": [...], "gold": 1}                                         evaluation harnesses; from 0
    {"question": ..., "choices": {"text": [...], "label": [...]}, "answerKey": "B"}     ARC
    {"context": ..., "questions": [{"question": ..., "options": [...], "correct": [0]}, ...]}   a series, ours

What is right is given by letter, by place (from 0) or by the text of a choice, alone or in a list. PubMedQA's choices
are yes, no and maybe. Tables have a column for each choice (opa, option_a, answer_a, choice1, A, ...).
"""

import dataclasses
import operator
import re
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from data_pipeline import cleaning
from data_pipeline.corpora import Reader, kinds, opened
from data_pipeline.corpora.columns import Columns, Roles, UsualNames, plain_name
from data_pipeline.corpora.reading import NotATableError, Refusals, Table, parsed
from data_pipeline.rows import CHOICES, Choices

DECISIONS = ("yes", "no", "maybe")  # the choices of PubMedQA, which its files do not name
COUNTS_FROM_1 = "no number of a right choice is 0, so that they count the choices from 1"
NO_TEXT = "question, context or a choice is of another type than text"
FEWER_THAN_TWO = "fewer than two choices"
NONE_RIGHT = "no choice is right"
UNKNOWN = "what is right is none of the choices"
AMBIGUOUS = "what is right is the text of one choice, and letter or place of another"
NO_SERIES = "the questions of a series are no list of objects"
NOT_WHOLE = "a question of a series lacks its text, its choices or what is right"
EQUAL = "two choices are equal"
_DECISION, _COP, _SERIES = "final_decision", "cop", "questions"
_LETTERS = string.ascii_uppercase
_OF_ONE_CHOICE = re.compile(r"(?:op|option|answer|choice|ending|proposition)?[ _]?([a-h]|\d+)")
_SEVERAL_LETTERS = re.compile(r"[A-Za-z](?:\s*[,;+/ ]\s*[A-Za-z])+|[A-Z]{2,8}")
_PARTS = ("question", "context")
_SETTINGS = {"correct": "answer"}  # the setting that names the column of a role, if it is another


@dataclasses.dataclass(frozen=True)
class ChoicesColumns(Columns):
    """The columns of a table of choices: `question` names that with the question, `answer` that with what is right."""

    usual_names: ClassVar[UsualNames] = {
        "question": (("question", "query"), ("stem", "input", "prompt")),
        "choices": (("options", "choices", "propositions"), ("answers",)),
        "correct": (
            ("correct", "correct_answers", "correct_answer", "answer_idx", "answer_index", _COP, "gold", "answerkey"),
            (_DECISION,),
            ("answer", "label", "target"),
        ),
        "context": (("context", "contexts", "passage", "case", "vignette"),),
        "several": (("several",),),
        "source": (("source",),),
        "focus": (("subject_name", "subject", "focus", "topic"),),
    }
    content: ClassVar[tuple[str, ...]] = ("question", "choices", "correct")
    required: ClassVar[tuple[str, ...]] = ()
    instructed: ClassVar[bool] = False
    row: ClassVar[str] = "question"
    fields: ClassVar[str] = "question, choices and what is right"
    lists: ClassVar[str] = "a list of all questions and others of their choices"
    one_a_row: ClassVar[str] = "one question a row, with its choices and what is right among them"
    nested: ClassVar[tuple[str, ...]] = (_SERIES,)

    @classmethod
    def of(cls, columns: Columns) -> "ChoicesColumns":
        """Returns the columns of a table of choices that these settings describe."""
        return cls(**{field.name: getattr(columns, field.name) for field in dataclasses.fields(Columns)})

    def find(self, path: str, header: Sequence[str]) -> Roles:
        """Returns the places of the columns of each role that the table has.

        A row with a list in "series" holds several questions. "choices" has one place, or one for each choice; it is
        missing if the choices are `DECISIONS`.

        Raises:
          ValueError: question, choices or what is right are missing, or a column named by flag is.
        """
        if unused := next((name for name in ("label", "title") if getattr(self, name)), None):
            raise ValueError(f"--{unused}_column is given. Expected it with --rows=triage only.")
        names = list(map(plain_name, header))
        series = {"series": (names.index(_SERIES),)} if _SERIES in names else {}
        if series and not any(name in names for name in (self.question, *self.usual_names["question"][0])):
            # What is named by flag stands in the objects of the list.
            roles = dataclasses.replace(self, question=None, answer=None)._roles(path, header)
            return {role: roles[role] for role in roles if role in ("context", "source", "focus")} | series
        roles = self._roles(path, header)
        correct = [names[place] for place in roles.get("correct", ())]
        if "choices" not in roles and (places := _of_single_choices(names, roles)):
            roles["choices"] = places
        needed = ("question", "correct") if correct == [_DECISION] else self.content
        missing = next((role for role in needed if role not in roles), None)
        if missing:
            flag = {"question": "--question_column", "correct": "--answer_column"}
            raise NotATableError(
                self._missing(path, header, f"no column {missing!r}", flag.get(missing, "the name 'choices'"))
            )
        return roles | series

    def named(self, role: str) -> str | None:
        """Returns the column that a setting names for a role."""
        return getattr(self, _SETTINGS.get(role, role), None)


def _of_single_choices(names: Sequence[str], roles: Roles) -> tuple[int, ...]:
    """Returns the places of columns that hold a choice each, in the order of their letters or numbers."""
    taken = {place for places in roles.values() for place in places}
    found = ((place, _OF_ONE_CHOICE.fullmatch(name)) for place, name in enumerate(names) if place not in taken)
    marks = {match[1]: place for place, match in found if match}
    return tuple(marks[mark] for mark in sorted(marks, key=lambda mark: (len(mark), mark)))


def read_choices(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Choices]]:
    """Yields the questions of a file, each with its place; see `corpora.read_pairs` for the formats.

    Args:
      path: the file.
      columns: `question` names the column with the question, `answer` that with what is right; the others are
        recognised by their usual names.
      refusals: counts the questions with fewer than two choices, with two equal ones, or with none that is right, and
        those that hold something other than texts.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is empty, damaged, of another kind, or lacks a column; the message names it.
    """
    columns = ChoicesColumns.of(columns)
    kind = kinds.kind_of(path, columns.format)
    with opened(path, kind, columns, refusals) as table:
        roles = columns.find(path, table.header)
        first = 0
        if "correct" in roles:
            with opened(path, kind, columns, Refusals()) as second_pass:
                first = _first_place(second_pass, roles)
            if first:
                refusals.note(COUNTS_FROM_1, path)
        for where, row in table.rows:
            yield from _row_of(table, roles, row, first).questions(path, columns, where, refusals)


CHOICE_ROWS = Reader(CHOICES, read_choices, "questions with answers to choose from")


def _first_place(table: Table, roles: Roles) -> int:
    """Returns the number of the first choice, 0 or 1, by the numbers of right ones in a file.

    It is 0 if one of them is 0. Else it is 1 in MedMCQA, where columns are numbered so, and where a number would be too
    high if the first choice were 0.
    """
    names = [plain_name(table.header[place]) for place in (*roles["correct"], *roles.get("choices", ()))]
    is_usual = names[0] == _COP or (len(names) > 2 and names[1].endswith("1"))
    numbers, is_too_high = set(), False
    for _, row in table.rows:
        raw = _row_of(table, roles, row, 0)
        if raw.is_series or (number := _number(raw.values["correct"])) is None or str(number) in raw.keys:
            continue
        numbers.add(number)
        is_too_high |= number == len(raw.values["choices"])
    return int(bool(numbers) and 0 not in numbers and (is_usual or is_too_high))


@dataclasses.dataclass(frozen=True)
class _Raw:
    """The values of a row by role, as the file has them.

    Attributes:
      values: by role.
      keys: letters or labels of the choices.
      first: number of the first choice, where places are numbers.
      is_series: whether the row holds a list of questions.
    """

    values: Mapping[str, Any]
    keys: Sequence[str]
    first: int
    is_series: bool = False

    def questions(
        self, path: str, columns: ChoicesColumns, where: str, refusals: Refusals
    ) -> Iterator[tuple[str, Choices]]:
        """Yields the questions of the row: one, or those of a series."""
        parts = self.values.get("series")
        if not self.is_series:
            if question := self._question(where, refusals):
                yield where, question
            return
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            refusals.add(NO_SERIES, where)
            return
        shared = {role: value for role, value in self.values.items() if role in ("source", "focus")}
        context, found = self.values["context"], []
        for step, part in enumerate(parts):
            place = f"{where} question {step + 1}"
            table = Table(list(part), (), lambda row, i: list(row.values())[i])
            try:
                raw = _row_of(table, columns.find(place, table.header), part, 0)
            except NotATableError:
                refusals.add(NOT_WHOLE, place)
                continue
            own = {role: value for role, value in raw.values.items() if value != ""}
            raw = dataclasses.replace(raw, values={**shared, "context": context, **own})
            if question := raw._question(place, refusals):
                found.append((place, dataclasses.replace(question, step=step)))
        texts = (text for _, question in found for text in (question.question, *question.choices))
        series = "\n".join([*filter(None, [_text(context)]), *texts])
        for place, question in found:
            yield place, dataclasses.replace(question, series=series)

    def _question(self, where: str, refusals: Refusals) -> Choices | None:
        values = self.values
        texts = {part: _text(values.get(part, "")) for part in _PARTS}
        choices = [_text(choice) for choice in values["choices"]]
        if None in (*texts.values(), *choices):
            return refusals.add(NO_TEXT, where)
        choices = [cleaning.clean(choice) for choice in choices]
        if len(choices) < 2:
            return refusals.add(FEWER_THAN_TWO, where)
        if len(set(choices)) < len(choices):
            return refusals.add(EQUAL, where)
        given = values["correct"] if isinstance(values["correct"], list) else [values["correct"]]
        given = [value for value in given if value is not None and value != ""]
        if not given:
            return refusals.add(NONE_RIGHT, where)
        places = [place for value in given for place in self._places(value, choices)]
        if None in places:
            return refusals.add(AMBIGUOUS, where)
        if not all(0 <= place < len(choices) for place in places):
            return refusals.add(UNKNOWN, where)
        several = len(set(places)) > 1 or str(values.get("several")).casefold() in ("true", "1", "yes")
        origin = {role: text for role in ("source", "focus") if isinstance(text := values.get(role), str)}
        correct = tuple(sorted(set(places)))
        return Choices(
            texts["question"], tuple(choices), correct, int(several), texts["context"], texts["question"], **origin
        )

    def _places(self, value: Any, choices: Sequence[str]) -> list[int | None]:
        """Returns the places that a letter, a number or a text names.

        -1 stands for one that names none, and None for one that is the text of one choice, and names another.
        """
        text = cleaning.clean(str(value))
        own_text, text = text, text.strip("().: ") or text  # (B), C.
        folded, lower = ([part.casefold() for part in parts] for parts in (self.keys, choices))
        named = _number(value)
        named = None if named is None else named - self.first
        mark = _OF_ONE_CHOICE.fullmatch(text.casefold())  # also option_b, as its column is called
        for name in (text.casefold(), mark and mark[1]):
            if name and name in folded:
                named = folded.index(name)
                break
        texts, own = (choices, own_text) if own_text in choices else (lower, own_text.casefold())
        of_text = texts.index(own) if own in texts else None
        if isinstance(value, str) and of_text is not None:
            is_place = named is not None and 0 <= named < len(choices)
            return [None if is_place and named != of_text else of_text]
        if named is not None:
            return [named]
        if _SEVERAL_LETTERS.fullmatch(text):
            letters = re.findall("[a-z]", text.casefold())
            return [folded.index(letter) if letter in folded else -1 for letter in letters]
        return [-1]


def _row_of(table: Table, roles: Roles, row: Any, first: int) -> _Raw:
    value: Callable[[Any, int], Any] = table.value or operator.getitem
    values = {role: value(row, places[0]) for role, places in roles.items() if role != "choices"}
    for role in ("correct", "context"):
        values[role] = parsed(values.get(role))
    if isinstance(values["context"], dict):  # PubMedQA as Hugging Face has it
        values["context"] = values["context"].get("contexts")
    if isinstance(values["context"], list) and all(isinstance(part, str) for part in values["context"]):
        values["context"] = "\n".join(values["context"])
    values["context"] = values["context"] or ""
    if "series" in roles and ("question" not in roles or isinstance(values["series"], list)):
        return _Raw(values, (), first, True)
    places = roles.get("choices", ())
    if len(places) == 1:
        keys, choices = _listed(value(row, places[0]))
    elif places:
        choices = [value(row, place) for place in places]
        marks = [_OF_ONE_CHOICE.fullmatch(plain_name(table.header[place])) for place in places]
        # Of numbered columns, the first is `first`.
        keys = [mark[1] if mark and mark[1].isalpha() else "" for mark in marks]
    else:
        keys, choices = (), list(DECISIONS)
    while choices and choices[-1] in (None, ""):  # a table has columns for the longest list of choices
        choices.pop()
    return _Raw(values | {"choices": choices}, list(keys)[: len(choices)], first)


def _listed(value: Any) -> tuple[Sequence[str], list[Any]]:
    """Returns letters or labels, and the choices, of a list, an object, or either as JSON in a text."""
    value = parsed(value)
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # columns of labels and texts
        labels = value.get("label")
        return list(map(str, labels)) if isinstance(labels, list) else _LETTERS, list(value["text"])
    if isinstance(value, dict):
        return list(map(str, value)), list(value.values())
    if not isinstance(value, list):
        return (), []
    if all(isinstance(choice, dict) and "text" in choice for choice in value) and value:
        keys = [str(choice.get("key", choice.get("label", i))) for i, choice in enumerate(value)]
        return keys, [choice["text"] for choice in value]
    return _LETTERS[: len(value)], list(value)


def _text(value: Any) -> str | None:
    """Returns a text; a number as one, as choices often are numbers; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _number(value: Any) -> int | None:
    """Returns a whole number, also one that is a text or was read as a float."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value.strip()):
        value = int(value)
    return value if isinstance(value, int) else None
