"""READ FIRST: the path of one question.

question -> tokenizer [1, T] -> retriever, question side [1, D], unit norm -> index.search, k hits -> answer, sources
"""

import dataclasses
from typing import Any

from data_pipeline import cleaning
from docproduct.index import Hit, Index
from docproduct.systems.retriever import Side, TrainedRetriever

DISCLAIMER = "Research software: this is not medical advice. Ask a doctor about your health."


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is shown for a question.

    Attributes:
      question: as it was asked.
      answer: the answer of the best hit, quoted.
      hits: what was found, the best first.
      disclaimer: is shown with every answer.
    """

    question: str
    answer: str
    hits: tuple[Hit, ...]
    disclaimer: str = DISCLAIMER

    def as_json(self) -> dict[str, Any]:
        """Returns what scripts and services print."""
        sources = [{"score": round(hit.score, 4), "question": hit.question, "answer": hit.answer} for hit in self.hits]
        return {
            "question": self.question,
            "answer": self.answer,
            "sources": sources,
            "disclaimer": self.disclaimer,
        }


def answer(question: str, retriever: TrainedRetriever, index: Index, k: int = 5, search_by: Side = "answer") -> Answer:
    """Answers one question with the nearest answers of the index.

    Args:
      question: any text but blanks; beyond the encoder's longest text its end is lost.
      retriever: the encoder that the index was opened for.
      index: where to search.
      k: number of sources, 1 to `index.num_answers`; an approximate index may find fewer.
      search_by: compare the question with answers, or with the questions they answer.

    Raises:
      ValueError: the question is blank, or k is out of range.
    """
    cleaned = cleaning.clean(question)
    if not cleaned:
        raise ValueError("The question is empty. Expected a text, for example: What helps against a cough?")
    query_vector = retriever.embed([cleaned], "question").head[0]  # [D]
    hits = index.search(query_vector, k, search_by, cleaned)
    return Answer(question, hits[0].answer, tuple(hits))
