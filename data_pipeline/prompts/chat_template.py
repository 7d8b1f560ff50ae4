r"""Turns a conversation into the prompt of a chat model, by the Jinja template that comes with it.

    <|im_start|>user\nWhat helps?<|im_end|>\n<|im_start|>assistant\n

The ids are those of transformers' `apply_chat_template`, with one difference: special tokens count only where the
template wrote them. `<|im_start|>` that a user types stays text. To tell the two apart, the template runs twice: with
the messages, and with a placeholder for the text of each. A message is {"role": "system" | "user" | "assistant",
"content": text}.
"""

import datetime
import functools
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from data_pipeline.prompts.template_sandbox import ConversationRefusedError, SandboxedTemplate
from data_pipeline.tokenizers import DecoderTokenizer

ROLES = ("system", "user", "assistant")
_END_OF_THOUGHT = "</think>"

Message = Mapping[str, str]


class _Layout(NamedTuple):
    """What a template makes of a conversation.

    Attributes:
      rendered: the whole text.
      parts: its parts: in turn a text that the template wrote and the text of a message, beginning and ending with the
        template's.
    """

    rendered: str
    parts: list[str]


class ChatTemplate:
    """The chat template of a model."""

    def __init__(self, source: str, special_tokens: Mapping[str, str], where: str):
        """Compiles the template.

        Args:
          source: the Jinja template.
          special_tokens: {name: token} of bos_token, eos_token ...; see `DecoderTokenizer`.
          where: the template's file, for errors.

        Raises:
          ValueError: the template has a syntax error.
        """
        self._template = SandboxedTemplate(source, where)
        self._special_tokens, self._where = dict(special_tokens), where
        # Of private characters alone, which filters such as `lower` and `trim` leave as they are.
        self._secret = "".join(chr(0xE010 + int(digit, 16)) for digit in secrets.token_hex(16))

    def render(self, messages: Sequence[Message], add_generation_prompt: bool = True) -> str:
        """Returns the conversation as text, for people. Models read `ids`: in a text, anybody can write special tokens.

        If the template refuses or leaves out system messages, the system's text stands before the first user's.

        Args:
          messages: the conversation, oldest first.
          add_generation_prompt: whether the text ends with the beginning of an answer.

        Raises:
          ValueError: a message is malformed, or the template fails or refuses the conversation.
        """
        return self._layout(messages, add_generation_prompt, datetime.datetime.now()).rendered

    def ids(
        self, tokenizer: DecoderTokenizer, messages: Sequence[Message], add_generation_prompt: bool = True
    ) -> list[int]:
        """Returns the token ids of a conversation; see `render` for arguments and errors.

        Raises:
          ValueError: see `render`; or the template changes a message's text otherwise than by taking blanks off its
            ends, or thoughts up to `</think>` off an assistant's.
        """
        return self._encode(tokenizer, self._layout(messages, add_generation_prompt, datetime.datetime.now()))

    def training_ids(self, tokenizer: DecoderTokenizer, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """Returns the ids of a conversation in two parts: what the model reads, and what it learns to write.

        The target is the last message, an assistant's, as the template writes it, up to and including the first id that
        ends a text. Prompt and target together are the ids of the whole conversation up to there. If a token reaches
        over the boundary, the target begins with this token.

        Raises:
          ValueError: see `ids`; or the last message is not an assistant's, the template writes the conversation
            otherwise than the prompt that asks for the answer, or it writes no id that ends a text.
        """
        _check(messages)
        if messages[-1]["role"] != "assistant" or len(messages) < 2:
            raise ValueError(
                f"The last of {len(messages)} messages has the role {messages[-1]['role']}. Expected an assistant's "
                "answer after at least one other message."
            )
        now = datetime.datetime.now()
        before, whole = self._layout(messages[:-1], True, now), self._layout(messages, False, now)
        if not whole.rendered.startswith(before.rendered):
            raise ValueError(
                f"The chat template in {self._where} writes a conversation otherwise once it is answered. Expected the "
                f"answer after {before.rendered[-60:]!r}; found {whole.rendered[-120:]!r}. Replace the template."
            )
        prompt, ids = self._encode(tokenizer, before), self._encode(tokenizer, whole)
        start = next((i for i, (a, b) in enumerate(zip(prompt, ids, strict=False)) if a != b), len(prompt))
        ends = [i for i in range(start, len(ids)) if ids[i] in tokenizer.end_ids]
        if not ends:
            raise ValueError(
                f"The chat template in {self._where} ends an answer with no id that ends a text. Expected one of "
                f"{list(tokenizer.end_ids)}: {tokenizer.show(tokenizer.end_ids)}. Replace the template."
            )
        return ids[:start], ids[start : ends[0] + 1]

    def _layout(self, messages: Sequence[Message], add_generation_prompt: bool, now: datetime.datetime) -> _Layout:
        _check(messages)
        given = {"tools": None, "documents": None, "add_generation_prompt": add_generation_prompt}
        given |= {"strftime_now": lambda form: now.strftime(form), **self._special_tokens}
        try:
            return self._laid_out(messages, given)
        except ConversationRefusedError:
            joined = _system_joined(messages)
            if joined is None:
                raise
            return self._laid_out(joined, given)

    def _laid_out(self, messages: Sequence[Message], given: Mapping[str, Any]) -> _Layout:
        """Runs the template with the messages and with placeholders, and fits the two texts together."""
        marks = [f"\ue000{self._secret}{chr(0xF0000 + i)}\ue001" for i in range(len(messages))]
        # A text of blanks stands for itself, as templates ask whether a text is empty.
        marked = [
            {**message, "content": mark} if message["content"].strip() else message
            for message, mark in zip(messages, marks, strict=True)
        ]
        frame, rendered = (
            self._template.render({**given, "messages": [dict(message) for message in conversation]})
            for conversation in (marked, messages)
        )
        # [text, private character of a message, text, character, ..., text]
        pieces = re.split(f"\ue000{self._secret}(.)\ue001", frame)
        pieces[1::2] = [ord(character) - 0xF0000 for character in pieces[1::2]]
        for i, message in enumerate(messages):
            if i not in pieces[1::2] and message["content"].strip():
                error = ConversationRefusedError if message["role"] == "system" else ValueError
                raise error(
                    f"The chat template in {self._where} leaves out or changes the text of message {i} "
                    f"({message['role']}). Expected the text as it is. Leave the message out, or replace the template."
                )
        return self._fitted(messages, pieces, rendered)

    def _fitted(self, messages: Sequence[Message], pieces: Sequence[Any], rendered: str) -> _Layout:
        """Finds the parts of a text, whose outline is known."""
        parts, at = [], 0
        for k, piece in enumerate(pieces):
            following = pieces[k + 1] if k % 2 else ""
            options = _kept(messages[piece]) if k % 2 else [piece]
            part = next((option for option in options if rendered.startswith(option + following, at)), None)
            if part is None:
                raise self._reads_texts(rendered[at : at + 80])
            parts.append(part)
            at += len(part)
        if at < len(rendered):
            raise self._reads_texts(rendered[at : at + 80])
        return _Layout(rendered, parts)

    def _reads_texts(self, found: str) -> ValueError:
        return ValueError(
            f"The chat template in {self._where} changes a message, or what stands around it, by what it says: it "
            f"wrote {found!r}. Expected every text as it is, blanks at its ends aside. Leave special words such as "
            "</think> out of the text, or replace the template."
        )

    def _encode(self, tokenizer: DecoderTokenizer, layout: _Layout) -> list[int]:
        """Returns ids, with special tokens where the template wrote them."""
        # Of tokens that begin alike, the longest one is meant.
        names = sorted(tokenizer.added, key=len, reverse=True)
        pattern = re.compile(f"({'|'.join(map(re.escape, names))})" if names else "(?!)")
        parts: list[str | int] = []
        for k, text in enumerate(layout.parts):
            if k % 2:
                parts.append(text)
            else:  # [text, token, text, token, ..., text]
                split = pattern.split(text)
                parts += [tokenizer.added[part] if j % 2 else part for j, part in enumerate(split)]
        return tokenizer.encode_parts(parts)


def template_of(tokenizer: DecoderTokenizer) -> ChatTemplate:
    """Returns the chat template of a tokenizer that has one.

    Raises:
      ValueError: the template has a syntax error.
    """
    return _compiled(tokenizer.chat_template, tuple(tokenizer.special_tokens.items()))


@functools.lru_cache(maxsize=4)
def _compiled(source: str, special_tokens: tuple[tuple[str, str], ...]) -> ChatTemplate:
    return ChatTemplate(source, dict(special_tokens), "the tokenizer's chat template")


def _kept(message: Message) -> Iterator[str]:
    """Yields what templates keep of a message's text: all of it, or what is left without blanks or thoughts."""
    texts = [message["content"]]
    if message["role"] == "assistant" and _END_OF_THOUGHT in texts[0]:
        texts.append(texts[0].rpartition(_END_OF_THOUGHT)[2])
    for text in texts:
        yield from (text, text.strip(), text.rstrip(), text.lstrip(), text.strip("\n"), text.lstrip("\n"))


def _system_joined(messages: Sequence[Message]) -> list[Message] | None:
    """Returns the conversation with the system's text before the first user's; None if it has not both."""
    users = [i for i, message in enumerate(messages) if message["role"] == "user"]
    if messages[0]["role"] != "system" or not users:
        return None
    system, user = messages[0]["content"].strip(), messages[users[0]]["content"]
    joined = {"role": "user", "content": f"{system}\n\n{user}" if system else user}
    return [*messages[1 : users[0]], joined, *messages[users[0] + 1 :]]


def _check(messages: Sequence[Message]) -> None:
    """Raises a ValueError for messages that are none."""
    if not messages:
        raise ValueError("The conversation has no messages. Expected at least one.")
    for i, message in enumerate(messages):
        if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
            raise ValueError(
                f"Message {i} has the role {message.get('role')!r} and a content of type "
                f"{type(message.get('content')).__name__}. Expected one of {', '.join(ROLES)}, and text."
            )
        if extra := sorted(set(message) - {"role", "content"}):
            raise ValueError(f"Message {i} has the fields {', '.join(extra)}. Expected role and content alone.")
