"""Where a sentence and a sentence of a source differ, word by word."""

import difflib
import itertools
from collections.abc import Sequence

from docproduct.answering.evidence.word_weights import WordWeights
from docproduct.answering.evidence.wording import (
    Wording,
    are_opposites,
    is_faint_negation,
    is_negation,
    is_number,
)

_SHORT_GAP = 4  # words


class Gaps:
    """Where a sentence and the nearest sentence of a source differ, word by word.

    Attributes:
      contradictions: Pairs of words that stand at the same place, the source's first.
    """

    def __init__(self, sentence: Wording, source: Wording, asked: frozenset[str], weights: WordWeights):
        self._weights, self._asked = weights, asked
        self._sentence, self._source = sentence, source
        self.contradictions: list[tuple[str, str]] = []
        self._found = dict.fromkeys(("number_instead", "negation", "opposite", "replaced", "replaced_nearby"), 0.0)
        longest = 0
        steps = difflib.SequenceMatcher(None, source.keys, sentence.keys, autojunk=False).get_opcodes()
        for i, (step, *places) in enumerate(steps):
            if step == "equal":
                longest = max(longest, places[1] - places[0])
            else:
                self._compare(*places, is_first=not i, is_last=i == len(steps) - 1)
        self._found["scattered"] = 1 - longest / max(1, len(sentence.keys))

    def signs(self) -> dict[str, float]:
        """Returns the signs of SIGNS that come from the order of words."""
        return self._found

    def _compare(self, start: int, end: int, own_start: int, own_end: int, is_first: bool, is_last: bool) -> None:
        """Compares words of the source, start to end, with the words of the sentence that stand in their place."""
        if own_end > own_start:  # of a longer text before or behind, only the words next to the common ones count
            start = max(start, end - (own_end - own_start) - 1) if is_first else start
            end = min(end, start + (own_end - own_start) + 1) if is_last else end
        theirs, ours = self._source.keys[start:end], self._sentence.keys[own_start:own_end]
        if self._differ_in_negation(theirs, ours, is_inside=not (is_first or is_last)):
            self._found["negation"] = 1.0
        if theirs and ours:
            self._compare_words(theirs, ours)
            self._find_contradictions(start, end, own_start, own_end)

    def _differ_in_negation(self, theirs: Sequence[str], ours: Sequence[str], is_inside: bool) -> bool:
        negated, own_negated = sum(map(is_negation, theirs)), sum(map(is_negation, ours))
        if own_negated > negated + sum(map(is_faint_negation, theirs)):
            return True
        # A longer part of the source that is left out may be negated by itself.
        num_content = sum(self._weights(key) > 0 for key in theirs)
        left_out = is_inside and num_content <= (1 + len(ours) if ours else 1)
        return left_out and negated > own_negated + sum(map(is_faint_negation, ours))

    def _compare_words(self, theirs: Sequence[str], ours: Sequence[str]) -> None:
        only_theirs, only_ours = set(theirs) - set(ours), set(ours) - set(theirs)
        if len(theirs) <= _SHORT_GAP and len(ours) <= _SHORT_GAP:
            if any(map(is_number, only_theirs)) and any(map(is_number, only_ours)):
                self._found["number_instead"] = 1.0
            if self._weights.of(only_theirs):
                self._found["replaced_nearby"] += self._weights.of(only_ours - self._asked)
        if self._weights.of(only_theirs.difference(self._sentence.keys)):
            self._found["replaced"] += self._weights.of(only_ours.difference(self._source.keys, self._asked))

    def _find_contradictions(self, start: int, end: int, own_start: int, own_end: int) -> None:
        is_short = end - start <= _SHORT_GAP and own_end - own_start <= _SHORT_GAP
        in_source, in_sentence = set(self._source.keys), set(self._sentence.keys)
        theirs = [i for i in range(start, end) if is_short or self._source.keys[i] not in in_sentence]
        ours = [i for i in range(own_start, own_end) if is_short or self._sentence.keys[i] not in in_source]
        for place, own_place in itertools.product(theirs, ours):
            if are_opposites(self._source.keys[place], self._sentence.keys[own_place]):
                self._found["opposite"] = 1.0
                self.contradictions.append((self._source.words[place], self._sentence.words[own_place]))
