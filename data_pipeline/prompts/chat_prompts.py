"""Prompts of a chat model that answers from numbered sources.

    system      what the user of a program wants of the model, if anything; then what to do
    user, assistant, ...    earlier turns, if the model learned from conversations
    user        [1] question of the nearest pair
                its answer

                [2] ...

                Question: the user's question
    assistant   [2] what source 2 answers, or `REFUSAL`

The model's own chat template writes the marks between these parts. Without sources, the user's part is the question.

The number of a source stands before what is taken from it: the first token decides whether to answer, the second from
which source. Readers see the number behind the passage; see `numbers_last`.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.prompts.chat_template import Message, template_of
from data_pipeline.prompts.room import equal_share, first_sentences, num_tokens
from data_pipeline.tokenizers import DecoderTokenizer

REFUSAL = "The sources do not say."
SYSTEM = (
    "Answer the question from the numbered sources only. Before what you take from a source, write its number, such as "
    f"[1]. If no source answers the question, write: {REFUSAL}"
)
OPENING_TOKENS = 2  # of an answer: they name the source, or begin to refuse
_NUMBER = re.compile(r"^\[(\d+)\][ \t]*", re.MULTILINE)
_BEGUN_NUMBER = re.compile(r"(?<![^\n])\[\d*\Z")  # at the beginning of the last line
_LEAST_SOURCE = 32  # tokens of room that a source needs; with less it is left out

TextPair = tuple[str, str]  # question, answer; a passage of a document has no question


class ChatPrompt(NamedTuple):
    """A prompt.

    Attributes:
      ids: its token ids.
      sources: the sources as they stand in it.
      shortened: whether the question lost its end.
      num_left_out: earlier messages that had no room.
    """

    ids: list[int]
    sources: tuple[TextPair, ...]
    shortened: bool
    num_left_out: int = 0


def chat_prompt(
    tokenizer: DecoderTokenizer,
    question: str,
    sources: Sequence[TextPair],
    max_tokens: int,
    system: str = "",
    earlier: Sequence[Message] = (),
) -> ChatPrompt:
    """Returns the prompt that asks for an answer from sources.

    Args:
      tokenizer: has the model's chat template.
      question: clean text; one that does not fit loses its end.
      sources: pairs, the nearest first. They share the room that the question leaves; a long answer loses its last
        sentences. Without room, the furthest are left out first.
      max_tokens: the largest number of tokens.
      system: what stands before the instruction to answer from the sources; at most half of `max_tokens`.
      earlier: the turns before, oldest first. They take up to half of the room beside sources, and all of it without
        any; the oldest are left out first, a question together with its answers.

    Raises:
      ValueError: the template cannot be used, refuses the conversation, or does not fit into `max_tokens`.
    """
    check_system(tokenizer, system, max_tokens)
    room = max_tokens - len(conversation_ids(tokenizer, messages("", [("", "")] if sources else [], system)))
    if room < 1:
        raise ValueError(
            f"A prompt may have {max_tokens} tokens, and the chat template alone takes {max_tokens - room}. Expected "
            "room for a question: give a larger window, or fewer tokens to the answer."
        )
    while True:
        asked = first_sentences(tokenizer, question, room)
        left = room - num_tokens(tokenizer, asked)
        turns, size = _last_turns(tokenizer, earlier, left // 2 if sources else left)
        shown = _fitted(tokenizer, sources, left - size)
        ids = conversation_ids(tokenizer, messages(asked, shown, system, turns))
        if len(ids) <= max_tokens:
            return ChatPrompt(ids, tuple(shown), asked != question, len(earlier) - len(turns))
        room -= len(ids) - max_tokens  # rarely, texts have a few more tokens together than apart


def conversation_ids(tokenizer: DecoderTokenizer, conversation: Sequence[Message]) -> list[int]:
    """Returns the ids of a conversation that the assistant is to go on with.

    Raises:
      ValueError: the template cannot be used with these messages.
    """
    return template_of(tokenizer).ids(tokenizer, conversation)


def check_system(tokenizer: DecoderTokenizer, system: str, max_tokens: int) -> None:
    """Raises a ValueError if a system prompt takes more than half of the tokens that a prompt may have."""
    size = num_tokens(tokenizer, system)
    if size > max_tokens // 2:
        raise ValueError(
            f"The system prompt has {size} tokens; expected at most {max_tokens // 2}, half of the {max_tokens} that a "
            "prompt of this model may have. Shorten it."
        )


def messages(
    question: str, sources: Sequence[TextPair], system: str = "", earlier: Sequence[Message] = ()
) -> list[Message]:
    """Returns the conversation in which a question is asked."""
    system = "\n\n".join(filter(None, [system, SYSTEM if sources else ""]))
    numbered = [_numbered(number, source) for number, source in enumerate(sources, 1)]
    asked = "\n\n".join([*numbered, f"Question: {question}"]) if sources else question
    return [*([_message("system", system)] if system else []), *earlier, _message("user", asked)]


def cited(number: int, text: str) -> str:
    """Returns a text behind the number of its source."""
    return f"[{number}] {text}"


def numbers_last(text: str, finished: bool = True) -> str:
    """Moves the number that begins a passage behind it.

    Args:
      text: what a model wrote.
      finished: whether it is complete. In a growing text the last passage has no number and no blanks at its end: what
        is shown only grows.
    """
    before, *parts = _NUMBER.split(text if finished else _BEGUN_NUMBER.sub("", text))
    result = before
    passages = list(zip(parts[::2], parts[1::2], strict=True))
    for i, (number, passage) in enumerate(passages, 1):
        body = passage.rstrip()
        if finished or i < len(passages):
            result += (f"{body} [{number}]" if body else "") + passage[len(body) :]
        else:
            result += body
    return result


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def _last_turns(tokenizer: DecoderTokenizer, earlier: Sequence[Message], room: int) -> tuple[list[Message], int]:
    """Returns the last messages that fit into a room, and the tokens that they take. Exchanges stay whole."""
    starts = [
        place
        for place, message in enumerate(earlier)
        if not place or (message["role"] == "user" and earlier[place - 1]["role"] != "user")
    ]
    frame = len(conversation_ids(tokenizer, messages("", [])))
    first, size = len(earlier), 0
    for start in reversed(starts):
        exchange = earlier[start:first]
        more = len(conversation_ids(tokenizer, messages("", [], earlier=exchange))) - frame
        if size + more > room:
            break
        first, size = start, size + more
    return list(earlier[first:]), size


def _numbered(number: int, source: TextPair) -> str:
    question, answer = source
    return cited(number, answer if answer and not question else f"{question}\n{answer}")


def _fitted(tokenizer: DecoderTokenizer, sources: Sequence[TextPair], room: int) -> list[TextPair]:
    """Returns the sources that have room, each with as many sentences as its share of the room holds."""
    sources = sources[: max(room, 0) // _LEAST_SOURCE]
    frame = num_tokens(tokenizer, _numbered(1, ("", ""))) + 1  # and the line between two sources
    sizes = [sum(map(len, tokenizer.encode(source))) + frame for source in sources]
    share = equal_share(sizes, room) - frame
    shown = []
    for question, answer in sources:
        question = first_sentences(tokenizer, question, max(share // 2, share - num_tokens(tokenizer, answer)))
        answer = first_sentences(tokenizer, answer, share - num_tokens(tokenizer, question))
        shown.append((question, answer))
    return shown
