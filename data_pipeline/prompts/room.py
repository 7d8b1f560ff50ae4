"""Fits texts into the tokens that a prompt leaves to them."""

import itertools
from collections.abc import Sequence
from typing import Protocol

from data_pipeline.sentences import split_sentences


class Tokenizer(Protocol):
    """What fitting needs of a tokenizer."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text."""

    def decode_finished(self, ids: Sequence[int]) -> str:
        """Returns the text of ids as far as further ids cannot change it."""


def num_tokens(tokenizer: Tokenizer, text: str) -> int:
    """Returns the number of tokens of a text."""
    return len(tokenizer.encode([text])[0])


def first_sentences(tokenizer: Tokenizer, text: str, room: int) -> str:
    """Returns as many whole sentences from the start of a text as fit into `room` tokens.

    If not even the first one fits, it is cut behind a token.
    """
    (ids,) = tokenizer.encode([text])
    if len(ids) <= room:
        return text
    sentences = split_sentences(text)
    # Most tokens begin with the blank before a word, not with the one behind it.
    pieces = [f"{' ' * (place > 0)}{sentence.rstrip()}" for place, sentence in enumerate(sentences)]
    sizes = itertools.accumulate(map(len, tokenizer.encode(pieces)))
    num_whole = sum(size <= room for size in sizes)
    shown = "".join(sentences[:num_whole]) if num_whole else tokenizer.decode_finished(ids[: max(room, 0)])
    return shown.rstrip()


def equal_share(lengths: Sequence[int], room: int) -> int:
    """Returns the largest length to which all can be cut so that their sum fits; short ones leave room to long ones."""
    for num_left, length in zip(range(len(lengths), 0, -1), sorted(lengths), strict=True):
        if length > room // num_left:
            return room // num_left
        room -= length
    return max(lengths, default=0)
