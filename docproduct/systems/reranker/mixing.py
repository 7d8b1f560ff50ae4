"""Mixes the reranker's logits with the retriever's cosines, and chooses how much the logits count.

A answers of a question, Q questions
"""

from collections.abc import Callable, Sequence

import numpy as np

COSINE_SCALE = 20.0  # the retriever's default scale in its softmax: brings cosines to the size of logits
WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
_LEAST_GAIN = 0.005  # of RR@10: a smaller gain may be chance, and is not worth the time


def mix(cosines: Sequence[float], logits: np.ndarray, weight: float) -> np.ndarray:
    """Returns the scores to order answers by: (1 - weight) times 20 times the cosine, and weight times the logit.

    The cosines are dealt out from the highest to the lowest in the order of the answers. Where that order is of BM25
    and cosines together, the answers keep it as long as the logits do not differ.

    Args:
      cosines: [A], of the answers in the order of the retriever.
      logits: [A] float.
      weight: 0 to 1. With 0 the order does not change.

    Returns:
      [A] float32.
    """
    by_rank = -np.sort(-np.asarray(cosines, np.float32))
    return (1 - weight) * COSINE_SCALE * by_rank + weight * np.asarray(logits, np.float32)


def best_first(scores: np.ndarray) -> np.ndarray:
    """Returns the positions of the highest scores first, [A] int; equal scores keep their order."""
    return np.argsort(-scores, kind="stable")


def choose(reciprocal_rank: Callable[[float], float]) -> tuple[float, dict[str, float]]:
    """Tries several weights.

    Args:
      reciprocal_rank: Returns the RR@10 of a weight.

    Returns:
      The best weight, or 0 if it gains less than 0.005; and the RR@10 of each.
    """
    tried = {weight: reciprocal_rank(weight) for weight in WEIGHTS}
    best = max(tried, key=tried.__getitem__)
    if tried[best] < tried[0.0] + _LEAST_GAIN:
        best = 0.0
    return best, {f"{weight:g}": score for weight, score in tried.items()}
