"""How much of a question a text mentions: shares of its words, rare ones count most, slips count in part.

Source of the weights: Spärck Jones 1972, inverse document frequency.
"""

import collections
import functools
import math
import os
import re
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.paraphrases import STOP_WORDS

WORDS_FILE = "words.parquet"
# Words of users that say nothing about their subject, and seldom stand in a table.
_POLITE = frozenset(("find", "hello", "help", "hi", "information", "know", "please", "thank", "thanks"))
_LEAST_ALIKE = 0.5  # of a misspelt word and the word that is meant


class WordWeights:
    """In how many of N texts each word stands; what stands in one text weighs as much as what stands in none.

    Attributes:
      counts: {word in lower case: number of texts}.
    """

    def __init__(self, counts: dict[str, int], num_texts: int):
        self.counts, self._num_texts = counts, num_texts

    @classmethod
    def build(cls, texts: Iterable[str]) -> "WordWeights":
        """Counts the words of texts."""
        counts: collections.Counter[str] = collections.Counter()
        num_texts = 0
        for text in texts:
            num_texts += 1
            counts.update(words_of(text))
        return cls(dict(counts), num_texts)

    def add(self, text: str) -> None:
        """Counts the words of another text."""
        self._num_texts += 1
        for word in words_of(text):
            self.counts[word] = self.counts.get(word, 0) + 1

    def remove(self, text: str) -> None:
        """Counts the words of a text no more."""
        self._num_texts -= 1
        for word in words_of(text):
            self.counts[word] -= 1
            if not self.counts[word]:
                del self.counts[word]

    def shared(self, question: str, texts: Iterable[str]) -> float:
        """Returns the share of the question's words, by weight, that stand in any of the texts, 0 to 1.

        A word that stands there only in a similar form counts in part, by the Dice coefficient of the letter trigrams.
        """
        present = frozenset().union(*map(words_of, texts))
        weights = {word: self._weight(word) for word in words_of(question) - STOP_WORDS - _POLITE}
        found = sum(weight * alike(word, present) for word, weight in weights.items())
        return found / sum(weights.values()) if weights else 0.0

    def _weight(self, word: str) -> float:
        return math.log(1 + self._num_texts / self.counts.get(word, 1))

    def save(self, folder: str) -> None:
        """Writes the counts to WORDS_FILE of a folder."""
        table = pa.table({"word": list(self.counts), "texts": list(self.counts.values())})
        pq.write_table(table.replace_schema_metadata({"num_texts": str(self._num_texts)}), _path(folder))

    @classmethod
    def load(cls, folder: str) -> "WordWeights":
        """Reads what `save` wrote.

        Raises:
          ValueError: the file is missing or damaged.
        """
        try:
            table = pq.read_table(_path(folder))
            counts = zip(table["word"].to_pylist(), table["texts"].to_pylist(), strict=True)
            return cls(dict(counts), int(table.schema.metadata[b"num_texts"]))
        except (OSError, KeyError, pa.ArrowInvalid) as error:
            raise ValueError(f"{_path(folder)} is missing or damaged ({error}). Build the index again.") from error


@functools.lru_cache(10_000)
def words_of(text: str) -> frozenset[str]:
    """Returns the words of two letters and more of a text, in lower case."""
    return frozenset(re.findall(r"\w{2,}", text.lower()))


def _path(folder: str) -> str:
    return os.path.join(folder, WORDS_FILE)


def alike(word: str, present: frozenset[str]) -> float:
    """Returns 1 if the word is present, else its similarity with the nearest word of the same first letter."""
    if word in present:
        return 1.0
    similar = max((_dice(word, other) for other in present if other[0] == word[0]), default=0.0)
    return similar if similar > _LEAST_ALIKE else 0.0


def _dice(word: str, other: str) -> float:
    a, b = _trigrams(word), _trigrams(other)
    return 2 * len(a & b) / (len(a) + len(b))


@functools.lru_cache(50_000)
def _trigrams(word: str) -> frozenset[str]:
    padded = f" {word} "
    return frozenset(padded[i : i + 3] for i in range(len(padded) - 2))
