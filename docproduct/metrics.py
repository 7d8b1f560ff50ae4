"""Ranking metrics over a matrix of scores. They know no model."""

import numpy as np


def first_relevant_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Returns the rank of the best relevant candidate, from 1.

    A candidate of equal score that is not relevant counts as ranked before: equal scores earn nothing.

    Args:
      scores: [Q, C] float.
      relevant: [Q, C] bool, at least one true in every row.

    Returns:
      [Q] int.
    """
    best = np.where(relevant, scores, -np.inf).max(axis=1, keepdims=True)  # [Q, 1]
    return 1 + np.sum(~(scores < best) & ~relevant, axis=1)  # a NaN counts as ranked before


def reciprocal_rank(ranks: np.ndarray, cutoff: int) -> float:
    """Returns the mean of 1 / rank, 0 beyond the cutoff."""
    return float(np.mean(np.where(ranks <= cutoff, 1 / ranks, 0.0)))


def success(ranks: np.ndarray, cutoff: int) -> float:
    """Returns the share of queries with a relevant candidate among the first `cutoff`."""
    return float(np.mean(ranks <= cutoff))
