"""Conversations as token ids: what a chat model reads, and what it learns to write.

A model with a chat template is asked as its template says. Any other, such as a GPT-2, has this format; its end token
ends a reply:

    what the system says

    User: What helps?
    Assistant: Rest and tea.<|endoftext|>
    User: And then?
    Assistant:
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.prompts.chat_template import ChatTemplate, Message, template_of
from data_pipeline.rows import ASSISTANT, USER
from data_pipeline.tokenizers import CausalTokenizer


class LearnedIds(NamedTuple):
    """A conversation, or a part of it.

    Attributes:
      ids: its token ids, up to the end of its last reply.
      learned: of each, whether the model learns to write it: the ids of replies with their ends.
    """

    ids: list[int]
    learned: list[bool]


class PlainFormat:
    """The format of models without a chat template; it has the methods of `ChatTemplate` that make ids."""

    def ids(
        self, tokenizer: CausalTokenizer, messages: Sequence[Message], add_generation_prompt: bool = True
    ) -> list[int]:
        """Returns the token ids of a conversation; see `ChatTemplate.ids`."""
        parts = [self._parts(tokenizer, message) for message in messages]
        if add_generation_prompt:
            parts.append(tokenizer.encode(["Assistant:"]))
        return [*getattr(tokenizer, "opening_ids", ()), *(i for ids in itertools.chain(*parts) for i in ids)]

    def training_ids(self, tokenizer: CausalTokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Returns the ids of a conversation in two parts; see `ChatTemplate.training_ids`."""
        (reply,) = tokenizer.encode([f" {messages[-1]['content']}"])
        return self.ids(tokenizer, messages[:-1]), [*reply, tokenizer.end_id]

    def _parts(self, tokenizer: CausalTokenizer, message: Message) -> list[list[int]]:
        content = message["content"]
        if message["role"] == ASSISTANT:
            before, reply, after = tokenizer.encode(["Assistant:", f" {content}", "\n"])
            return [before, [*reply, tokenizer.end_id], after]
        return tokenizer.encode([f"User: {content}\n" if message["role"] == USER else f"{content}\n\n"])


def format_of(tokenizer: CausalTokenizer) -> ChatTemplate | PlainFormat:
    """Returns how a model with this tokenizer reads conversations.

    Raises:
      ValueError: its chat template has a syntax error.
    """
    return template_of(tokenizer) if tokenizer.chat_template else PlainFormat()


def learned_ids(tokenizer: CausalTokenizer, messages: Sequence[Message]) -> list[LearnedIds]:
    """Returns a conversation with the ids that a model learns to write.

    It is one row. Some templates write earlier messages otherwise once others follow, such as replies without their
    thoughts: there, every reply has a row of its own, behind what the model reads before it writes this reply.

    Args:
      tokenizer: of the model.
      messages: the conversation, oldest first; the last is a reply.

    Raises:
      ValueError: the chat template refuses the conversation, or cannot be used; see `ChatTemplate.training_ids`.
    """
    form = format_of(tokenizer)
    ends = [place for place, message in enumerate(messages, 1) if message["role"] == ASSISTANT]
    replies = [form.training_ids(tokenizer, messages[:end]) for end in ends]
    whole = [*itertools.chain(*replies[-1])]
    if any(whole[: len(prompt) + len(target)] != [*prompt, *target] for prompt, target in replies):
        return [
            LearnedIds([*prompt, *target], [False] * len(prompt) + [True] * len(target)) for prompt, target in replies
        ]
    learned = [False] * len(whole)
    for prompt, target in replies:
        learned[len(prompt) : len(prompt) + len(target)] = [True] * len(target)
    return [LearnedIds(whole, learned)]
