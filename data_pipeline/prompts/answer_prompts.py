"""Every prompt of the generator, in token ids: what training reads and what serving asks are made here.

    <question> q2 <answer> a2 <end> <question> q1 <answer> a1 <end> <question> q <answer>

The retrieved pairs come first, the nearest last, next to the question; each looks like a pair of its own, so that the
closed-book prompt, which has none, is the same without them. The answer and `<end>` follow. The markers are added
tokens: no text has their ids, whatever a user types.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.settings import Settings, setting
from data_pipeline.tokenizers import BytePairs

QUESTION, ANSWER, END = ADDED = ("<question>", "<answer>", "<end>")
_MARKERS = 3  # of a pair in a prompt
_LEAST_CONTEXT = 32  # tokens of a retrieved pair; with less room it is left out

TextPair = tuple[str, str]  # question, answer


@dataclasses.dataclass(frozen=True)
class PromptSettings(Settings):
    """The size of prompts; the help beside each field says what it does."""

    num_contexts: int = setting(3, "Retrieved pairs in a prompt, at most; 0: closed book.", least=0)
    window: int = setting(512, "Tokens of prompt and answer together.")
    answer_tokens: int = setting(192, "Tokens of the window that a prompt leaves to the answer and its end.")

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
        """The tokens of a prompt, at most."""
        return self.window - self.answer_tokens


class Prompt(NamedTuple):
    """A prompt.

    Attributes:
      ids: its token ids, at most `settings.prompt_tokens`.
      num_contexts: the first so many of the retrieved pairs stand in it, whole or in part.
      shortened: whether the question lost its end.
    """

    ids: list[int]
    num_contexts: int
    shortened: bool


def with_markers(tokenizer: BytePairs) -> BytePairs:
    """Returns a tokenizer that has the markers."""
    return tokenizer.with_added(ADDED)


def answer_prompt(
    tokenizer: BytePairs, settings: PromptSettings, question: str, contexts: Sequence[TextPair] = ()
) -> Prompt:
    """Returns the prompt that asks for an answer.

    Args:
      tokenizer: has the markers.
      settings: its lengths.
      question: clean text; its end is lost where it fills the prompt.
      contexts: retrieved pairs, the nearest first; those after the first `settings.num_contexts` are left out. They
        share what the question leaves: a long one loses the end of its answer, and that of its question where this
        takes more than half of its share. Where there is no room, they are left out, the furthest first.

    Raises:
      ValueError: the tokenizer has no markers.
    """
    marker = _marker_ids(tokenizer)
    contexts = contexts[: settings.num_contexts]
    own, *texts = tokenizer.encode([question, *(text for pair in contexts for text in pair)])
    room = settings.prompt_tokens - (_MARKERS - 1)
    shortened, own = len(own) > room, own[:room]
    room -= len(own)
    pairs = list(zip(texts[::2], texts[1::2], strict=True))[: room // _LEAST_CONTEXT]  # as many as have room
    longest = _equal_shares([len(asked) + len(answered) + _MARKERS for asked, answered in pairs], room) - _MARKERS
    ids = []
    for asked, answered in reversed(pairs):
        asked = asked[: max(longest // 2, longest - len(answered))]
        # What is cut has no end, as in `target`.
        ids += [marker[QUESTION], *asked, marker[ANSWER], *[*answered, marker[END]][: longest + 1 - len(asked)]]
    return Prompt([*ids, marker[QUESTION], *own, marker[ANSWER]], len(pairs), shortened)


def target(tokenizer: BytePairs, answer: str, room: int) -> list[int]:
    """Returns the ids that the model shall write: the answer and `<end>`.

    An answer that needs more than `room` ids is cut there, and has no end: the model shall not learn to stop there.
    """
    (ids,) = tokenizer.encode([answer])
    return [*ids, _marker_ids(tokenizer)[END]][:room]


def _marker_ids(tokenizer: BytePairs) -> dict[str, int]:
    if lacking := [token for token in ADDED if token not in tokenizer.added]:
        raise ValueError(
            f"The tokenizer has no {', '.join(lacking)}. Expected that of a generator that was trained to answer: "
            "train it with train_gpt2.py --task=context_answer or closed_book."
        )
    return tokenizer.added


def _equal_shares(lengths: Sequence[int], room: int) -> int:
    """Returns the greatest length to which all are cut so that their sum fits; what short ones leave, long ones get."""
    for left, length in zip(range(len(lengths), 0, -1), sorted(lengths), strict=True):
        if length > room // left:
            return room // left
        room -= length
    return max(lengths, default=0)
