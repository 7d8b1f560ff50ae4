"""Paired bootstrap over queries: intervals of means, and of differences of means.

Source: Efron & Tibshirani 1993, chapter 13 (percentile intervals); Sakai 2006 (paired, over queries).
"""

import dataclasses

import numpy as np

from data_pipeline.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class BootstrapSettings(Settings):
    """How often and how queries are drawn."""

    resamples: int = setting(10_000, "Number of bootstrap samples of the queries.", least=1_000)
    confidence: float = setting(0.95, "Share of the samples whose mean is in the interval.", above=0, below=1)
    seed: int = setting(0, "Random seed of the bootstrap samples.", least=0)


def intervals(values: np.ndarray, settings: BootstrapSettings = BootstrapSettings()) -> np.ndarray:
    """Returns the percentile interval of the mean of each row.

    Every row is resampled with the same queries. The interval of a difference of two systems is that of a row of
    differences, one for each query.

    Args:
      values: [N, Q] float, Q queries.
      settings: How queries are drawn.

    Returns:
      [N, 2] float, lower and upper bound.

    Raises:
      ValueError: there are no queries.
    """
    return percentiles(resampled_means(values, settings), settings)


def resampled_means(
    values: np.ndarray, settings: BootstrapSettings = BootstrapSettings(), weights: np.ndarray | None = None
) -> np.ndarray:
    """Returns the mean of each row in every sample, [R, N] float; NaN where all weights are 0.

    Args:
      values: [N, Q] float, Q queries.
      settings: How queries are drawn; R samples.
      weights: [N, Q] float, how much each value counts; None: all alike.

    Raises:
      ValueError: there are no queries.
    """
    num_queries = values.shape[1]
    if not num_queries:
        raise ValueError("There are no queries to draw from. Expected one judged query or more.")
    rng = np.random.default_rng(settings.seed)
    weights = np.ones_like(values) if weights is None else weights
    means = np.empty((settings.resamples, len(values)))
    with np.errstate(invalid="ignore"):
        for mean in means:
            counts = np.bincount(rng.integers(num_queries, size=num_queries), minlength=num_queries)  # [Q], sum Q
            mean[:] = (values * weights) @ counts / (weights @ counts)
    return means


def percentiles(samples: np.ndarray, settings: BootstrapSettings) -> np.ndarray:
    """Returns the percentile interval of each column of [R, N] samples: [N, 2], lower and upper bound."""
    tail = (1 - settings.confidence) / 2
    return np.nanquantile(samples, (tail, 1 - tail), axis=0).T
