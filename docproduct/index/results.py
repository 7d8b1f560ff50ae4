"""What a search returns."""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from docproduct.index.content import heading
from docproduct.index.decision import Decision, Evidence


@dataclasses.dataclass(frozen=True)
class Hit:
    """A pair, or a passage of a document, that a search returned.

    Attributes:
      score: Cosine of the query and the best passage of the answer (or the question), -1 to 1.
      pair_id: Id of the pair or passage.
      question: Its question; empty for a passage.
      answer: Its whole answer, or the passage.
      source: The collection that it comes from, or the document's file.
      focus: Its topic, or empty.
      rerank_score: The score that a reranker ordered it by; None if it was not reranked.
      title: Title of the document, or empty, as for all pairs; the same holds for the following.
      section: The headings above the passage.
      page: Number of its page, from 1.
      columns: What else the index keeps of the pair or passage, by column.
    """

    score: float
    pair_id: int
    question: str
    answer: str
    source: str
    focus: str
    rerank_score: float | None = None
    title: str = ""
    section: str = ""
    page: str = ""
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def heading(self) -> str:
        """What it can be asked for word for word: the question; of a passage "Asthma guide, Treatment"."""
        return self.question or heading(self.title, self.section, self.source)

    @property
    def place(self) -> str:
        """Where a passage stands: "Asthma guide, Treatment, page 3"; empty for a pair."""
        if self.question:
            return ""
        return f"{self.heading}, page {self.page}" if self.page else self.heading

    @property
    def label(self) -> str:
        """What a list of sources calls it: the question, or the place."""
        return self.place or self.question


class SearchResult(NamedTuple):
    """The result of a query.

    Attributes:
      hits: The best first, no two with the same answer. The answers of a stored question that was asked come first.
      cosine: The highest cosine of the query and any answer of the index, among the hits or not; -inf if no pair
        fulfils the conditions of the search.
      stored: Whether the query is a stored question.
      num_own: Number of hits, from the first, that are answers of that stored question.
      decision: What the calibration of the index says: that of the search or, after reranking, that with the reranker.
      evidence: What a reranker needs to decide about the pairs; None if it has no say about this query.
    """

    hits: list[Hit]
    cosine: float
    stored: bool = False
    num_own: int = 0
    decision: Decision = Decision(answerable=False, near=False)
    evidence: Evidence | None = None

    def is_answerable(self, least_cosine: float | None = None) -> bool:
        """Returns whether the query is a stored question, or has an answer that is near enough.

        Args:
          least_cosine: Minimum cosine of the nearest answer. None: the calibration of the index decides.
        """
        near_enough = self.decision.answerable if least_cosine is None else self.cosine >= least_cosine
        return self.stored or near_enough
