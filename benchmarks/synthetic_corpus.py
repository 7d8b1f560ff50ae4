"""Makes a synthetic corpus of any size with the length distribution of MedQuAD, for benchmarks.

Words are drawn from a BERT vocabulary by Zipf's law. Some get punctuation or a capital letter, and some are joined to
compounds. So the pieces per word (1.4) and the number of different words (68,000 in 2.8 million words, growing with the
square root) are close to MedQuAD's. Some questions and some pairs occur twice.
"""

import csv
import os
from collections.abc import Iterator

import numpy as np

from data_pipeline.folders import files

# Words per text at the 0th, 5th, ... 100th percentile of MedQuAD's training part.
QUESTION_WORDS = (3, 5, 5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9, 10, 10, 11, 11, 12, 27)
ANSWER_WORDS = (1, 26, 43, 51, 61, 71, 85, 98, 111, 123, 138, 155, 173, 198, 232, 251, 279, 316, 382, 523, 1400)

_ROWS_AT_ONCE = 5_000
_ASKED_AGAIN, _REPEATED = 0.05, 0.01  # shares of the pairs


def write(path: str, num_pairs: int, vocab_file: str, seed: int = 0) -> None:
    """Writes a CSV file of `num_pairs` rows with the columns question and answer."""
    with files.whole_file(path) as partial, open(partial, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "answer"])
        writer.writerows(_pairs(num_pairs, vocab_file, np.random.default_rng(seed)))


def cached(folder: str, num_pairs: int, vocab_file: str) -> str:
    """Returns the path of a corpus in `folder`; writes it if it is missing."""
    path = os.path.join(folder, f"synthetic-{num_pairs}-{files.sha256(vocab_file)[:8]}.csv")
    if not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        write(path, num_pairs, vocab_file)
    return path


def _pairs(num_pairs: int, vocab_file: str, random: np.random.Generator) -> Iterator[tuple[str, str]]:
    with open(vocab_file, encoding="utf-8") as file:
        words = [word for word in file.read().split("\n") if word.isascii() and word.isalpha() and len(word) > 1]
    weights = 1 / (np.arange(len(words)) + 2.7)  # Zipf-Mandelbrot
    cumulative = np.cumsum(weights / weights.sum())
    num_done = 0
    while num_done < num_pairs:
        n = min(_ROWS_AT_ONCE, num_pairs - num_done)
        questions = _texts(n, QUESTION_WORDS, words, cumulative, random)
        answers = _texts(n, ANSWER_WORDS, words, cumulative, random)
        again, repeated = (random.random(n) < share for share in (_ASKED_AGAIN, _REPEATED))
        for i in range(1, n):
            if again[i] or repeated[i]:
                questions[i] = questions[i - 1]
            if repeated[i]:
                answers[i] = answers[i - 1]
        yield from zip(questions, answers, strict=True)
        num_done += n


def _texts(
    n: int, percentiles: tuple[int, ...], words: list[str], cumulative: np.ndarray, random: np.random.Generator
) -> list[str]:
    lengths = np.interp(random.random(n), np.linspace(0, 1, len(percentiles)), percentiles).astype(int)
    total = int(lengths.sum())
    first, second = (np.searchsorted(cumulative, random.random(total)).tolist() for _ in range(2))
    kind = random.random(total).tolist()
    text_words = []
    for i, j, share in zip(first, second, kind, strict=True):
        word = words[i]
        if share < 0.14:
            word += "." if share < 0.06 else ","
        elif share < 0.2:
            word = word.capitalize()
        elif share < 0.35:  # a compound of two or more pieces that occurs often
            word += words[(7919 * i + 13) % len(words)]
        elif share < 0.353:  # a compound that may occur only once
            word += words[j]
        text_words.append(word)
    ends = np.cumsum(lengths).tolist()
    return [" ".join(text_words[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
