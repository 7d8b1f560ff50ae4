"""Corrects words that a table does not know but nearly knows: `astma` becomes `asthma`, if the table speaks of it.

Source: Norvig 2007, "How to Write a Spelling Corrector": of all words at one edit, the most frequent.
"""

import re
from collections.abc import Iterator, Mapping

from data_pipeline.tokenizers import Tokenizer

_LETTERS = "abcdefghijklmnopqrstuvwxyzßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœ"
_WORD = re.compile(rf"(?<!\w)[{_LETTERS}]{{2,}}(?!\w)", re.IGNORECASE)
_SHORTEST = 5  # letters: most short words are one edit away from another
_PIECES = 8  # that are looked at, special tokens among them
_LEAST_TEXTS = 2  # a word that stands in one text may itself be a slip


class Speller:
    """Knows the words of a table, and those that an encoder's vocabulary holds whole."""

    def __init__(self, counts: Mapping[str, int], tokenizer: Tokenizer):
        """Takes the known words.

        Args:
          counts: number of texts of the table in which each word stands, in lower case.
          tokenizer: the encoder's; a word that it does not cut into pieces is no slip, though no text has it.
        """
        self._counts, self._tokenizer = counts, tokenizer
        self._letters = [letter for letter in _LETTERS if any(letter in word for word in counts)]

    def correct(self, question: str) -> str:
        """Returns the question with its unknown words corrected.

        It stays as it is if most of its words are unknown and have no correction: then it is in another language.
        """
        words = {word.lower() for word in _WORD.findall(question)}
        unknown = {word for word in words if not self._is_known(word)}
        corrections = {word: nearest for word in unknown if (nearest := self._nearest(word))}
        if 2 * (len(unknown) - len(corrections)) > len(words):
            return question
        return _WORD.sub(lambda match: _in_case_of(match[0], corrections.get(match[0].lower())), question)

    def _is_known(self, word: str) -> bool:
        if word in self._counts:
            return True
        pieces = self._tokenizer.decode(self._tokenizer.encode_few([word], _PIECES)[0])
        return any(piece.lstrip("▁").lower() == word for piece in pieces)

    def _nearest(self, word: str) -> str | None:
        """Returns the most frequent word of the table at one edit behind the first letter; None if there is none."""
        if len(word) < _SHORTEST:
            return None
        nearest = max(_edits(word, self._letters), key=lambda other: (self._counts.get(other, 0), other))
        return nearest if self._counts.get(nearest, 0) >= _LEAST_TEXTS else None


def _edits(word: str, letters: list[str]) -> Iterator[str]:
    """Yields what one slip behind the first letter makes: letters dropped, swapped, replaced or added."""
    for place in range(1, len(word) + 1):
        before, after = word[:place], word[place:]
        yield from (before + letter + after for letter in letters)
        if after:
            yield before + after[1:]
            yield from (before + letter + after[1:] for letter in letters)
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]


def _in_case_of(word: str, correction: str | None) -> str:
    if correction is None:
        return word
    if word.isupper():
        return correction.upper()
    return correction.capitalize() if word[0].isupper() else correction
