"""Fusion of two rankings, by hand."""

import numpy as np
import pytest

from docproduct.search.fusion import Hybrid, choose, fuse, top


def test_reciprocal_rank_fusion_by_hand():
    # Ranks by cosine 1, 2, 3; by BM25 3, 1, 1 (equal scores share the best rank).
    scores = fuse(np.array([0.9, 0.5, 0.1]), np.array([0.0, 7.0, 7.0]), "rrf", weight=9.0)
    np.testing.assert_allclose(scores, [1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 63 + 1 / 61])


def test_weight_by_hand():
    scores = fuse(np.array([0.9, 0.5]), np.array([2.0, 8.0]), "weight", weight=0.2)
    np.testing.assert_allclose(scores, [0.9 + 0.2 * 2 / 8, 0.5 + 0.2])
    # No word is shared: the cosines alone.
    np.testing.assert_allclose(fuse(np.array([0.9, 0.5]), np.zeros(2), "weight", 0.2), [0.9, 0.5])
    np.testing.assert_array_equal(fuse(np.array([0.9, 0.5]), np.array([0.0, 1.0]), "none", 0.2), [0.9, 0.5])


def test_bm25_is_chosen_where_it_gains_enough():
    gains = {Hybrid("weight", 0.1): 0.02, Hybrid("weight", 0.2): 0.03, Hybrid("rrf"): -0.1}
    chosen, tried = choose(lambda hybrid: 0.7 + gains.get(hybrid, 0.0))
    assert chosen == Hybrid("weight", 0.2)
    assert (tried["none"], tried["rrf"], tried["weight 0.1"]) == pytest.approx((0.7, 0.6, 0.72))
    chosen, _ = choose(lambda hybrid: 0.7 + gains.get(hybrid, 0.0) / 10)
    assert chosen.method == "none"


def test_top_returns_the_largest():
    assert sorted(top(np.array([3.0, 1.0, 2.0]), 2).tolist()) == [0, 2]
    assert top(np.array([3.0]), 2).tolist() == [0]
