"""Corrects words that a table does not know but nearly knows: `astma` becomes `asthma`, if the table speaks of it.

Only slips that seldom make another word are corrected: an inner letter dropped or doubled, two neighbors swapped. A
replaced letter is not: macrocephaly and microcephaly are one apart, aphasia and aplasia, too. Source: Norvig 2007, "How
to Write a Spelling Corrector", with fewer kinds of slips.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from data_pipeline.tokenizers import Tokenizer
from docproduct.search.shared_words import words_of

_LETTERS = "abcdefghijklmnopqrstuvwxyzßàáâãäåæçèéêëìíîïñòóôõöøùúûüýÿœ"
_WORD = re.compile(rf"(?<!\w)[{_LETTERS}]{{5,40}}(?!\w)", re.IGNORECASE)  # shorter words are often one slip apart
_LEAST_TEXTS = 2  # a word that stands in one text may itself be a slip
_PIECES = 8  # ids of a word that are looked at, special tokens included
_SPACE_MARKS = "▁Ġ"  # before the first piece of a word, in some vocabularies


class Speller:
    """Knows the words of a table, and those that an encoder's vocabulary holds whole."""

    def __init__(self, counts: Mapping[str, int], tokenizer: Tokenizer):
        """Takes the known words.

        Args:
          counts: number of texts of the table in which each word stands, in lower case.
          tokenizer: the encoder's; a word that it does not cut into pieces is no slip, though no text has it.
        """
        self._counts, self._tokenizer = counts, tokenizer

    def correct(self, question: str) -> str:
        """Returns the question with its unknown words corrected.

        It stays as it is if most of its words are unknown and have no correction: then it is in another language.
        """
        words = words_of(question)
        unknown = self.unknown(words)
        # Among other words, one in capitals is an abbreviation: HELLP is no slip of HELP.
        typed = {word for word in _WORD.findall(question) if question.isupper() or not word.isupper()}
        corrections = {
            word: _in_case_of(word, meant)
            for word in typed
            if word.lower() in unknown and (meant := self._meant(word.lower()))
        }
        if 2 * (len(unknown) - len({word.lower() for word in corrections})) > len(words):
            return question
        return _WORD.sub(lambda match: corrections.get(match[0], match[0]), question)

    def unknown(self, words: Iterable[str]) -> set[str]:
        """Returns the words, in lower case, that neither the table nor the vocabulary has."""
        words = [word for word in words if word not in self._counts]
        pieces = map(self._tokenizer.decode, self._tokenizer.encode_few(words, _PIECES)) if words else []
        return {
            word
            for word, own in zip(words, pieces, strict=True)
            if word not in {piece.lstrip(_SPACE_MARKS).lower() for piece in own}
        }

    def _meant(self, word: str) -> str | None:
        """Returns the word of the table that one slip turns into this one, the most frequent; None if there is none."""
        meant = max(_before_a_slip(word), key=lambda other: (self._counts.get(other, 0), other))
        return meant if self._counts.get(meant, 0) >= _LEAST_TEXTS else None


def _before_a_slip(word: str) -> Iterator[str]:
    """Yields what was meant if a letter behind the first was dropped, doubled or swapped with the next one.

    A letter dropped at the end is left out: without it, most words are another form.
    """
    for place in range(1, len(word)):
        before, after = word[:place], word[place:]
        yield from (before + letter + after for letter in _LETTERS)
        if before[-1] == after[0]:
            yield before + after[1:]
        if len(after) > 1:
            yield before + after[1] + after[0] + after[2:]


def _in_case_of(word: str, correction: str) -> str:
    """Returns the correction in capitals, or with a capital, as the word is."""
    if word.isupper():
        return correction.upper()
    return correction.capitalize() if word[0].isupper() else correction
