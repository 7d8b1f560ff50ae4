"""Whether an index answers a question: logistic regression on what a search tells, with a split-conformal threshold.

Sources: Vovk et al. 2005, split conformal prediction; Cox 1958, logistic regression.

    R rows, F features
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from docproduct.search.shared_words import WordWeights, words_of

DEPTH = 5  # hits that are looked at
_L2 = 0.01  # of each standardized weight, for a mean of the losses
_FARTHEST = 3.0  # standard deviations: a feature beyond what was seen says no more
_MOST_STEPS = 50


class Signals(NamedTuple):
    """What a search, and then a reranker, tell about a question.

    Attributes:
      cosine: Cosine of the question and the nearest answer.
      margin: That cosine less the one of the DEPTH-th different answer.
      question_cosine: Highest cosine of the question and the stored questions of these answers.
      shared: Share of the question's words that stand in the nearest pair; see shared_words.py.
      length: Logarithm of 1 + the number of words.
      logit: Highest logit that a reranker gives to one of these answers; 0 without a reranker.
    """

    cosine: float
    margin: float
    question_cosine: float
    shared: float
    length: float
    logit: float = 0.0

    @classmethod
    def of(
        cls,
        question: str,
        cosines: Sequence[float],
        question_cosines: Sequence[float],
        nearest: tuple[str, str],
        words: WordWeights,
    ) -> "Signals":
        """Computes what a search tells about one question.

        Args:
          question: A clean text.
          cosines: Cosine of the question and each of its DEPTH nearest answers, or fewer; the best first.
          question_cosines: Cosine of the question and each of their questions.
          nearest: Stored question and answer of the nearest.
          words: How much each word weighs.
        """
        return cls(
            cosines[0],
            cosines[0] - cosines[-1],
            max(question_cosines),
            words.shared(question, nearest),
            math.log(1 + len(words_of(question))),
        )

    def with_logits(self, logits: Sequence[float]) -> "Signals":
        """Adds what a reranker tells.

        Args:
          logits: Its logit of each of the nearest answers.
        """
        return self._replace(logit=max(logits))


OF_SEARCH = tuple(name for name in Signals._fields if name != "logit")

# How many times a cosine's rounding error each feature may be wrong. A logit needs no margin: bfloat16 changes it far
# less than logits differ from one another.
_ROUNDINGS = {"cosine": 1, "margin": 2, "question_cosine": 1}


@dataclasses.dataclass(frozen=True)
class AnswerableModel:
    """A fitted model.

    Attributes:
      features: Names of the signals that it reads, F.
      means: [F], of the rows that it was fitted on.
      scales: [F], their standard deviations.
      weights: [F], of the standardized features.
      bias: Added to them.
    """

    features: tuple[str, ...]
    means: tuple[float, ...]
    scales: tuple[float, ...]
    weights: tuple[float, ...]
    bias: float

    @classmethod
    def fit(
        cls,
        signals: np.ndarray,
        answered: np.ndarray,
        row_weights: np.ndarray | None = None,
        features: Sequence[str] = OF_SEARCH,
    ) -> "AnswerableModel":
        """Fits the weights by Newton's method.

        Args:
          signals: [R, F] float, rows of Signals.
          answered: [R] bool, whether the index answered the question; both kinds are there.
          row_weights: [R] float, how much each row counts; None: all the same.
          features: Names of the signals to read.
        """
        signals = signals[:, [Signals._fields.index(name) for name in features]]
        row_weights = np.ones(len(signals)) if row_weights is None else row_weights / row_weights.mean()
        means = np.average(signals, axis=0, weights=row_weights)
        scales = np.maximum(np.sqrt(np.average((signals - means) ** 2, axis=0, weights=row_weights)), 1e-6)
        rows = np.c_[_standardized(signals, means, scales), np.ones(len(signals))]  # [R, F + 1]
        penalty = np.diag([_L2 * len(rows)] * len(means) + [0.0])  # none on the bias
        weights = np.zeros(len(means) + 1)
        for _ in range(_MOST_STEPS):
            probs = 1 / (1 + np.exp(-rows @ weights))
            gradient = rows.T @ (row_weights * (probs - answered)) + penalty @ weights
            hessian = (rows * (row_weights * probs * (1 - probs))[:, None]).T @ rows + penalty
            step = np.linalg.solve(hessian, gradient)
            weights -= step
            if np.abs(step).max() < 1e-9:
                break
        *weights, bias = weights.tolist()
        return cls(tuple(features), tuple(means.tolist()), tuple(scales.tolist()), tuple(weights), bias)

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "AnswerableModel":
        """Reads what `as_json` returned.

        Raises:
          ValueError: it reads signals that this version does not have.
        """
        if unknown := set(stored["features"]) - set(Signals._fields):
            raise ValueError(
                f"The index decides by {', '.join(sorted(unknown))}, which this version does not know; it knows "
                f"{', '.join(Signals._fields)}. Update docproduct, or build the index again."
            )
        values = {field.name: stored[field.name] for field in dataclasses.fields(cls)}
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def as_json(self) -> dict[str, Any]:
        """Returns the form that a manifest holds."""
        return dataclasses.asdict(self)

    def log_odds(self, signals: np.ndarray) -> np.ndarray:
        """Returns the log odds that the index answers each question, [R], of rows of Signals, [R, F]."""
        columns = [Signals._fields.index(name) for name in self.features]
        rows = _standardized(np.asarray(signals)[:, columns], np.array(self.means), np.array(self.scales))
        return rows @ np.array(self.weights) + self.bias

    def rounding(self, of_cosine: float) -> float:
        """Returns how much the log odds may change if each cosine changes by `of_cosine`."""
        each = zip(self.features, self.weights, self.scales, strict=True)
        return of_cosine * sum(_ROUNDINGS.get(name, 0) * abs(weight) / scale for name, weight, scale in each)


def conformal(scores: np.ndarray, keep_share: float, groups: np.ndarray | None = None) -> tuple[float, float]:
    """Returns the highest score that a new one reaches with probability `keep_share` or more, and that probability.

    With n scores it is the ceil((n + 1) * keep_share)-th highest. If that is more than n, it is the lowest, whose
    probability is n / (n + 1). The new score and the n must be exchangeable.

    Args:
      scores: [n] float.
      keep_share: Share, 0 to 1.
      groups: [n] int, which scores belong together, such as those of one question in several kinds of words. Then the
        groups must be exchangeable, and the new score is drawn from a new group. Each group counts as one score, which
        its own scores share (hierarchical conformal prediction, Lee et al. 2023).
    """
    groups = np.arange(len(scores)) if groups is None else groups
    _, places, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.argsort(-scores, kind="stable")
    reached = np.cumsum(1 / sizes[places[order]])  # groups that reach each score, from the highest
    rank = int(np.searchsorted(reached, round((len(sizes) + 1) * keep_share, 6) - 1e-6))
    rank = min(rank, len(scores) - 1)
    return float(scores[order[rank]]), float(reached[rank]) / (len(sizes) + 1)


def _standardized(signals: np.ndarray, means: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return np.clip((signals - means) / scales, -_FARTHEST, _FARTHEST)
