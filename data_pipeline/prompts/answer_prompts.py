"""Makes every prompt of the generator, in token ids, for training and for serving.

    <question> q2 <answer> a2 <end> <question> q1 <answer> a1 <end> <question> q <answer>

The retrieved pairs come first, the nearest last, next to the question. Each is written like a pair of its own, so that
the closed-book prompt is the same without them. The answer and `<end>` follow. The markers are added tokens: no text
has their ids, whatever a user types.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from data_pipeline.settings import Settings, setting
from data_pipeline.tokenizers import CausalTokenizer

QUESTION, ANSWER, END = ADDED = ("<question>", "<answer>", "<end>")
_MARKERS = 3  # of a pair in a prompt
_LEAST_CONTEXT = 32  # tokens of room that a retrieved pair needs; with less it is left out

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
        """The largest number of tokens of a prompt."""
        return self.window - self.answer_tokens


class Prompt(NamedTuple):
    """A prompt.

    Attributes:
      ids: its token ids, at most `settings.prompt_tokens`.
      num_contexts: number of retrieved pairs in it, whole or in part: the first ones.
      shortened: whether the question lost its end.
    """

    ids: list[int]
    num_contexts: int
    shortened: bool


def with_markers(tokenizer: CausalTokenizer) -> CausalTokenizer:
    """Returns the tokenizer with the markers."""
    return tokenizer.with_added(ADDED)


def answer_prompt(
    tokenizer: CausalTokenizer, settings: PromptSettings, question: str, contexts: Sequence[TextPair] = ()
) -> Prompt:
    """Returns the prompt that asks for an answer.

    Args:
      tokenizer: has the markers.
      settings: the size of prompts.
      question: clean text; one that is longer than a prompt loses its end.
      contexts: retrieved pairs, the nearest first; those after the first `settings.num_contexts` are left out. They
        share the room that the question leaves. A long pair loses the end of its answer, and the end of its question if
        that takes more than half of its share. Without room, the furthest are left out first.

    Raises:
      ValueError: the tokenizer has no markers.
    """
    marker = _marker_ids(tokenizer)
    contexts = contexts[: settings.num_contexts]
    own, *texts = tokenizer.encode([question, *(text for pair in contexts for text in pair)])
    room = settings.prompt_tokens - (_MARKERS - 1)
    shortened, own = len(own) > room, own[:room]
    room -= len(own)
    pairs = list(zip(texts[::2], texts[1::2], strict=True))[: room // _LEAST_CONTEXT]
    longest = _equal_share([len(question) + len(answer) + _MARKERS for question, answer in pairs], room) - _MARKERS
    ids = []
    for question_ids, answer_ids in reversed(pairs):
        question_ids = question_ids[: max(longest // 2, longest - len(answer_ids))]
        # An answer that is cut has no end, as in `target`.
        answer_ids = [*answer_ids, marker[END]][: longest + 1 - len(question_ids)]
        ids += [marker[QUESTION], *question_ids, marker[ANSWER], *answer_ids]
    return Prompt([*ids, marker[QUESTION], *own, marker[ANSWER]], len(pairs), shortened)


def target(tokenizer: CausalTokenizer, answer: str, room: int) -> list[int]:
    """Returns the ids that the model learns to write: the answer and `<end>`.

    An answer of more than `room` ids is cut and has no end, so that the model does not learn to stop there.
    """
    (ids,) = tokenizer.encode([answer])
    return [*ids, _marker_ids(tokenizer)[END]][:room]


def _marker_ids(tokenizer: CausalTokenizer) -> dict[str, int]:
    if missing := [token for token in ADDED if token not in tokenizer.added]:
        raise ValueError(
            f"The tokenizer has no {', '.join(missing)}. Expected that of a generator that was trained to answer: "
            "train it with train_gpt2.py --task=context_answer or closed_book."
        )
    return tokenizer.added


def _equal_share(lengths: Sequence[int], room: int) -> int:
    """Returns the largest length to which all can be cut so that their sum fits; short ones leave room to long ones."""
    for num_left, length in zip(range(len(lengths), 0, -1), sorted(lengths), strict=True):
        if length > room // num_left:
            return room // num_left
        room -= length
    return max(lengths, default=0)
