"""READ FIRST: the path of one question.

question -> tokenizer [1, T] -> retriever, question side [1, D], unit norm -> index.search, k hits
         -> near enough? -> prompts, the first hits and the question -> generator's graph session -> answer, sources
"""

import dataclasses
import time
from typing import Any

from data_pipeline import cleaning, prompts
from docproduct.index import Hit, Index
from docproduct.systems.generator import GenerationSettings, Writer
from docproduct.systems.retriever import Side, TrainedRetriever

DISCLAIMER = "Research software: this is not medical advice. Ask a doctor about your health."
NOTHING_NEAR = "No stored answer is near enough to this question to answer it."


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is shown for a question.

    Attributes:
      question: as it was asked.
      answer: the answer of the best hit, quoted; or that nothing is near enough.
      hits: what was found, the best first.
      near: whether a hit is near enough to answer the question.
      generated: what the generator wrote; None without one, and where nothing is near.
      num_contexts: the first so many hits stood in the generator's prompt.
      seconds: what each step took.
      disclaimer: is shown with every answer.
    """

    question: str
    answer: str
    hits: tuple[Hit, ...]
    near: bool
    generated: str | None
    num_contexts: int
    seconds: dict[str, float]
    disclaimer: str = DISCLAIMER

    def as_json(self) -> dict[str, Any]:
        """Returns what scripts and services print."""
        sources = [
            {
                "score": round(hit.score, 4),
                "in_prompt": number < self.num_contexts,
                "question": hit.question,
                "answer": hit.answer,
            }
            for number, hit in enumerate(self.hits)
        ]
        return {
            "question": self.question,
            "answer": self.answer,
            "generated": self.generated,
            "near": self.near,
            "sources": sources,
            "seconds": {step: round(seconds, 4) for step, seconds in self.seconds.items()},
            "disclaimer": self.disclaimer,
        }


def answer(
    question: str,
    retriever: TrainedRetriever,
    index: Index,
    k: int = 5,
    search_by: Side = "answer",
    writer: Writer | None = None,
    settings: GenerationSettings | None = None,
    threshold: float | None = None,
) -> Answer:
    """Answers one question from the nearest answers of the index.

    Args:
      question: any text but blanks; beyond the encoder's longest text its end is lost.
      retriever: the encoder that the index was opened for.
      index: where to search.
      k: number of sources, 1 to `index.num_answers`; an approximate index may find fewer.
      search_by: compare the question with answers, or with the questions they answer.
      writer: writes an answer from the first hits; None: the best one is quoted only.
      settings: how it writes; None: greedily, with the room that its prompts leave.
      threshold: cosine that the best hit needs; None: the index's for search_by answer, none for question.

    Raises:
      ValueError: the question is blank, k is out of range, or the generator was not trained to answer.
    """
    cleaned = cleaning.clean(question)
    if not cleaned:
        raise ValueError("The question is empty. Expected a text, for example: What helps against a cough?")
    if writer and not writer.prompt:
        raise ValueError(
            "This generator was not trained to answer. Train it with train_gpt2.py --task=context_answer, and export "
            "it again."
        )
    clock = _Clock()
    query_vector = retriever.embed([cleaned], "question").head[0]  # [D]
    clock.stop("encode")
    hits = index.search(query_vector, k, search_by, cleaned)
    clock.stop("search")
    if threshold is None:
        threshold = index.threshold if search_by == "answer" else -1.0
    near = max(hit.score for hit in hits) >= threshold
    generated, num_contexts = None, 0
    if writer and near:
        generated, num_contexts = _write(writer, cleaned, hits, settings)
        clock.stop("write")
    shown = hits[0].answer if near else NOTHING_NEAR
    return Answer(question, shown, tuple(hits), near, generated, num_contexts, clock.seconds)


def _write(writer: Writer, question: str, hits: list[Hit], settings: GenerationSettings | None) -> tuple[str, int]:
    """Returns an answer from the first hits, and how many of them stood in the prompt."""
    contexts = [(hit.question, hit.answer) for hit in hits]
    prompt = prompts.answer_prompt(writer.tokenizer, writer.prompt, question, contexts)
    settings = settings or GenerationSettings(max_tokens=writer.prompt.answer_tokens)
    ((generation,),) = writer.write([prompt.ids], dataclasses.replace(settings, num_samples=1))
    return generation.text.strip(), prompt.num_contexts


class _Clock:
    """Measures the steps of an answer."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._start = time.perf_counter()

    def stop(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step], self._start = now - self._start, now
