"""What a run asks for questions: an endpoint (endpoint.py), or a model of this machine (docproduct)."""

import dataclasses
from collections.abc import Sequence
from typing import Protocol

from data_pipeline.prompts.chat_template import Message


@dataclasses.dataclass(frozen=True)
class Reply:
    """What a model wrote.

    Attributes:
      text: the answer.
      finished: whether the model ended it; otherwise the maximum of tokens was reached.
      tokens: number of tokens of prompt and answer; None if nobody says.
    """

    text: str
    finished: bool
    tokens: tuple[int, int] | None


class Writer(Protocol):
    """Writes answers."""

    def most_tokens(self, messages: Sequence[Message]) -> tuple[int, int]:
        """Returns the largest number of tokens that prompt and answer of a call can have."""

    async def write(self, messages: Sequence[Message]) -> Reply:
        """Returns the answer to a conversation.

        Raises:
          TryAgainError: there is no answer now.
          RefusedError: there will be no answer to this conversation.
          StoppedError: there will be no answer to any conversation.
        """

    async def close(self) -> None:
        """Ends connections."""


class TryAgainError(Exception):
    """There is no answer now.

    Attributes:
      reason: why; the same words for reasons of one sort.
      wait_seconds: how long to wait before the next call, if the endpoint says so.
      is_billed: whether the call may cost all the same.
    """

    def __init__(self, reason: str, wait_seconds: float | None = None, is_billed: bool = False):
        super().__init__(reason)
        self.reason, self.wait_seconds, self.is_billed = reason, wait_seconds, is_billed


class RefusedError(Exception):
    """There will be no answer to this conversation; the message says why."""


class StoppedError(Exception):
    """There will be no answer to any conversation; the message says why, and what to do."""
