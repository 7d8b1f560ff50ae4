"""Weights between those that a training started from and those that it reached.

Training on one kind of question makes a model forget others. On the way back from the end to the start, what was
forgotten returns sooner than what was learned is lost. Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models" (arXiv 2109.01903), with one share for all weights.
"""

from collections.abc import Callable, Mapping

import numpy as np

SHARES = (1.0, 0.75, 0.5)  # of the trained weights; in the order in which they are tried
_KEPT_GAIN = 0.9  # of the best gain on dev

Weights = Mapping[str, np.ndarray]


def blended(start: Weights, end: Weights, share: float) -> dict[str, np.ndarray]:
    """Returns weights between two; a share of 0 gives the start and 1 the end, exactly."""
    if share in (0.0, 1.0):
        return dict(end if share else start)
    return {name: ((1 - share) * start[name] + share * end[name]).astype(end[name].dtype) for name in end}


def choose(score: Callable[[float], float], start_score: float) -> tuple[float, dict[float, float]]:
    """Returns the lowest share that keeps nine tenths of the best gain on dev, and the score of each.

    Dev has little of what a model forgets: questions that are unlike the pairs. Most of the gain is therefore enough.

    Args:
      score: returns the score on dev of the weights of a share; higher is better.
      start_score: the score that training started from.
    """
    tried = {share: score(share) for share in SHARES}
    best = max(tried.values())
    least = min(best, start_score + _KEPT_GAIN * (best - start_score))
    return min(share for share, of_share in tried.items() if of_share >= least), tried
