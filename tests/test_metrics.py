import numpy as np
import pytest
from ir_measures import RR, Qrel, ScoredDoc, Success, calc_aggregate

from docproduct import metrics


def test_ranks_by_hand():
    scores = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.5, 0.5, 0.5]])
    relevant = np.array([[0, 1, 1], [1, 0, 1], [0, 1, 0]], bool)
    # Best relevant scores: 0.5, second; 0.9, first; 0.5, and the two equal scores count as ranked before it.
    ranks = metrics.first_relevant_ranks(scores, relevant)
    assert ranks.tolist() == [2, 1, 3]
    assert metrics.reciprocal_rank(ranks, 2) == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert metrics.success(ranks, 1) == pytest.approx(1 / 3)


def test_nan_scores_earn_nothing():
    nan = np.nan
    scores = np.array([[nan, 0.5, 0.1], [nan, 0.5, 0.1], [nan, nan, nan], [nan, 0.9, 0.5]])
    relevant = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], bool)
    # Row 0: a relevant NaN ranks after both others. Row 1: another candidate's NaN ranks before. Row 2: all are NaN, so
    # the relevant one is last. Row 3: with a NaN among the relevant, the irrelevant candidate ranks before.
    ranks = metrics.first_relevant_ranks(scores, relevant)
    assert ranks.tolist() == [3, 2, 3, 2]
    assert metrics.success(ranks, 1) == 0


def test_equals_ir_measures():
    rng = np.random.default_rng(0)
    scores, relevant = rng.normal(size=(50, 30)), rng.random((50, 30)) < 0.1
    relevant[:, 0] |= ~relevant.any(axis=1)
    qrels = [Qrel(str(q), str(d), 1) for q, d in zip(*np.nonzero(relevant), strict=True)]
    run = [ScoredDoc(str(q), str(d), scores[q, d]) for q in range(50) for d in range(30)]
    expected = calc_aggregate([RR @ 10, Success @ 5], qrels, run)
    ranks = metrics.first_relevant_ranks(scores, relevant)
    assert metrics.reciprocal_rank(ranks, 10) == pytest.approx(expected[RR @ 10])
    assert metrics.success(ranks, 5) == pytest.approx(expected[Success @ 5])


def test_roc_auc_counts_pairs_in_order():
    # Of 2 x 3 pairs, 4 are in order (3 above all three, 2 above 1), and two are equal.
    assert metrics.roc_auc(np.array([3, 2]), np.array([1, 2, 2])) == pytest.approx((4 + 2 / 2) / 6)
    assert metrics.roc_auc(np.array([1.0]), np.array([2.0])) == 0


# By google-research/rouge (rouge-score 0.1.2), RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure
@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("the cat sat on the mat", "the cat was on the mat", 10 / 12),
        ("The Cat, sat.", "cat sat", 4 / 5),
        ("a b c d", "d c b a", 2 / 8),
        ("a b c d", "", 0.0),
        ("one", "two", 0.0),
        ("x y x y x", "y x y", 6 / 8),
    ],
)
def test_rouge_l(reference, text, expected):
    assert metrics.rouge_l(reference, text) == pytest.approx(expected)
    assert metrics.rouge_l(text, reference) == pytest.approx(expected)


def test_rouge_l_counts_chinese_characters():
    assert metrics.rouge_l("头痛怎么办", "头不痛") == pytest.approx(2 * 2 / 8)


def test_ngram_share():
    # 2-grams of "a b c d": ab bc cd; of the source "b c d x": bc cd dx. Two of three are known.
    assert metrics.ngram_share("a b c d", "b c d x", 2) == pytest.approx(2 / 3)
    assert metrics.ngram_share("A, B!", "a b", 2) == 1
    assert metrics.ngram_share("a b", "b a", 2) == 0
    assert metrics.ngram_share("a", "b", 2) == 1  # no 2-gram
