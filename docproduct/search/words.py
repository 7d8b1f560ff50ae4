"""BM25 over texts that may change: word counts are kept, so that every score is that of the present texts.

Source: Robertson & Zaragoza 2009, in the form and with the defaults of bm25s (Lucene's idf; lower case, words of two
letters and more, English stop words). bm25s itself keeps scores, which no text can be added to.

    N texts, W different words, C counts: one for each word of a text
"""

import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data_pipeline.hidden_imports import hidden

with hidden("jax"):  # only its tokenizer is used
    import bm25s

FILE = "words.npz"
_K1, _B = 1.5, 0.75


class WordIndex:
    """A BM25 index of texts in rows, from 0 on. A removed text leaves its row empty, and an added one gets a new row.

    Attributes:
      num_rows: Number of rows, N.
    """

    def __init__(
        self, words: Sequence[str], starts: np.ndarray, rows: np.ndarray, counts: np.ndarray, lengths: np.ndarray
    ):
        """Takes the counts of N texts, by word.

        Args:
          words: W different words.
          starts: [W + 1] int, where the counts of each word begin; at the end C.
          rows: [C] int32, the text of each count.
          counts: [C] float32, how often the word stands there.
          lengths: [N] float32, number of words of each text; infinite for a removed one.
        """
        self._number_of = {word: number for number, word in enumerate(words)}
        self._starts, self._rows, self._counts, self._lengths = starts, rows, counts, lengths
        self._added: dict[str, dict[int, int]] = {}  # counts of added texts, by word and row
        self._lost: Counter[str] = Counter()  # number of texts in which a word stood that were removed
        self._scored: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # rows and scores of words, until a text changes
        self._normed: np.ndarray | None = None  # [N], what a text's length adds to a count, until a text changes

    @classmethod
    def build(cls, texts: Sequence[str]) -> "WordIndex":
        """Indexes texts.

        Raises:
          ValueError: no text has a word.
        """
        tokenized = bm25s.tokenize(list(texts), stopwords="en", show_progress=False)
        if not any(tokenized.ids):
            raise ValueError(
                f"BM25 finds no word of two letters or more in {len(texts)} texts. Search without it: --hybrid=none."
            )
        counted = [np.unique(np.array(ids, np.int32), return_counts=True) for ids in tokenized.ids]
        numbers = np.concatenate([each for each, _ in counted])  # [C]
        rows = np.repeat(np.arange(len(counted), dtype=np.int32), [len(each) for each, _ in counted])
        counts = np.concatenate([each for _, each in counted]).astype(np.float32)
        order = np.argsort(numbers, kind="stable")
        starts = np.searchsorted(numbers[order], np.arange(len(tokenized.vocab) + 1))
        lengths = np.array([len(ids) for ids in tokenized.ids], np.float32)
        return cls(list(tokenized.vocab), starts, rows[order], counts[order], lengths)

    @property
    def num_rows(self) -> int:
        """Number of rows, those of removed texts included."""
        return len(self._lengths)

    def add(self, text: str) -> None:
        """Adds a text in the next row."""
        counts = Counter(_words(text))
        for word, count in counts.items():
            self._added.setdefault(word, {})[self.num_rows] = count
        self._lengths = np.append(self._lengths, np.float32(counts.total()))
        self._forget()

    def remove(self, row: int, text: str) -> None:
        """Removes the text of a row."""
        for word in set(_words(text)):
            if self._added.get(word, {}).pop(row, None) is None:
                self._lost[word] += 1
        self._lengths[row] = np.inf
        self._forget()

    def _forget(self) -> None:
        self._scored, self._normed = {}, None

    def scores(self, query: str) -> np.ndarray:
        """Returns the score of every row, [N] float32; 0 for a text that shares no word with the query."""
        scores = np.zeros(self.num_rows, np.float32)
        for word in _words(query):
            if word not in self._number_of and word not in self._added:
                continue  # scores are kept for words of the texts only: queries may hold any word
            if word not in self._scored:
                self._scored[word] = self._scores_of(word)
            rows, of_word = self._scored[word]
            scores[rows] += of_word
        return scores

    def _scores_of(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows in which a word stands, and its scores there, which are 0 for removed texts."""
        if self._normed is None:
            present = self._lengths[np.isfinite(self._lengths)]
            self._num_texts = len(present)
            mean = max(float(present.mean()) if len(present) else 0.0, 1e-9)
            self._normed = (_K1 * (1 - _B + _B * self._lengths / mean)).astype(np.float32)
        rows, counts = self._counts_of(word)
        num_with = len(rows) - self._lost[word]
        idf = np.float32(np.log(1 + (self._num_texts - num_with + 0.5) / (num_with + 0.5)))
        return rows, idf * counts / (counts + self._normed[rows])  # the length of a removed text is infinite

    def _counts_of(self, word: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rows in which a word stands, removed ones included, and how often: two arrays of one length."""
        number, added = self._number_of.get(word), self._added.get(word, {})
        part = slice(0, 0) if number is None else slice(self._starts[number], self._starts[number + 1])
        rows, counts = self._rows[part], self._counts[part]
        if not added:
            return rows, counts
        return np.append(rows, list(added)), np.append(counts, np.array(list(added.values()), np.float32))

    @property
    def words(self) -> list[str]:
        """The different words, in the order of their numbers."""
        return list(self._number_of)

    def by_row(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns what each word adds to a text's score, by text; nothing may have been added or removed.

        Returns:
          Where each text begins, [N + 1] int; the numbers of the words, [C] int; what they add, [C] float32.
        """
        numbers = np.repeat(np.arange(len(self._number_of), dtype=np.int32), np.diff(self._starts))
        scores = np.concatenate([np.empty(0, np.float32), *(self._scores_of(word)[1] for word in self._number_of)])
        order = np.argsort(self._rows, kind="stable")
        starts = np.searchsorted(self._rows[order], np.arange(self.num_rows + 1))
        return starts, numbers[order], scores[order]

    def save(self, folder: str) -> None:
        """Writes the index to a new folder; nothing may have been added or removed since it was built."""
        os.makedirs(folder)
        words = np.frombuffer("\n".join(self._number_of).encode(), np.uint8)
        arrays = {"starts": self._starts, "rows": self._rows, "counts": self._counts, "lengths": self._lengths}
        np.savez(os.path.join(folder, FILE), words=words, **arrays)

    @classmethod
    def load(cls, folder: str, texts: Iterable[str]) -> "WordIndex":
        """Reads what `save` wrote. An index of an earlier version, which bm25s wrote, is built anew of its texts.

        Raises:
          ValueError: the folder is missing or damaged.
        """
        path = os.path.join(folder, FILE)
        if not os.path.exists(path) and os.path.exists(os.path.join(folder, "params.index.json")):
            return cls.build(list(texts))
        try:
            with open(path, "rb") as opened, np.load(opened) as file:
                arrays = {name: file[name] for name in ("words", "starts", "rows", "counts", "lengths")}
                return cls(arrays.pop("words").tobytes().decode().split("\n"), **arrays)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is missing or damaged ({error}). Build the index again.") from error


def counted(query: str, number_of: Mapping[str, int]) -> dict[int, int]:
    """Returns how often each word stands in a query, by its number; words without a number are left out."""
    return dict(Counter(number_of[word] for word in _words(query) if word in number_of))


def _words(text: str) -> list[str]:
    return bm25s.tokenize(text, stopwords="en", return_ids=False, show_progress=False)[0]
