"""A conversation as clients send it: messages with roles, checked."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline import cleaning
from data_pipeline.prompts.chat_template import ROLES, Message

_EXPECTED = 'Expected for example [{"role": "user", "content": "What helps against a cough?"}].'


@dataclasses.dataclass(frozen=True)
class Conversation:
    """What was said, and the question to answer.

    Attributes:
      system: The system prompt; empty if there is none.
      earlier: The turns of user and assistant before the question, oldest first.
      question: The last turn, the user's.
    """

    system: str
    earlier: tuple[Message, ...]
    question: str

    @classmethod
    def of(cls, messages: Sequence[Mapping[str, Any]]) -> "Conversation":
        """Reads messages such as OpenAI's clients send: a role and a text each, the oldest first.

        Raises:
          ValueError: There is no message, a role is unknown, a text is empty, a system message is not the first one, or
            the last message is not the user's.
        """
        if not messages:
            raise ValueError(f"The conversation has no messages. {_EXPECTED}")
        turns = [_checked(number, message) for number, message in enumerate(messages, 1)]
        has_system = turns[0]["role"] == "system"
        system, turns = (turns[0]["content"], turns[1:]) if has_system else ("", turns)
        for number, turn in enumerate(turns, 1 + has_system):
            if turn["role"] == "system":
                raise ValueError(f"Message {number} is a system message. Expected a single one, before all others.")
        if not turns or turns[-1]["role"] != "user":
            last = turns[-1]["role"] if turns else "system"
            raise ValueError(f"The last message has the role {last!r}; expected user, whose question is answered.")
        return cls(system, tuple(turns[:-1]), turns[-1]["content"])

    @property
    def user_turns(self) -> list[str]:
        """The user's turns, oldest first, the question last."""
        earlier = (turn["content"] for turn in self.earlier if turn["role"] == "user")
        return [cleaning.clean(text) for text in (*earlier, self.question)]


def _checked(number: int, message: Mapping[str, Any]) -> Message:
    role, content = message.get("role"), message.get("content")
    if role not in ROLES:
        raise ValueError(f"Message {number} has the role {role!r}; expected {', '.join(ROLES)}.")
    if not isinstance(content, str) or not cleaning.clean(content):
        raise ValueError(f"Message {number} ({role}) is empty; expected a text. Leave the message out, or fill it.")
    return {"role": role, "content": content.strip()}
