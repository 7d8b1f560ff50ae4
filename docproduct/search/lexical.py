"""BM25, and how its ranking is joined with that of a bi-encoder.

Source: Robertson & Zaragoza 2009 as bm25s computes it by default (lower case, words of two letters and more, English
stop words); reciprocal rank fusion: Cormack et al. 2009.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import bm25s
import numpy as np

HYBRIDS = ("none", "rrf", "weight")
AUTO = "auto"  # what was best on dev when the retriever was trained
_RRF_K = 60  # Cormack et al.: lessens what the first ranks count


class Hybrid(NamedTuple):
    """How BM25 counts beside a bi-encoder.

    Attributes:
      method: none, rrf or weight, see `fuse`.
      weight: of BM25, for `weight`.
    """

    method: str = "none"
    weight: float = 0.1


_CHOICES = (Hybrid("none"), Hybrid("rrf"), *(Hybrid("weight", w) for w in (0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5)))
_WORTH_IT = 0.005  # of RR@10: less is chance, and not worth another index


class Lexical:
    """A BM25 index of N texts."""

    def __init__(self, index: bm25s.BM25, num_texts: int):
        self._index, self.num_texts = index, num_texts

    @classmethod
    def build(cls, texts: Sequence[str]) -> "Lexical":
        """Indexes texts.

        Raises:
          ValueError: there is no word in them.
        """
        index, words = bm25s.BM25(), bm25s.tokenize(list(texts), stopwords="en", show_progress=False)
        if not any(words.ids):
            raise ValueError(
                f"BM25 finds no word of two letters or more in {len(texts)} texts. Search without it: --hybrid=none."
            )
        index.index(words, show_progress=False)
        return cls(index, len(texts))

    def scores(self, query: str) -> np.ndarray:
        """Returns the score of every text, [N] float32; 0 where no word is shared."""
        words = bm25s.tokenize(query, stopwords="en", return_ids=False, show_progress=False)[0]
        return self._index.get_scores(words) if words else np.zeros(self.num_texts, np.float32)

    def save(self, folder: str) -> None:
        """Writes the index to a folder."""
        self._index.save(folder, show_progress=False)

    @classmethod
    def load(cls, folder: str, num_texts: int) -> "Lexical":
        """Reads what `save` wrote.

        Raises:
          ValueError: it is missing or damaged.
        """
        try:
            return cls(bm25s.BM25.load(folder, show_progress=False), num_texts)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder} is missing or damaged ({error}). Build the index again.") from error


def fuse(dense: np.ndarray, lexical: np.ndarray, method: str, weight: float) -> np.ndarray:
    """Joins two scores of the same candidates.

    Args:
      dense: [C] cosines.
      lexical: [C] BM25 scores.
      method: rrf: 1 / (60 + rank), summed over both rankings, equal scores with the best of their ranks. weight: cosine
        plus `weight` times the BM25 score over the highest of this query. none: the cosines.
      weight: of BM25.

    Returns:
      [C] float: what to rank by.
    """
    if method == "none":
        return dense
    if method == "rrf":
        return 1 / (_RRF_K + _ranks(dense)) + 1 / (_RRF_K + _ranks(lexical))
    return dense + weight * lexical / max(float(lexical.max(initial=0.0)), 1e-9)


def choose(reciprocal_rank: Callable[[Hybrid], float]) -> tuple[Hybrid, dict[str, float]]:
    """Tries all ways to join BM25.

    Args:
      reciprocal_rank: returns the RR@10 of one.

    Returns:
      The best, or none if that gains less than 0.005; and the RR@10 of each.
    """
    tried = {choice: reciprocal_rank(choice) for choice in _CHOICES}
    best = max(tried, key=tried.__getitem__)
    if tried[best] < tried[_CHOICES[0]] + _WORTH_IT:
        best = _CHOICES[0]
    shown = {f"weight {c.weight:g}" if c.method == "weight" else c.method: score for c, score in tried.items()}
    return best, shown


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Returns the rank of each score, from 1; equal scores share the best."""
    return 1 + np.searchsorted(np.sort(-scores), -scores)


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Returns the positions of the k highest scores, in no order."""
    return np.argpartition(-scores, k)[:k] if k < len(scores) else np.arange(len(scores))
