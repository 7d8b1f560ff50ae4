"""Orders an epoch so that pairs with similar questions share a batch.

Their answers are hard negatives for one another, which need no encoding of their own. Source: topic-aware sampling
(Hofstätter et al. 2021, arXiv 2104.06967), with small clusters of nearest neighbors.

    N pairs, D width
"""

from collections.abc import Sequence

import numpy as np

from data_pipeline.batches import BatchSettings, length_boundaries

_WINDOW = 2**15  # pairs among which neighbors are searched, so that the time for a pair does not grow with the corpus
_CANDIDATES = 16  # times the size of a cluster: the nearest pairs, from which it is chosen
_CHUNK = 1_024  # pairs whose scores are in memory together


def neighbor_batches(
    vectors: np.ndarray,
    keys: Sequence[np.ndarray],
    lengths: np.ndarray,
    cluster_size: int,
    settings: BatchSettings,
    epoch: int,
    nearest: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Returns the rows of each batch of an epoch: every pair once; only one batch may be smaller.

    Args:
      vectors: [N, D] float32, unit norm: the questions.
      keys: [N] each. Pairs that are equal in one of them are no negatives of each other; a cluster takes no pair that
        is equal to its first.
      lengths: [N] int, number of tokens of each pair; a batch has clusters of similar length.
      cluster_size: pairs in a cluster.
      settings: batch_size, num_buckets, boundaries and seed.
      epoch: 0, 1, ...; each has other clusters.
      nearest: what `nearest_of_all` returned, so that not every epoch searches again.
    """
    random = np.random.default_rng([settings.seed, epoch])
    clusters, others = neighbor_clusters(vectors, keys, cluster_size, random, nearest)
    boundaries = settings.boundaries
    if boundaries is None:
        histogram = np.stack(np.unique(lengths, return_counts=True), axis=1)
        boundaries = length_boundaries(histogram.tolist(), settings.num_buckets, settings.batch_size)
    buckets = np.searchsorted(np.array(boundaries), lengths[clusters].mean(axis=1), side="right")  # [C]
    # Clusters and other pairs come in random order. A stable sort keeps it among those of similar length.
    rows = np.concatenate(
        [clusters[np.argsort(buckets, kind="stable")].reshape(-1), others[np.argsort(lengths[others], kind="stable")]]
    )
    full = len(rows) // settings.batch_size * settings.batch_size  # rows in full batches
    batches = list(random.permutation(rows[:full].reshape(-1, settings.batch_size)))
    return [*batches, rows[full:]] if full < len(rows) else batches


def nearest_of_all(vectors: np.ndarray, cluster_size: int) -> np.ndarray | None:
    """Returns the rows of the nearest pairs of each pair, [N, K] int32; None for more pairs than one window holds."""
    if cluster_size == 1 or len(vectors) > _WINDOW:
        return None
    return _nearest(vectors, _CANDIDATES * cluster_size).astype(np.int32)


def neighbor_clusters(
    vectors: np.ndarray,
    keys: Sequence[np.ndarray],
    size: int,
    random: np.random.Generator,
    nearest: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Puts pairs into clusters: a pair at random, and the nearest ones that are in no cluster yet.

    Returns:
      [C, size] int, the clusters; and [R] int, the pairs that had too few neighbors left.
    """
    if size == 1:
        return random.permutation(len(vectors))[:, None], np.empty(0, int)
    clusters, left_over = [], []
    free = np.ones(len(vectors), bool)
    order = random.permutation(len(vectors))
    for start in range(0, len(order), _WINDOW):
        window = order[start : start + _WINDOW]
        candidates = window[_nearest(vectors[window], _CANDIDATES * size)] if nearest is None else nearest[window]
        for row, others in zip(window, candidates, strict=True):
            if not free[row]:
                continue
            free[row] = False
            others = others[free[others]]
            for key in keys:
                others = others[key[others] != key[row]]
            if len(others) < size - 1:
                left_over.append(row)
                continue
            free[others[: size - 1]] = False
            clusters.append(np.array([row, *others[: size - 1]]))
    return np.array(clusters, int).reshape(-1, size), np.array(left_over, int)


def _nearest(vectors: np.ndarray, k: int) -> np.ndarray:
    """Returns the rows of the k vectors nearest to each, the best first, without itself: [W, D] -> [W, k] int."""
    k = min(k, len(vectors) - 1)
    nearest = np.empty((len(vectors), k), int)
    for start in range(0, len(vectors), _CHUNK):
        scores = vectors[start : start + _CHUNK] @ vectors.T
        rows = np.arange(len(scores))
        scores[rows, start + rows] = -np.inf
        best = np.argpartition(-scores, k, axis=1)[:, :k]  # [C, K]; the last of all is the vector itself
        best_first = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        nearest[start : start + len(scores)] = np.take_along_axis(best, best_first, axis=1)
    return nearest
