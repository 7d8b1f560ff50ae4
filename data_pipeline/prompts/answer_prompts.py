"""Makes every prompt of the generator, in token ids, for training and for serving.

A model with a chat template is asked in a conversation, see chat_prompts.py. Any other learns markers:

    <question> q2 <answer> a2 <end> <question> q1 <answer> a1 <end> <question> q <answer>

The retrieved pairs come first, the nearest last, next to the question. Each is written like a pair of its own, so that
the closed-book prompt is the same without them. The answer and `<end>` follow. The markers are added tokens: no text
has their ids, whatever a user types.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.prompts.chat_prompts import TextPair, chat_prompt
from data_pipeline.prompts.chat_template import Message
from data_pipeline.prompts.room import equal_share
from data_pipeline.settings import Settings, setting
from data_pipeline.tokenizers import CausalTokenizer

QUESTION, ANSWER, END = ADDED = ("<question>", "<answer>", "<end>")
_MARKERS = 3  # of a pair in a prompt
_CHAT_WINDOW = 1_024  # tokens
_LEAST_CONTEXT = 32  # tokens of room that a retrieved pair needs; with less it is left out


@dataclasses.dataclass(frozen=True)
class PromptSettings(Settings):
    """The size of prompts; the help beside each field says what it does."""

    num_contexts: int = setting(3, "Retrieved pairs in a prompt, at most; 0: closed book.", least=0)
    window: int = setting(512, "Tokens of prompt and answer together.")
    answer_tokens: int = setting(192, "Tokens of the window that a prompt leaves to the answer and its end.")
    history: bool = setting(
        False, "Whether the model learned from conversations, so that earlier turns belong into a prompt."
    )

    def __post_init__(self) -> None:
        """Raises a ValueError for numbers that leave no room."""
        super().__post_init__()
        if not 2 <= self.answer_tokens <= self.window - _MARKERS:
            raise ValueError(
                f"answer_tokens is {self.answer_tokens}; expected 2 to {self.window - _MARKERS}: the window of "
                f"{self.window} holds the prompt, too."
            )

    @property
    def prompt_tokens(self) -> int:
        """The largest number of tokens of a prompt."""
        return self.window - self.answer_tokens


def default_prompt(tokenizer: CausalTokenizer, window: int) -> PromptSettings | None:
    """Returns how a model that was not trained here is asked; None if it was not trained to chat."""
    window = min(window, _CHAT_WINDOW)
    return PromptSettings(window=window, answer_tokens=window // 4, history=True) if tokenizer.chat_template else None


class Prompt(NamedTuple):
    """A prompt.

    Attributes:
      ids: its token ids, at most `settings.prompt_tokens`.
      sources: the retrieved pairs in it, the first ones, as they stand there: whole or in part.
      shortened: whether the question lost its end.
      num_left_out: earlier messages that had no room.
    """

    ids: list[int]
    sources: tuple[TextPair, ...]
    shortened: bool
    num_left_out: int = 0


def with_markers(tokenizer: CausalTokenizer) -> CausalTokenizer:
    """Returns the tokenizer with the markers; that of a chat model needs none, and stays."""
    return tokenizer if tokenizer.chat_template else tokenizer.with_added(ADDED)


def answer_prompt(
    tokenizer: CausalTokenizer,
    settings: PromptSettings,
    question: str,
    contexts: Sequence[TextPair] = (),
    system: str = "",
    earlier: Sequence[Message] = (),
) -> Prompt:
    """Returns the prompt that asks for an answer.

    Args:
      tokenizer: has the markers, or a chat template.
      settings: the size of prompts.
      question: clean text; one that is longer than a prompt loses its end.
      contexts: retrieved pairs, the nearest first; those after the first `settings.num_contexts` are left out. They
        share the room that the question leaves. A long pair loses the end of its answer, and the end of its question if
        that takes more than half of its share. Without room, the furthest are left out first.
      system: a system prompt; needs a chat template.
      earlier: earlier turns, oldest first; need a chat template. See `chat_prompt`.

    Raises:
      ValueError: the tokenizer has neither markers nor a template that can be used, or the template refuses the
        conversation.
    """
    contexts = contexts[: settings.num_contexts]
    if tokenizer.chat_template:
        return Prompt(*chat_prompt(tokenizer, question, contexts, settings.prompt_tokens, system, earlier))
    if system or earlier:
        part = "system prompt" if system else "earlier turns"
        raise ValueError(f"This generator has no chat template, and takes no {part}. Leave them out.")
    return _marked_prompt(tokenizer, settings, question, contexts)


def _marked_prompt(
    tokenizer: CausalTokenizer, settings: PromptSettings, question: str, contexts: Sequence[TextPair]
) -> Prompt:
    marker = _marker_ids(tokenizer)
    own, *texts = tokenizer.encode([question, *(text for pair in contexts for text in pair)])
    room = settings.prompt_tokens - (_MARKERS - 1)
    shortened, own = len(own) > room, own[:room]
    room -= len(own)
    pairs = list(zip(texts[::2], texts[1::2], strict=True))[: room // _LEAST_CONTEXT]
    longest = equal_share([len(question) + len(answer) + _MARKERS for question, answer in pairs], room) - _MARKERS
    ids: list[int] = []
    sources = []
    for question_ids, answer_ids in reversed(pairs):
        question_ids = question_ids[: max(longest // 2, longest - len(answer_ids))]
        # An answer that is cut has no end, as in `target`.
        answer_ids = [*answer_ids, marker[END]][: longest + 1 - len(question_ids)]
        ids += [marker[QUESTION], *question_ids, marker[ANSWER], *answer_ids]
        sources.append((tokenizer.decode(question_ids), tokenizer.decode(answer_ids)))
    return Prompt([*ids, marker[QUESTION], *own, marker[ANSWER]], tuple(reversed(sources)), shortened)


def target(tokenizer: CausalTokenizer, answer: str, room: int) -> list[int]:
    """Returns the ids that the model learns to write: the answer and its end.

    An answer of more than `room` ids is cut and has no end, so that the model does not learn to stop there.
    """
    (ids,) = tokenizer.encode([answer])
    return [*ids, end_id(tokenizer)][:room]


def end_id(tokenizer: CausalTokenizer) -> int:
    """Returns the id that ends an answer."""
    return tokenizer.end_id if tokenizer.chat_template else _marker_ids(tokenizer)[END]


def _marker_ids(tokenizer: CausalTokenizer) -> dict[str, int]:
    if missing := [token for token in ADDED if token not in tokenizer.added]:
        raise ValueError(
            f"The tokenizer has no {', '.join(missing)}. Expected that of a generator that was trained to answer: "
            "train it with train_gpt2.py --task=context_answer or closed_book."
        )
    return tokenizer.added
