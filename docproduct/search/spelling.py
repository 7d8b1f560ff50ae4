"""Corrects words that a table does not know but nearly knows: `astma` becomes `asthma`, if the table speaks of it.

Source: Damerau 1964: a slip drops a letter, adds one, replaces one, or swaps two neighbors.
"""

import re
from collections.abc import Mapping

from rapidfuzz import process
from rapidfuzz.distance import OSA

from data_pipeline.tokenizers import Tokenizer

_WORD = re.compile(r"(?<!\w)[a-zß-öø-ÿœ]{2,}(?!\w)", re.IGNORECASE)  # in Latin letters
_SHORTEST, _LONGEST = 5, 40  # letters; most shorter words are one slip away from another
_MOST_SLIPS = 1  # two make the opposite of many words: hyperglycemia, hypoglycemia
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
        self._frequent: dict[str, list[str]] = {}  # by the first letter, which is seldom the wrong one
        for word, count in counts.items():
            if count >= _LEAST_TEXTS:
                self._frequent.setdefault(word[0], []).append(word)

    def correct(self, question: str) -> str:
        """Returns the question with its unknown words corrected.

        It stays as it is if most of its words are unknown and have no correction: then it is in another language.
        """
        # Among other words, one in capitals is an abbreviation: HELLP is no slip of HELP.
        words = {word.lower() for word in _WORD.findall(question) if question.isupper() or not word.isupper()}
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
        """Returns the most frequent word of the table that is one slip away; None if there is none."""
        if not _SHORTEST <= len(word) <= _LONGEST:
            return None
        words = self._frequent.get(word[0], [])
        found = process.extract_iter(word, words, scorer=OSA.distance, score_cutoff=_MOST_SLIPS)
        # A last letter too many, or another one, is probably another form of the word: inhaler, inhaled, inhale.
        near = [(-self._counts[other], other) for other, _, _ in found if word[:-1] not in (other, other[:-1])]
        return min(near)[1] if near else None


def _in_case_of(word: str, correction: str | None) -> str:
    if correction is None:
        return word
    if word.isupper():
        return correction.upper()
    return correction.capitalize() if word[0].isupper() else correction
