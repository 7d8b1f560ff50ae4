"""Combines the ranking of a bi-encoder with that of BM25.

Source of reciprocal rank fusion: Cormack et al. 2009.

    C candidates
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

HYBRIDS = ("none", "rrf", "weight")
AUTO = "auto"  # the way that was best on dev when the retriever was trained
_RRF_K = 60  # Cormack et al.: the larger, the less the first ranks count


class Hybrid(NamedTuple):
    """How BM25 is combined with a bi-encoder.

    Attributes:
      method: none, rrf or weight, see `fuse`.
      weight: Weight of BM25, for the method weight.
    """

    method: str = "none"
    weight: float = 0.1


_CHOICES = (Hybrid("none"), Hybrid("rrf"), *(Hybrid("weight", w) for w in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)))
_LEAST_GAIN = 0.005  # of RR@10: a smaller gain may be chance, and is not worth a BM25 index


def fuse(cosines: np.ndarray, word_scores: np.ndarray, method: str, weight: float) -> np.ndarray:
    """Combines two scores of the same candidates.

    Args:
      cosines: [C] float, of the bi-encoder.
      word_scores: [C] float, of BM25.
      method: rrf sums 1 / (60 + rank) over both rankings, where equal scores share the best of their ranks. weight adds
        to the cosine `weight` times the BM25 score over the highest one of this query. none leaves the cosines.
      weight: Weight of BM25.

    Returns:
      [C] float, the scores to rank by.
    """
    if method == "none":
        return cosines
    if method == "rrf":
        return 1 / (_RRF_K + _ranks(cosines)) + 1 / (_RRF_K + _ranks(word_scores))
    return cosines + weight * word_scores / max(float(word_scores.max(initial=0.0)), 1e-9)


def choose(reciprocal_rank: Callable[[Hybrid], float]) -> tuple[Hybrid, dict[str, float]]:
    """Tries several ways to combine BM25 with the vectors.

    Args:
      reciprocal_rank: Returns the RR@10 of a way.

    Returns:
      The best way, or none if the best gains less than 0.005; and the RR@10 of each.
    """
    tried = {choice: reciprocal_rank(choice) for choice in _CHOICES}
    best = max(tried, key=tried.__getitem__)
    if tried[best] < tried[_CHOICES[0]] + _LEAST_GAIN:
        best = _CHOICES[0]
    named = {f"weight {c.weight:g}" if c.method == "weight" else c.method: score for c, score in tried.items()}
    return best, named


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the positions of the k highest scores, in no order."""
    return np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Returns the rank of each score, from 1; equal scores share the best."""
    return 1 + np.searchsorted(np.sort(-scores), -scores)
