"""Evaluation of a reranker on dev: the retriever's first hits, which stay the same, in the reranker's order.

Q questions, A answers of each
"""

from collections.abc import Callable

import numpy as np

from docproduct import metrics
from docproduct.systems.reranker.folder import TrainedReranker
from docproduct.systems.reranker.mixing import best_first, choose, mix
from docproduct.systems.reranker.pairs import text_ids
from docproduct.systems.retriever.dev import FirstHits

Logits = Callable[[np.ndarray], np.ndarray]  # [N, 2] numbers of questions and answers -> [N]


class RerankEvaluation:
    """Scores the order of the first hits, for each weight of the logits.

    Attributes:
      dev: RR@10 of each weight in the last call.
    """

    def __init__(self, first_hits: FirstHits, reranker: TrainedReranker):
        """Tokenizes the candidates; they are looked up once, as the retriever does not change."""
        self._hits, self._reranker = first_hits, reranker
        self._ids = text_ids(reranker.tokenizer, reranker.config, first_hits.questions, first_hits.answers)
        self.dev: dict[str, float] = {}

    def __call__(self) -> dict[str, float]:
        """Chooses the reranker's weight; returns RR@10 and Success@1 with it, and as the retriever has them."""
        logits = self._logits()
        ranks = {0.0: self._hits.ranks}  # by weight

        def reciprocal_rank(weight: float) -> float:
            ranks[weight] = self._ranks(logits, weight)
            return metrics.reciprocal_rank(ranks[weight], 10)

        self._reranker.weight, self.dev = choose(reciprocal_rank)
        chosen = ranks[self._reranker.weight]
        return {
            "RR@10": metrics.reciprocal_rank(chosen, 10),
            "Success@1": metrics.success(chosen, 1),
            "RR@10_without": metrics.reciprocal_rank(self._hits.ranks, 10),
            "Success@1_without": metrics.success(self._hits.ranks, 1),
            "RR@10_logits": self.dev["1"],
            "weight": self._reranker.weight,
        }

    def _logits(self) -> np.ndarray:
        """Returns the logits of all hits, [Q, A]; zeros for questions that no order of the hits could answer."""
        logits = np.zeros(self._hits.hits.shape, np.float32)
        if self._reranker.is_untrained():
            return logits
        asked = np.flatnonzero(self._hits.relevant.any(axis=1))
        hits = self._hits.hits[asked]  # [asked, A]
        rows = np.stack([np.repeat(asked, hits.shape[1]), hits.reshape(-1)], axis=1)
        logits[asked] = self._reranker.logits_of_rows(self._ids, rows).reshape(hits.shape)
        return logits

    def _ranks(self, logits: np.ndarray, weight: float) -> np.ndarray:
        """Returns the rank of each question's first right answer, [Q] int; beyond the hits it stays as it was."""
        ranks = self._hits.ranks.copy()
        for question in np.flatnonzero(self._hits.relevant.any(axis=1)).tolist():
            order = best_first(mix(self._hits.cosines[question], logits[question], weight))
            ranks[question] = 1 + int(np.argmax(self._hits.relevant[question][order]))
        return ranks
