"""The first hits of a search in the order of a reranker."""

import dataclasses
import time
from collections.abc import Sequence

from absl import logging

from docproduct.index.open import Hit, Index, SearchResult
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.reranker.folder import DEPTH, Candidates
from docproduct.systems.reranker.mixing import best_first
from docproduct.systems.retriever import TrainedRetriever

_LEAST_DEPTH = 2  # one hit has no order
_TIMED_RUNS = 2  # of which the faster one counts
_QUESTION = "What is known about this, and what helps against it?"
_LONG_ANSWER = 100 * (_QUESTION + " ")  # a live index may be empty at the start


class HitReranker:
    """Orders the first hits of searches.

    Attributes:
      reranker: Scores the hits.
      depth: Number of first hits that are ordered; fewer than two: none.
      most_pairs: Maximum number of pairs of all questions of a call together; None: no limit.
    """

    def __init__(self, reranker: TrainedReranker, depth: int = DEPTH):
        """Takes a reranker. If its weight is 0, as it gained nothing on dev, no hits are ordered."""
        self.reranker, self.depth = reranker, depth if reranker.weight else 0
        self.most_pairs: int | None = None

    @classmethod
    def load(
        cls,
        folder: str,
        index: Index,
        retriever: TrainedRetriever,
        depth: int = DEPTH,
        most_ms: float | None = None,
        precision: str = "auto",
    ) -> "HitReranker":
        """Loads a reranker.

        Args:
          folder: A folder that `train_embeddings.py --task=reranker` wrote.
          index: Where the hits come from.
          retriever: The encoder that finds them.
          depth: Number of first hits to order.
          most_ms: Maximum milliseconds for all questions of a call together; see `keep_within`. None: no limit.
          precision: Precision of the reranker's encoder: float32, bfloat16, or auto, the fastest here.

        Raises:
          ValueError: the folder holds no reranker, or is damaged.
        """
        rerank = cls(TrainedReranker.load(folder, precision), depth)
        if not rerank.depth:
            logging.warning("The reranker in %s gained nothing on dev: hits keep the retriever's order.", folder)
        elif rerank.reranker.retriever != retriever.fingerprint():
            logging.warning(
                "The reranker in %s was trained for the hits of another retriever: its weight may not fit. Train one "
                "for this retriever, or compare both with docproduct.evaluate.",
                folder,
            )
        if rerank.depth and most_ms is not None:
            rerank.keep_within(most_ms, index)
        return rerank

    def keep_within(self, most_ms: float, index: Index) -> None:
        """Limits the pairs of a call, so that reranking takes at most this long.

        The time of a pair is measured once, with the longest answers of the index. Later work that slows the machine
        down is not taken into account.
        """
        answers = (index.longest_answers(self.depth) + [_LONG_ANSWER] * self.depth)[: self.depth]
        pair_ms = self._milliseconds(answers) / len(answers)
        self.most_pairs = int(most_ms / pair_ms)
        if self.most_pairs < self.depth:
            self.depth = self._depth_of(1)
            logging.warning(
                "Reranking %d hits takes up to %.0f ms here: %d are reranked, to stay within %g ms.",
                *(len(answers), len(answers) * pair_ms, self.depth, most_ms),
            )

    def _milliseconds(self, answers: Sequence[str]) -> float:
        """Returns the milliseconds that a question with these answers takes."""
        candidates = [Candidates(_QUESTION, answers, [0.0] * len(answers))]
        self.reranker.scores_many(candidates)  # the first time takes longer
        taken = []
        for _ in range(_TIMED_RUNS):
            start = time.perf_counter()
            self.reranker.scores_many(candidates)
            taken.append(1_000 * (time.perf_counter() - start))
        return min(taken)

    def _depth_of(self, num_questions: int) -> int:
        """Returns the number of first hits that are ordered for each question of a call with this many; 0: none."""
        depth = self.depth
        if self.most_pairs is not None:
            depth = min(depth, self.most_pairs // max(1, num_questions))
        return depth if depth >= _LEAST_DEPTH else 0

    def __call__(self, questions: Sequence[str], results: Sequence[SearchResult]) -> list[SearchResult]:
        """Returns the results with at most their first `depth` hits in the reranker's order, and the others as before.

        The answers of a stored question stay first. The pairs of all questions are read together. They share
        `most_pairs`: the more questions, the fewer hits of each are ordered.

        Args:
          questions: Clean texts.
          results: What was found for each.
        """
        depth = self._depth_of(len(questions))
        if not depth:
            return list(results)
        ends = [max(depth, result.num_own) for result in results]
        parts = [result.hits[result.num_own : end] for result, end in zip(results, ends, strict=True)]
        candidates = [
            Candidates(question, [hit.answer for hit in part], [hit.score for hit in part])
            for question, part in zip(questions, parts, strict=True)
        ]
        orders = map(_ordered, parts, self.reranker.scores_many(candidates))
        return [
            result._replace(hits=[*result.hits[: result.num_own], *order, *result.hits[end:]])
            for result, end, order in zip(results, ends, orders, strict=True)
        ]


def _ordered(hits: Sequence[Hit], scores: Sequence[float]) -> list[Hit]:
    return [dataclasses.replace(hits[i], rerank_score=float(scores[i])) for i in best_first(scores).tolist()]
