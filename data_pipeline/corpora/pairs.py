"""Turns the rows of a table into pairs."""

import operator
import re
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpora import doubts
from data_pipeline.corpora.columns import Roles, plain_name
from data_pipeline.corpora.reading import Refusals, Table
from data_pipeline.rows import ANNOTATIONS, Pair

_NO_TEXT = "question or answer is not a text"
_REPEATS = "a row repeats the header"  # where tables were concatenated
_RULE, _IS_RULE = "a row is a drawn line", re.compile(r"\s*:?-+:?\s*")  # below the header of a Markdown table
_BLANKS_AND_MARKS = 20  # largest number of characters around a repeated name


def pairs_of(
    table: Table, roles: Roles, refusals: Refusals, with_instruction: bool = True
) -> Iterator[tuple[str, Pair]]:
    """Yields (place, pair) for each row of a table; a row with several answers or questions is several pairs.

    Args:
      table: the opened file.
      roles: its columns.
      refusals: counts the rows that are no pair, and notes those that are several.
      with_instruction: whether questions of an instruction table begin with the instruction.
    """
    value = table.value or operator.getitem
    questions, (answer,) = roles["question"], roles["answer"]
    labels = {role: roles[role][0] for role in ("source", "focus", *ANNOTATIONS) if role in roles}
    for where, row in table.rows:
        question, reply = value(row, questions[0]), value(row, answer)
        if len(questions) == 2:
            question = joined(question, value(row, questions[1]), with_instruction)
        extra = {}
        for role, place in labels.items():
            if isinstance(text := value(row, place), str):
                extra[role] = text
        if isinstance(question, str) and isinstance(reply, str):
            doubts.note(question, reply, where, refusals)
            yield where, Pair(question, reply, **extra)
        else:
            yield from _several(where, question, reply, extra, refusals)


def data_rows(table: Table, first: int, second: int, refusals: Refusals) -> Iterator[tuple[str, Any]]:
    """Yields the rows of a table without repeated headers and drawn lines, which are refused.

    Args:
      table: the opened file.
      first: place of one column with content.
      second: place of another one.
      refusals: counts the rows that are left out.
    """
    value = table.value or operator.getitem
    name, other_name = plain_name(table.header[first]), plain_name(table.header[second])
    longest = len(name) + _BLANKS_AND_MARKS
    for where, row in table.rows:
        text = value(row, first)
        if not isinstance(text, str):
            yield where, row
        elif len(text) <= longest and plain_name(text) == name and _plain(value(row, second)) == other_name:
            refusals.add(_REPEATS, where)
        # Most texts begin with a letter and need no pattern.
        elif not text[:1].isalnum() and _IS_RULE.fullmatch(text) and _IS_RULE.fullmatch(_plain(value(row, second))):
            refusals.add(_RULE, where)
        else:
            yield where, row


def _plain(text: Any) -> str:
    return plain_name(text) if isinstance(text, str) else ""


def _several(
    where: str, question: Any, answer: Any, extra: dict[str, str], refusals: Refusals
) -> Iterator[tuple[str, Pair]]:
    """Yields the pairs of a row with several questions or several answers."""
    questions, answers = _texts(question), _texts(answer)
    if not questions or not answers:
        refusals.add(f"empty {'answer' if questions else 'question'}", where)
        return
    if len(questions) > 1 and len(answers) > 1:  # nobody knows which answer belongs to which question
        refusals.add("several questions with several answers", where)
        return
    for side, texts in (("questions", questions), ("answers", answers)):
        if len(texts) > 1:
            refusals.note(f"several {side} in a row: each is a pair", where)
    places = [""] if len(questions) == len(answers) else range(1, max(len(questions), len(answers)) + 1)
    side = "question" if len(questions) > 1 else "answer"
    combined = [(text, reply) for text in questions for reply in answers]
    for number, (text, reply) in zip(places, combined, strict=True):
        place = f"{where} {side} {number}" if number else where
        if isinstance(text, str) and isinstance(reply, str):
            doubts.note(text, reply, place, refusals)
            yield place, Pair(text, reply, **extra)
        else:
            refusals.add(_NO_TEXT, place)


def _texts(value: Any) -> list[Any]:
    """Returns the texts of a list, of objects with a field `text`, or of lists of these; other values stay."""
    if isinstance(value, dict) and "text" in value:
        return _texts(value["text"])
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value]


def joined(instruction: Any, text: Any, with_instruction: bool = True) -> Any:
    """Returns the question of an instruction table; None if instruction or input is no text.

    Args:
      instruction: the instruction; may be missing or empty.
      text: its input; may be missing or empty.
      with_instruction: whether the question begins with the instruction; without an input, it always does.
    """
    parts = [part for part in (instruction, text) if not (part is None or (isinstance(part, str) and not part.strip()))]
    if not all(isinstance(part, str) for part in parts):
        return None
    return "\n".join(parts if with_instruction else parts[-1:])


def instructions_differ(table: Table, places: tuple[int, ...]) -> bool:
    """Returns whether the instructions of an instruction table belong into its questions.

    They do if two of them differ, if there is one row, or if no row has an input. Reads no further than to the second
    instruction.
    """
    value = table.value or operator.getitem
    seen, rows, inputs = set[Any](), 0, False
    for _, row in table.rows:
        instruction, text = (value(row, place) for place in places)
        seen.add(instruction.strip() if isinstance(instruction, str) else None)
        rows, inputs = rows + 1, inputs or bool(isinstance(text, str) and text.strip())
        if len(seen) > 1:
            return True
    return rows < 2 or not inputs
