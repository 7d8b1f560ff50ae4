"""Reads dialogues in the layouts that tuners of chat models exchange.

    {"instruction": ..., "input": ..., "output": ...}                           Alpaca, ChatDoctor; also as a table
    {"conversations": [{"from": "human", "value": ...}, {"from": "gpt", ...}]}  ShareGPT
    {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}]}  OpenAI's messages
    {"Dialogue": ["病人：...", "医生：..."]}, ["patient: ...", "doctor: ..."]      MedDialog; its text files, too

An instruction and its input are one question, with a blank line between. An instruction that is the same in every row
is what the system says. An instruction table may have a column `system`, and a column `history` of earlier exchanges.
"""

import dataclasses
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

from data_pipeline.corpora import Reader, doubts, kinds, meddialog, opened
from data_pipeline.corpora.columns import Columns, Roles, UsualNames, plain_name
from data_pipeline.corpora.pairs import data_rows, instructions_differ
from data_pipeline.corpora.reading import NotATableError, Refusals, parsed
from data_pipeline.rows import ASSISTANT, DIALOGUE, USER, Dialogue

SYSTEM = "system"
EMPTY, NO_TEXT = "empty turn", "a turn is no text"
NO_REPLY, NO_SPEAKER = "no reply", "a turn without a speaker beside others with one"
NO_TURNS, LATE_SYSTEM = "the turns are no list of messages", "a system message behind the first turn"
SAME_INSTRUCTION = "the instruction is the same in every row, and is what the system says"
ALTERNATE = "turns without speakers: the first is a user's, the next a reply, and so on"
REPLY_FIRST, UNANSWERED = "replies before the first question are left out", "questions without a reply are left out"
_ROLES = {
    SYSTEM: SYSTEM,
    **dict.fromkeys(("user", "human", "patient", "prompter", "病人", "患者"), USER),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "model", "bot", "doctor", "医生"), ASSISTANT),
}
_SPEAKER = re.compile(rf"\s*({'|'.join(_ROLES)})\s*[:：]\s*", re.IGNORECASE)
_ROLE_FIELDS, _TEXT_FIELDS = ("role", "from", "speaker"), ("content", "value", "text")
_TURNS = ("messages", "conversations", "conversation", "dialogue", "dialog", "utterances", "turns")  # first ones first
UNKNOWN_ROLE = f"unknown role; expected {', '.join(_ROLES)}"

Messages = Sequence[tuple[str, str]]  # (role, text)


class _RefusedError(Exception):
    """A row is no dialogue; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class DialogueColumns(Columns):
    """The columns of a table of dialogues: `question` and `answer` are for instruction tables."""

    usual_names: ClassVar[UsualNames] = {
        **Columns.usual_names,
        "system": (("system", "system_prompt"),),
        "history": (("history",),),
    }
    required: ClassVar[tuple[str, ...]] = ()
    chinese: ClassVar[bool] = True
    row: ClassVar[str] = "dialogue"
    fields: ClassVar[str] = "messages, or instruction and output"
    lists: ClassVar[str] = "a list of all questions and one of all answers"
    one_a_row: ClassVar[str] = "one dialogue a row, as messages, or as instruction and output"
    nested: ClassVar[tuple[str, ...]] = _TURNS
    lone_list: ClassVar[str] = _TURNS[0]

    @classmethod
    def of(cls, columns: Columns) -> "DialogueColumns":
        """Returns the columns of a table of dialogues that these settings describe."""
        return cls(**{field.name: getattr(columns, field.name) for field in dataclasses.fields(Columns)})

    def find(self, path: str, header: Sequence[str]) -> Roles:
        """Returns the places of the columns of each role that the table has: turns, or question and answer.

        Raises:
          ValueError: neither is there, a role has several columns, or a column named by flag is missing.
        """
        if unused := next((name for name in ("label", "title") if getattr(self, name)), None):
            raise ValueError(f"--{unused}_column is given. Expected it with --rows=triage only.")
        names = list(map(plain_name, header))
        turns = next((names.index(name) for name in _TURNS if name in names), None)
        if turns is not None and not (self.question or self.answer):
            others = _BesideTurns(**dataclasses.asdict(self))
            return {"turns": (turns,)} | others._roles(path, header)
        roles = self._roles(path, header)
        if missing := next((role for role in self.content if role not in roles), None):
            problem = f"neither {', '.join(_TURNS[:-1])} or {_TURNS[-1]} nor a column {missing!r}"
            raise NotATableError(self._missing(path, header, problem, f"--{missing}_column"))
        return roles


class _BesideTurns(DialogueColumns):
    """The columns that a table with a column of turns may have beside it."""

    usual_names: ClassVar[UsualNames] = {
        role: DialogueColumns.usual_names[role] for role in ("system", "source", "focus")
    }


def read_dialogues(path: str, columns: Columns, refusals: Refusals) -> Iterator[tuple[str, Dialogue]]:
    """Yields the dialogues of a file, each with its place; see `corpora.read_pairs` for the formats.

    Args:
      path: the file; MedDialog's text files are read, too.
      columns: `question` and `answer` name the columns of an instruction table; all are recognised by their usual
        names.
      refusals: counts the rows with an unknown role, an empty turn or a system message behind the first turn, and those
        without a reply; notes what is left out before the first question and behind the last reply.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is empty, damaged, of another kind or encoding, or lacks a column; the message names it.
    """
    columns = DialogueColumns.of(columns)
    for where, messages, extra in _raw(path, columns, refusals):
        try:
            dialogue = _dialogue(messages(), extra, where, refusals)
        except _RefusedError as reason:
            refusals.add(str(reason), where)
        else:
            doubts.note(dialogue.turns[0], dialogue.turns[-1], where, refusals)
            yield where, dialogue


DIALOGUES = Reader(DIALOGUE, read_dialogues, "dialogues")

_Raw = tuple[str, Callable[[], Messages], dict[str, str]]  # place, messages, texts of other columns


def _raw(path: str, columns: DialogueColumns, refusals: Refusals) -> Iterator[_Raw]:
    """Yields what each row holds. The messages of one that is no dialogue raise `_RefusedError`."""
    kind = kinds.kind_of(path, columns.format)
    if kind == kinds.TABLE and meddialog.is_meddialog(path):
        for record in meddialog.read_consultations(path):
            messages = [(_ROLES[speaker], text) for speaker, text in record.spoken()]
            yield record.where, lambda messages=messages: messages, {"focus": record.department}
        return
    with opened(path, kind, columns, refusals) as table:
        roles = columns.find(path, table.header)
        value = table.value or operator.getitem
        as_system = "turns" not in roles and _same_instruction(path, kind, columns, roles, refusals)
        rows = table.rows if "turns" in roles else data_rows(table, roles["question"][0], roles["answer"][0], refusals)
        for where, row in rows:
            extra = {role: value(row, roles[role][0]) for role in ("system", "source", "focus") if role in roles}
            extra = {role: text for role, text in extra.items() if isinstance(text, str)}
            if "turns" in roles:
                turns = value(row, roles["turns"][0])
                yield where, lambda turns=turns, where=where: _of_turns(turns, where, refusals), extra
            else:
                values = {role: [value(row, place) for place in places] for role, places in roles.items()}
                yield where, lambda values=values: _of_instruction(values, as_system), extra


def _same_instruction(path: str, kind: str, columns: DialogueColumns, roles: Roles, refusals: Refusals) -> bool:
    """Returns whether all rows of an instruction table have one instruction, and inputs, which is noted."""
    if len(roles["question"]) < 2 or "system" in roles:
        return False
    with opened(path, kind, columns, Refusals()) as table:
        rows = data_rows(table, roles["question"][0], roles["answer"][0], Refusals())
        differ = instructions_differ(table._replace(rows=rows), roles["question"])
    if not differ:
        refusals.note(SAME_INSTRUCTION, path)
    return not differ


def _of_instruction(values: dict[str, list[Any]], as_system: bool) -> Messages:
    """Returns the messages of a row of an instruction table."""
    parts = [part for part in values["question"] if part is not None and part != ""]
    texts = [_text(part).strip() for part in parts]
    texts = [text for text in texts if text]
    system = [(SYSTEM, texts[0])] if as_system and len(texts) > 1 else []
    question = "\n\n".join(texts[len(system) :])
    history = parsed(values.get("history", [None])[0]) or []
    if not isinstance(history, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in history):
        raise _RefusedError(NO_TURNS)
    earlier = [(role, _text(text)) for pair in history for role, text in zip((USER, ASSISTANT), pair, strict=True)]
    return [*system, *earlier, (USER, question), (ASSISTANT, _text(values["answer"][0]))]


def _of_turns(turns: Any, where: str, refusals: Refusals) -> Messages:
    """Returns the messages of a list of objects with role and text, or of texts with or without their speakers."""
    turns = parsed(turns)
    if not isinstance(turns, list) or not turns:
        raise _RefusedError(NO_TURNS)
    if all(isinstance(turn, dict) for turn in turns):
        return [_message(turn) for turn in turns]
    texts = list(map(_text, turns))
    speakers = list(map(_SPEAKER.match, texts))
    if not any(speakers):
        refusals.note(ALTERNATE, where)
        return [((USER, ASSISTANT)[i % 2], text) for i, text in enumerate(texts)]
    if not all(speakers):
        raise _RefusedError(NO_SPEAKER)
    return [(_role(speaker[1]), text[speaker.end() :]) for speaker, text in zip(speakers, texts, strict=True)]


def _message(turn: dict[str, Any]) -> tuple[str, str]:
    role = next((turn[name] for name in _ROLE_FIELDS if name in turn), None)
    text = next((turn[name] for name in _TEXT_FIELDS if name in turn), None)
    if isinstance(text, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in text):
        text = "\n".join(_text(part.get("text")) for part in text)  # OpenAI's content in parts
    return _role(role), _text(text)


def _role(name: Any) -> str:
    role = _ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise _RefusedError(UNKNOWN_ROLE)
    return role


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _RefusedError(NO_TEXT)
    return value


def _dialogue(messages: Messages, extra: dict[str, str], where: str, refusals: Refusals) -> Dialogue:
    """Returns the dialogue from its first question to its last reply."""
    spoken = [role != SYSTEM for role, _ in messages]
    first = spoken.index(True) if any(spoken) else len(messages)
    if not all(spoken[first:]):
        raise _RefusedError(LATE_SYSTEM)
    if own := "\n\n".join(text for _, text in messages[:first]):
        extra = extra | {"system": own}
    turns = list(messages[first:])
    if not all(text.strip() for _, text in turns):
        raise _RefusedError(EMPTY)
    roles = [role for role, _ in turns]
    begin = roles.index(USER) if USER in roles else len(roles)
    end = len(roles) - roles[::-1].index(ASSISTANT) if ASSISTANT in roles else 0
    if end <= begin:
        raise _RefusedError(NO_REPLY)
    if begin:
        refusals.note(REPLY_FIRST, where)
    if end < len(roles):
        refusals.note(UNANSWERED, where)
    turns = turns[begin:end]
    return Dialogue(tuple(text for _, text in turns), tuple(role for role, _ in turns), **extra)
