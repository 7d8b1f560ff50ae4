"""Decides whether an index answers a question, as its manifest says."""

from typing import Any, NamedTuple

import numpy as np

from docproduct.index.results import Decision
from docproduct.search.answerable import AnswerableModel, Signals
from docproduct.search.shared_words import WordWeights

# A question that misses the threshold by less may mean a topic of the index.
_NEAR_COSINE = 0.1
_NEAR_LOG_ODDS = 1.0


class Calibrated(NamedTuple):
    """A model with its threshold.

    Attributes:
      model: Reads the signals of a search.
      least: Minimum log odds of a question that counts as answerable.
    """

    model: AnswerableModel
    least: float

    @classmethod
    def from_json(cls, stored: dict[str, Any], rounding: float) -> "Calibrated":
        """Reads what `refusals.calibrate` returned; a cosine may lose `rounding`.

        Raises:
          ValueError: the model reads signals that this version does not know.
        """
        model = AnswerableModel.from_json(stored["model"])
        return cls(model, stored["least_log_odds"] - model.rounding(rounding))

    def decide(self, signals: Signals) -> Decision:
        """Decides about one question."""
        log_odds = float(self.model.log_odds(np.array([signals]))[0])
        return Decision(log_odds >= self.least, log_odds >= self.least - _NEAR_LOG_ODDS)


class Decider:
    """The calibration of an index: of its pairs, or of its passages.

    Attributes:
      least_cosine: Minimum cosine of the nearest answer, where the cosine decides alone.
      by_search: Reads what a search tells; None: the cosine decides alone.
      by_reranker: Reads a reranker's logit, too; None: the index was calibrated without a reranker.
      words: How much each word weighs; None if the cosine decides alone.
    """

    def __init__(
        self,
        least_cosine: float,
        by_search: Calibrated | None = None,
        by_reranker: Calibrated | None = None,
        words: WordWeights | None = None,
    ):
        """Joins the parts; `words` is given if a model is."""
        self.least_cosine, self.by_search, self.by_reranker = least_cosine, by_search, by_reranker
        self.words = words

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
