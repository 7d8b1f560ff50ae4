"""BM25.

Source: Robertson & Zaragoza 2009 as bm25s computes it by default (lower case, words of two letters and more, English
stop words).
"""

from collections.abc import Sequence

import bm25s
import numpy as np


class WordIndex:
    """A BM25 index of N texts."""

    def __init__(self, index: bm25s.BM25, num_texts: int):
        self._index, self.num_texts = index, num_texts

    @classmethod
    def build(cls, texts: Sequence[str]) -> "WordIndex":
        """Indexes texts.

        Raises:
          ValueError: no text has a word.
        """
        index, words = bm25s.BM25(), bm25s.tokenize(list(texts), stopwords="en", show_progress=False)
        if not any(words.ids):
            raise ValueError(
                f"BM25 finds no word of two letters or more in {len(texts)} texts. Search without it: --hybrid=none."
            )
        index.index(words, show_progress=False)
        return cls(index, len(texts))

    def scores(self, query: str) -> np.ndarray:
        """Returns the score of every text, [N] float32; 0 for a text that shares no word with the query."""
        words = bm25s.tokenize(query, stopwords="en", return_ids=False, show_progress=False)[0]
        return self._index.get_scores(words) if words else np.zeros(self.num_texts, np.float32)

    def save(self, folder: str) -> None:
        """Writes the index to a folder."""
        self._index.save(folder, show_progress=False)

    @classmethod
    def load(cls, folder: str, num_texts: int) -> "WordIndex":
        """Reads what `save` wrote.

        Raises:
          ValueError: the folder is missing or damaged.
        """
        try:
            return cls(bm25s.BM25.load(folder, show_progress=False), num_texts)
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{folder} is missing or damaged ({error}). Build the index again.") from error
