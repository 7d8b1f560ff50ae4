"""Decides whether an index answers a question, as its manifest says."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from docproduct.index.results import Decision
from docproduct.search.answerable import AnswerableModel, Signals
from docproduct.search.shared_words import WordWeights

# A question that misses the threshold by less may mean a topic of the index.
_NEAR_COSINE = 0.1
_NEAR_LOG_ODDS = 1.0


class Decider:
    """The calibration of an index.

    Attributes:
      words: How much each word weighs; None if the cosine decides alone.
      reads_signals: Whether it reads all signals of a search; otherwise the cosine decides alone.
    """

    def __init__(
        self,
        least_cosine: float,
        model: AnswerableModel | None = None,
        words: WordWeights | None = None,
        least_log_odds: float = 0.0,
    ):
        """Joins the parts; `model` and `words` are both given, or neither is."""
        self._least_cosine, self._model, self.words = least_cosine, model, words
        self._least = least_log_odds
        self.reads_signals = model is not None

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
        model = AnswerableModel.from_json(stored["model"])
        least = stored["least_log_odds"] - model.rounding(rounding)
        return cls(least_cosine, model, WordWeights.load(index_dir), least)

    def by_cosine(self, cosine: float) -> Decision:
        """Decides by the cosine of the nearest answer."""
        return Decision(cosine >= self._least_cosine, cosine >= self._least_cosine - _NEAR_COSINE)

    def by_signals(
        self,
        question: str,
        cosines: Sequence[float],
        question_cosines: Sequence[float],
        nearest: tuple[str, str],
    ) -> Decision:
        """Decides by all that a search tells; the arguments are those of `Signals.of`."""
        signals = Signals.of(question, cosines, question_cosines, nearest, self.words)
        log_odds = float(self._model.log_odds(np.array([signals]))[0])
        return Decision(log_odds >= self._least, log_odds >= self._least - _NEAR_LOG_ODDS)
