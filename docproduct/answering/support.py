"""Whether the sources support what the generator wrote, sentence by sentence.

    check = SupportChecker().against([("How is asthma treated?", "Asthma is treated with inhaled steroids.")])
    (sentence,) = check("Asthma is treated with insulin. [1]")
    sentence.supported, sentence.reason  # (False, "Source 1 has no 'insulin' here.")

A sentence is compared with the nearest sentences of each source, by words, numbers, names and negations, and by an
encoder if there is one. Two limits: a sentence that says in quite other words what a source says counts as not
supported, and of a sentence that names no topic nobody knows whether it speaks of the source's topic.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.sentences import split_sentences
from docproduct.answering.evidence.checkable import is_checkable
from docproduct.answering.evidence.reasons import reason
from docproduct.answering.evidence.scoring import Fitted
from docproduct.answering.evidence.sources import Evidence, SourceTexts, without_list_mark
from docproduct.answering.evidence.wording import Wording

Embed = Callable[[Sequence[str]], np.ndarray]  # N texts -> [N, D] float, unit norm
_CITATION = re.compile(r"\s?\[(\d+(?:\s*[,;–-]\s*\d+)*)\]")
_ENCODED = 2  # source sentences, the best by words, whose vectors are compared


@dataclasses.dataclass(frozen=True)
class Sentence:
    """A sentence that the generator wrote.

    Attributes:
      text: The sentence with the blanks behind it, without citations of sources that do not exist.
      cited: Numbers of the sources that it cites, from 1.
      unknown: Numbers that it cites although no source has them.
      sources: Numbers of the sources that support it; if none does, of the nearest one. Empty if it is not checkable.
      score: Probability that the sources support it, if half of all sentences are supported; 0 if it is not checkable.
      supported: Whether the score reaches the threshold.
      checkable: Whether it makes a statement. A refusal, a question, a heading or the advice to see a doctor does not.
      reason: Why it is not supported, for readers; otherwise empty.
    """

    text: str
    cited: tuple[int, ...] = ()
    unknown: tuple[int, ...] = ()
    sources: tuple[int, ...] = ()
    score: float = 0.0
    supported: bool = False
    checkable: bool = False
    reason: str = ""


def support_share(sentences: Sequence[Sentence]) -> float | None:
    """Returns the share of supported sentences among the checkable ones; None if there are none."""
    supported = [sentence.supported for sentence in sentences if sentence.checkable]
    return sum(supported) / len(supported) if supported else None


class SupportChecker:
    """Checks written texts against their sources."""

    def __init__(self, embed: Embed | None = None, fitted: Fitted | None = None):
        """Takes what scores are made of.

        Args:
          embed: Encodes sentences. The weight of their distances was fitted for all-MiniLM-L6-v2; with another encoder,
            fit again. None: words alone decide.
          fitted: The weights. Defaults to those of the package.
        """
        self._embed, self._fitted = embed, fitted or _package_weights()

    def __call__(self, written: str, sources: Sequence[tuple[str, str]]) -> list[Sentence]:
        """Returns the sentences of a text; `sources` are the questions and answers in its prompt, in their order."""
        return self.against(sources)(written)

    def against(self, sources: Sequence[tuple[str, str]]) -> "SourceCheck":
        """Returns a check against these sources, for a text that grows: it checks each sentence once."""
        return SourceCheck(sources, self._fitted, self._embed)


class SourceCheck:
    """Checks texts against the same sources."""

    def __init__(self, sources: Sequence[tuple[str, str]], fitted: Fitted, embed: Embed | None):
        self._fitted, self._embed, self._num_sources = fitted, embed, len(sources)
        self._weights = fitted.weights()
        self._texts = SourceTexts(sources, self._weights)
        self._verdicts: dict[str, Sentence] = {}  # by statement

    def __call__(self, written: str, finished: bool = True) -> list[Sentence]:
        """Returns the sentences of a text; their texts, joined, are the text to show.

        Args:
          written: The text.
          finished: Whether it is complete. The last sentence of a growing text is left out.
        """
        parts = split_sentences(written)
        statements = [_statement(part, self._num_sources) for part in (parts if finished else parts[:-1])]
        self._judge({statement.plain for statement in statements} - self._verdicts.keys())
        return [
            dataclasses.replace(self._verdicts[one.plain], text=one.text, cited=one.cited, unknown=one.unknown)
            for one in statements
        ]

    def _judge(self, statements: set[str]) -> None:
        """Adds the verdicts on new statements."""
        evidence: dict[str, list[Evidence]] = {}
        for statement in sorted(statements):
            wording = Wording(statement)
            if is_checkable(statement, wording, self._weights):
                evidence[statement] = self._texts.evidence(wording)
            self._verdicts[statement] = Sentence(statement)
        scored = {statement: self._by_words(found) for statement, found in evidence.items()}
        if self._embed:
            scored = self._with_encoder(scored)
        for statement, candidates in scored.items():
            self._verdicts[statement] = self._verdict(statement, candidates)

    def _by_words(self, evidence: list[Evidence]) -> "list[_Candidate]":
        """Returns the evidence with its scores, the best first."""
        scores = [self._fitted.by_words.score(one.signs) for one in evidence]
        return sorted(map(_Candidate, scores, evidence), key=_Candidate.rank)

    def _with_encoder(self, scored: "dict[str, list[_Candidate]]") -> "dict[str, list[_Candidate]]":
        """Returns the best candidates of each statement with new scores, which take the vectors into account."""
        best = {statement: candidates[:_ENCODED] for statement, candidates in scored.items()}
        texts = list(dict.fromkeys([*best, *(c.evidence.nearest.text for found in best.values() for c in found)]))
        vectors = dict(zip(texts, self._embed(texts), strict=True)) if texts else {}
        for statement, candidates in best.items():
            for i, (_, evidence) in enumerate(candidates):
                distance = 1 - float(vectors[statement] @ vectors[evidence.nearest.text])
                candidates[i] = _Candidate(self._fitted.with_encoder.score(evidence.signs, distance), evidence)
            candidates.sort(key=_Candidate.rank)
        return best

    def _verdict(self, statement: str, candidates: "list[_Candidate]") -> Sentence:
        if not candidates:  # the sources are empty
            return Sentence(statement, checkable=True, reason="There are no sources.")
        scoring = self._fitted.with_encoder if self._embed else self._fitted.by_words
        best = candidates[0].score
        if best < scoring.threshold:
            # A reader expects to hear of the sentence that has most of its words.
            nearest = min((one.evidence for one in candidates), key=lambda evidence: evidence.sign("missing"))
            why = reason(nearest, self._texts)
            return Sentence(statement, sources=(nearest.nearest.source + 1,), score=best, checkable=True, reason=why)
        sources = {one.evidence.nearest.source + 1 for one in candidates if one.score >= scoring.threshold}
        return Sentence(statement, sources=tuple(sorted(sources)), score=best, supported=True, checkable=True)


class _Candidate(NamedTuple):
    score: float
    evidence: Evidence

    def rank(self) -> tuple[float, str]:
        """Returns what candidates are sorted by; the order of the sources makes no difference."""
        return -self.score, self.evidence.nearest.text


class _Statement(NamedTuple):
    """A sentence and its citations.

    Attributes:
      text: What may be shown.
      plain: What is checked: no citations, no list mark.
      cited: Numbers of sources.
      unknown: Other cited numbers.
    """

    text: str
    plain: str
    cited: tuple[int, ...]
    unknown: tuple[int, ...]


def _statement(sentence: str, num_sources: int) -> _Statement:
    cited: set[int] = set()

    def known_only(citation: re.Match[str]) -> str:
        numbers = _cited_numbers(citation[1])
        cited.update(numbers)
        known = [str(number) for number in numbers if 1 <= number <= num_sources]
        if len(known) == len(numbers):
            return citation[0]
        return citation[0].replace(citation[1], ", ".join(known)) if known else ""

    text = _CITATION.sub(known_only, sentence)
    known = tuple(sorted(number for number in cited if 1 <= number <= num_sources))
    return _Statement(text, without_list_mark(_CITATION.sub("", text)), known, tuple(sorted(cited.difference(known))))


def _cited_numbers(text: str) -> list[int]:
    """Returns the numbers in a citation such as `1, 3-5`."""
    numbers: list[int] = []
    for part in re.split(r"[,;]", text):
        first, *last = (int(number[:9]) for number in re.findall(r"\d+", part))
        numbers += range(first, last[-1] + 1) if last and first < last[-1] <= first + 20 else [first, *last]
    return numbers


@functools.cache
def _package_weights() -> Fitted:
    return Fitted.load()
