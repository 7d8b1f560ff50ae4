"""Ranking metrics over a matrix of scores, calibration, and overlap of texts. They know no model."""

import re

import numpy as np

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+")


def first_relevant_ranks(scores: np.ndarray, relevant: np.ndarray) -> np.ndarray:
    """Returns the rank of the best relevant candidate, from 1.

    A candidate of equal score that is not relevant counts as ranked before it, so that equal scores earn nothing.

    Args:
      scores: [Q, C] float.
      relevant: [Q, C] bool, at least one true value in every row.

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


def roc_auc(positives: np.ndarray, negatives: np.ndarray) -> float:
    """Returns the probability that a positive's score [P] exceeds a negative's [N]; equal scores count half."""
    ranked = np.sort(negatives)
    below, up_to = (np.searchsorted(ranked, positives, side) for side in ("left", "right"))
    return float(np.mean(below + up_to) / (2 * len(negatives)))


def expected_calibration_error(confidences: np.ndarray, right: np.ndarray, num_bins: int = 15) -> float:
    """Returns the mean difference of confidence and accuracy over bins of equal width, each weighted by its rows.

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks".

    Args:
      confidences: [N] float, 0 to 1.
      right: [N] bool, which predictions are right.
      num_bins: number of bins.
    """
    bins = np.minimum((confidences * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, right, num_bins) - np.bincount(bins, confidences, num_bins)
    return float(np.abs(gaps).sum() / len(right))


def rouge_l(reference: str, text: str) -> float:
    """Returns ROUGE-L's F1 of two texts, 0 to 1: the longest sequence of words that both have in the same order.

    Source: Lin 2004, "ROUGE"; words as in google-research/rouge without stemming, in any script. A Chinese character is
    a word.
    """
    a, b = (_WORD.findall(part.casefold()) for part in (reference, text))
    if not a or not b:
        return 0.0
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*a, *b]))}
    columns = np.array([numbers[word] for word in b])
    longest = np.zeros(len(b) + 1, int)  # common subsequence of the words so far
    for word in a:
        matched = np.where(columns == numbers[word], longest[:-1] + 1, 0)
        longest[1:] = np.maximum.accumulate(np.maximum(longest[1:], matched))
    return float(2 * longest[-1] / (len(a) + len(b)))


def ngram_share(text: str, sources: str, n: int = 4) -> float:
    """Returns the share of a text's n-grams of words that stand in the sources, too; 1 for a text without n-grams."""
    of_text, of_sources = (_WORD.findall(part.casefold()) for part in (text, sources))
    known = set(zip(*(of_sources[i:] for i in range(n)), strict=False))
    ngrams = list(zip(*(of_text[i:] for i in range(n)), strict=False))
    return sum(ngram in known for ngram in ngrams) / len(ngrams) if ngrams else 1.0
