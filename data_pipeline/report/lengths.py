"""Lengths of questions and answers, in tokens beside a limit or, without a tokenizer, in words."""

import collections
from collections.abc import Sequence
from typing import Any

from data_pipeline.report.corpus import Row
from data_pipeline.report.tally import share
from data_pipeline.report.words import words_of
from data_pipeline.tokenizers import Tokenizer

SIDES = ("question", "answer")
_UNCUT = 10**9  # tokens
_QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


class Lengths:
    """Counts the lengths of all texts."""

    def __init__(self, tokenizer: Tokenizer | None, max_tokens: int):
        """Takes what cuts texts, if there is one, and the model's limit, [CLS] and [SEP] counted."""
        self._tokenizer, self._limit = tokenizer, max_tokens
        self._counts = {side: collections.Counter[int]() for side in SIDES}

    def add(self, rows: Sequence[Row]) -> None:
        """Counts the questions and answers of rows; missing answers have no length."""
        for side in SIDES:
            texts = [text for row in rows if (text := getattr(row, side))]
            if self._tokenizer and texts:
                self._counts[side].update(self._tokenizer.pack_words(texts, _UNCUT)[1].tolist())
            else:
                self._counts[side].update(len(words_of(text)) for text in texts)

    def numbers(self) -> dict[str, Any]:
        """Returns mean, quantiles, a histogram with doubling bins, and what the limit cuts, for each side."""
        limit = self._limit if self._tokenizer else None
        sides = {side: _described(counts, limit) for side, counts in self._counts.items()}
        return {"unit": "tokens" if self._tokenizer else "words", "limit": limit, **sides}


def _described(counts: collections.Counter[int], limit: int | None) -> dict[str, Any]:
    texts, total = counts.total(), sum(length * count for length, count in counts.items())
    described = {
        "texts": texts,
        "total": total,
        "mean": round(total / texts, 1) if texts else 0.0,
        **{name: _quantile(counts, quantile) for name, quantile in _QUANTILES.items()},
        "longest": max(counts, default=0),
        "histogram": _histogram(counts),
    }
    if limit is not None:
        over = sum(count for length, count in counts.items() if length > limit)
        lost = sum((length - limit) * count for length, count in counts.items() if length > limit)
        described |= {"over_limit": over, "over_limit_share": share(over, texts), "lost_share": share(lost, total)}
    return described


def _quantile(counts: collections.Counter[int], quantile: float) -> int:
    """Returns the smallest length that this share of the texts does not exceed."""
    below, wanted = 0, quantile * counts.total()
    for length in sorted(counts):
        below += counts[length]
        if below >= wanted:
            return length
    return 0


def _histogram(counts: collections.Counter[int]) -> list[dict[str, int]]:
    """Returns the texts with lengths in (0, 1], (1, 2], (2, 4], (4, 8], ..."""
    bins: collections.Counter[int] = collections.Counter()
    for length, count in counts.items():
        bins[max(0, length - 1).bit_length()] += count
    return [{"above": 2**i // 2, "to": 2**i, "texts": bins[i]} for i in range(max(bins, default=-1) + 1)]
