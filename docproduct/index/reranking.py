"""The first hits of a search in the order of a reranker, which also decides whether the question is answerable."""

import dataclasses
import time
from collections.abc import Sequence

import numpy as np
from absl import logging

from docproduct.index.open import Hit, Index, SearchResult
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.reranker.folder import DEPTH
from docproduct.systems.reranker.mixing import best_first, mix
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
      decides: Whether it decides which questions are answerable: the index was calibrated with it.
      most_pairs: Maximum number of pairs of all questions of a call together; None: no limit.
    """

    def __init__(self, reranker: TrainedReranker, depth: int = DEPTH, decides: bool = False):
        """Takes a reranker. If its weight is 0, as it gained nothing on dev, it is not used."""
        self.reranker, self.depth, self.decides = reranker, depth if reranker.weight else 0, decides
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
        reranker = TrainedReranker.load(folder, precision)
        rerank = cls(reranker, depth, decides=index.calibrated_reranker == reranker.fingerprint())
        if not rerank.depth:
            logging.warning("The reranker in %s gained nothing on dev: hits keep the retriever's order.", folder)
        elif rerank.reranker.retriever != retriever.fingerprint():
            logging.warning(
                "The reranker in %s was trained for the hits of another retriever: its weight may not fit. Train one "
                "for this retriever, or compare both with docproduct.evaluate.",
                folder,
            )
        elif not rerank.decides:
            logging.info(
                "The reranker in %s has no say in whether a question is answerable, as the index was not built with "
                "docproduct.index --reranker_dir.",
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
        self.reranker.logits_many([(_QUESTION, answers)])  # the first time takes longer
        taken = []
        for _ in range(_TIMED_RUNS):
            start = time.perf_counter()
            self.reranker.logits_many([(_QUESTION, answers)])
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
        `most_pairs`: the more questions, the fewer hits of each are ordered. If the reranker `decides`, and enough hits
        are read, the results also say by its logits whether each question is answerable.

        Args:
          questions: Clean texts.
          results: What was found for each.
        """
        depth = self._depth_of(len(questions))
        if not depth:
            return list(results)
        ends = [max(depth, result.num_own) for result in results]
        parts = [result.hits[result.num_own : end] for result, end in zip(results, ends, strict=True)]
        nearest = [result.evidence.answers if self._decides(result, depth) else [] for result in results]
        read = [
            list(dict.fromkeys([hit.answer for hit in part] + answers))
            for part, answers in zip(parts, nearest, strict=True)
        ]
        logits = self.reranker.logits_many(list(zip(questions, read, strict=True)))
        reranked = []
        for result, end, part, answers, *known in zip(results, ends, parts, nearest, read, logits, strict=True):
            logit_of = dict(zip(*known, strict=True))
            order = self._ordered(part, [logit_of[hit.answer] for hit in part])
            decision = result.evidence.decide([logit_of[answer] for answer in answers]) if answers else result.decision
            hits = [*result.hits[: result.num_own], *order, *result.hits[end:]]
            reranked.append(result._replace(hits=hits, decision=decision))
        return reranked

    def _decides(self, result: SearchResult, depth: int) -> bool:
        """Returns whether the reranker decides; with fewer hits than that takes, or a stored question, it does not."""
        return bool(self.decides and result.evidence and not result.stored and depth >= len(result.evidence.answers))

    def _ordered(self, hits: Sequence[Hit], logits: Sequence[float]) -> list[Hit]:
        scores = mix([hit.score for hit in hits], np.array(logits), self.reranker.weight)
        return [dataclasses.replace(hits[i], rerank_score=float(scores[i])) for i in best_first(scores).tolist()]
