"""The first hits of a search in the order of a reranker, which may also decide whether the question is answerable."""

import dataclasses
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from docproduct.index.open import Hit, Index, SearchResult
from docproduct.search.answerable import DEPTH as DECIDING
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.reranker.folder import DEPTH
from docproduct.systems.reranker.mixing import best_first, mix
from docproduct.systems.retriever import TrainedRetriever

_LEAST_DEPTH = 2  # one hit has no order
_TIMED_RUNS = 2  # of which the faster one counts
_QUESTION = "What is known about this, and what helps against it?"
_LONG_ANSWER = 100 * (_QUESTION + " ")  # a live index may be empty at the start


def check_retriever(reranker: TrainedReranker, folder: str, retriever: TrainedRetriever) -> None:
    """Warns if the reranker in `folder` was trained for another retriever."""
    if reranker.retriever != retriever.fingerprint():
        logging.warning(
            "The reranker in %s was trained for the hits of another retriever: its weight may not fit. Train one for "
            "this retriever, or compare both with docproduct.evaluate.",
            folder,
        )


class HitReranker:
    """Orders the first hits of searches, and may decide which questions are answerable.

    Attributes:
      reranker: Scores the hits.
      depth: Number of first hits that are ordered; fewer than two: none.
      decides: Whether it decides: the index was calibrated with it.
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
        else:
            check_retriever(reranker, folder, retriever)
        if rerank.depth and most_ms is not None:
            rerank.keep_within(most_ms, index)
        return rerank

    def warn_if_silent(self, folder: str, index: Index) -> None:
        """Warns if the reranker in `folder` has no say in which questions are answerable, although it could."""
        can_decide = self.reranker.weight and index.manifest.get("answerable")  # an index may have too few pairs
        if not can_decide or (self.decides and self.depth >= DECIDING):
            return
        why = f"the index was calibrated {'with another one' if index.calibrated_reranker else 'without it'}"
        remedy = f"Build it with docproduct.index --reranker_dir={folder}."
        if self.decides:
            why = f"it reads {self.depth} hits of a question, and deciding takes {DECIDING}"
            remedy = "Raise --rerank_depth or --rerank_ms."
        logging.warning("The reranker has no say in whether a question is answerable: %s. %s", why, remedy)

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
        `most_pairs`: the more questions, the fewer hits of each are ordered. If the reranker `decides`, and `depth` is
        large enough for the nearest answers, the results have its decision in place of the search's.

        Args:
          questions: Clean texts.
          results: What was found for each.
        """
        depth = self._depth_of(len(questions))
        if not depth:
            return list(results)
        parts = [_Part.of(result, depth, self.decides) for result in results]
        logits = self.reranker.logits_many(list(zip(questions, (part.answers for part in parts), strict=True)))
        return [part.reranked(own, self.reranker.weight) for part, own in zip(parts, logits, strict=True)]


class _Part(NamedTuple):
    """The answers of one search result that the reranker reads.

    Attributes:
      result: What was found.
      end: End of the hits that are ordered; they begin behind those of a stored question.
      nearest: The answers whose logits decide; empty if the reranker does not decide.
    """

    result: SearchResult
    end: int
    nearest: list[str]

    @classmethod
    def of(cls, result: SearchResult, depth: int, decides: bool) -> "_Part":
        """Chooses at most `depth` answers."""
        nearest, evidence = [], result.evidence
        if decides and evidence and not result.stored and len(evidence.answers) <= depth:
            nearest = evidence.answers
        part = cls(result, max(depth, result.num_own), nearest)
        while len(part.answers) > depth:  # the nearest are not always among the first hits
            part = part._replace(end=part.end - 1)
        return part

    @property
    def hits(self) -> list[Hit]:
        """The hits that are ordered."""
        return self.result.hits[self.result.num_own : self.end]

    @property
    def answers(self) -> list[str]:
        """All answers that are read, none twice."""
        return list(dict.fromkeys([*(hit.answer for hit in self.hits), *self.nearest]))

    def reranked(self, logits: np.ndarray, weight: float) -> SearchResult:
        """Returns the result with its hits in order, and the reranker's decision, by the logits of `answers`."""
        logit_of = dict(zip(self.answers, logits.tolist(), strict=True))
        result, hits = self.result, self.hits
        scores = mix([hit.score for hit in hits], np.array([logit_of[hit.answer] for hit in hits]), weight)
        order = [dataclasses.replace(hits[i], rerank_score=float(scores[i])) for i in best_first(scores).tolist()]
        decision = result.decision
        if self.nearest:
            decision = result.evidence.decide([logit_of[answer] for answer in self.nearest])
        hits = [*result.hits[: result.num_own], *order, *result.hits[self.end :]]
        return result._replace(hits=hits, decision=decision)
