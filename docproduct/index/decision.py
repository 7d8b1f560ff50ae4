"""Decides whether an index answers a question, as its manifest says."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from docproduct.search.answerable import AnswerableModel, Signals
from docproduct.search.shared_words import WordWeights

# A question that misses the threshold by less may mean a topic of the index.
_NEAR_COSINE = 0.1
_NEAR_LOG_ODDS = 1.0


class Decision(NamedTuple):
    """Whether an index answers a question, by its calibration.

    Attributes:
      answerable: Whether its answers are near enough.
      near: Whether they are so near, at least, that their topics may be what was meant.
    """

    answerable: bool
    near: bool

    @classmethod
    def any_of(cls, decisions: Sequence["Decision"]) -> "Decision":
        """Returns what holds by any of several calibrations."""
        return cls(any(each.answerable for each in decisions), any(each.near for each in decisions))


class Calibrated(NamedTuple):
    """A model with its threshold.

    Attributes:
      model: Computes the log odds.
      least: Minimum log odds of a question that counts as answerable.
    """

    model: AnswerableModel
    least: float

    @classmethod
    def from_json(cls, stored: dict[str, Any], rounding: float) -> "Calibrated":
        """Reads what `refusals.calibrate` returned.

        Args:
          stored: That part of the manifest.
          rounding: How much a cosine may lose by rounding.

        Raises:
          ValueError: the model reads signals that this version does not know.
        """
        model = AnswerableModel.from_json(stored["model"])
        return cls(model, stored["least_log_odds"] - model.rounding(rounding))

    def decide(self, signals: Signals) -> Decision:
        """Decides about one question."""
        log_odds = float(self.model.log_odds(np.array([signals]))[0])
        return Decision(log_odds >= self.least, log_odds >= self.least - _NEAR_LOG_ODDS)


class Evidence(NamedTuple):
    """What a reranker needs to decide whether the pairs of an index answer a question.

    Attributes:
      answers: The nearest answers, which it reads; the nearest first.
      signals: What the search tells.
      by_reranker: Decides by these signals and the reranker's.
      of_passages: What was decided about passages of documents, which the reranker has no say in.
    """

    answers: list[str]
    signals: Signals
    by_reranker: Calibrated
    of_passages: list[Decision]

    def decide(self, logits: Sequence[float]) -> Decision:
        """Decides by the reranker's logit of each answer."""
        return Decision.any_of([self.by_reranker.decide(self.signals.with_logits(logits)), *self.of_passages])


@dataclasses.dataclass
class Decider:
    """The calibration of an index: of its pairs, or of its passages.

    Attributes:
      least_cosine: Minimum cosine of the nearest answer, where the cosine decides alone.
      by_search: Decides by the signals of a search. None: the cosine decides alone.
      by_reranker: Decides by these signals and a reranker's logit. None: the index was calibrated without a reranker.
      words: How much each word weighs; None if the cosine decides alone.
    """

    least_cosine: float
    by_search: Calibrated | None = None
    by_reranker: Calibrated | None = None
    words: WordWeights | None = None

    @classmethod
    def load(cls, index_dir: str, manifest: dict[str, Any], least_cosine: float, rounding: float) -> "Decider":
        """Reads a manifest; that of an older index, or of one with few questions, has only a cosine.

        Args:
          index_dir: The folder.
          manifest: Its manifest, or the part of it about documents.
          least_cosine: Threshold where the cosine decides alone.
          rounding: How much a cosine may lose by rounding.

        Raises:
          ValueError: a file is missing, or the index reads signals that this version does not know.
        """
        if not (stored := manifest.get("answerable")):
            return cls(least_cosine)
        by_search, by_reranker = Calibrated.from_json(stored, rounding), None
        if reranked := manifest.get("answerable_reranked"):
            by_reranker = Calibrated.from_json(reranked, rounding)
        return cls(least_cosine, by_search, by_reranker, WordWeights.load(index_dir))

    def by_cosine(self, cosine: float) -> Decision:
        """Decides by the cosine of the nearest answer."""
        return Decision(cosine >= self.least_cosine, cosine >= self.least_cosine - _NEAR_COSINE)
