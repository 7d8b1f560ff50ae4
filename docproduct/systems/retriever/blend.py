"""Weights between those that a training started from and those that it reached.

Training on one kind of question makes a model forget others. On the way back from the end to the start, what was
forgotten returns sooner than what was learned is lost. Source: Wortsman et al. 2022, "Robust fine-tuning of zero-shot
models" (arXiv 2109.01903), with one share for all weights.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

SHARES = (1.0, 0.75, 0.5)  # of the trained weights; in the order in which they are tried
_STANDARD_ERRORS = 1.0

Weights = Mapping[str, np.ndarray]


class Choice(NamedTuple):
    """A share that was chosen.

    Attributes:
      share: of the trained weights, 0 to 1.
      tried: the shares that were tried, each with the ranks of dev's questions, [Q] int.
    """

    share: float
    tried: list[tuple[float, np.ndarray]]


def blended(start: Weights, end: Weights, share: float) -> dict[str, np.ndarray]:
    """Returns weights between two; a share of 0 gives the start and 1 the end, exactly."""
    if share in (0.0, 1.0):
        return dict(end if share else start)
    return {name: ((1 - share) * start[name] + share * end[name]).astype(end[name].dtype) for name in end}


def choose(
    ranks: Callable[[float], np.ndarray], gain: Callable[[np.ndarray, np.ndarray], tuple[float, float]]
) -> Choice:
    """Returns the lowest share whose score on dev is no worse than the best one's by more than a standard error.

    Dev cannot show what a model forgets of questions that are unlike dev's. Of shares that dev cannot tell apart, the
    one nearest to the start is therefore taken.

    Args:
      ranks: scores the weights of a share; returns the rank of the best own answer of each dev question, [Q] int.
      gain: returns the gain in score between two such rankings and its standard error.
    """
    tried = [(share, ranks(share)) for share in SHARES]
    first = tried[0][1]
    _, best = max(tried, key=lambda of_share: gain(first, of_share[1])[0])
    losses = [(share, *gain(of_share, best)) for share, of_share in tried]
    return Choice(min(share for share, loss, error in losses if loss <= _STANDARD_ERRORS * error), tried)
