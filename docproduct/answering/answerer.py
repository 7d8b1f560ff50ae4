"""READ FIRST: the path of one question.

question -> tokenizer [1, T] -> retriever, question side [1, D], unit norm -> index.search, k hits
         -> near enough? -> prompts, the first hits and the question -> generator's graph session -> answer, sources

The service (docproduct/web) takes the same steps, with the questions of several clients together.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

from data_pipeline import cleaning
from data_pipeline.prompts import answer_prompts as prompts
from docproduct.answering import emergency
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation, GenerationSession
from docproduct.index import Found, Hit, Index
from docproduct.systems.retriever import Side, TrainedRetriever

DISCLAIMER = "Research software: this is not medical advice. Ask a doctor about your health."
NOTHING_NEAR = "No stored answer is near enough to this question to answer it."


@dataclasses.dataclass(frozen=True)
class Query:
    """What is asked.

    Attributes:
      question: any text but blanks; beyond the encoder's longest text its end is lost.
      k: number of sources, 1 to `index.num_answers`; an approximate index may find fewer.
      search_by: compare the question with answers, or with the questions they answer.
    """

    question: str
    k: int = 5
    search_by: Side = "answer"

    def check(self, index: Index) -> None:
        """Raises a ValueError if the index cannot be asked this."""
        if not cleaning.clean(self.question):
            raise ValueError("The question is empty. Expected a text, for example: What helps against a cough?")
        index.check(self.k, self.search_by)


@dataclasses.dataclass(frozen=True)
class Answer:
    """What is shown for a question.

    Attributes:
      question: as it was asked.
      answer: the answer of the best hit, quoted; or that nothing is near enough.
      hits: what was found, the best first.
      near: whether any answer of the index is near enough to the question, or the question is stored.
      generated: what the generator wrote; None without one, and where nothing is near.
      num_contexts: the first so many hits stood in the generator's prompt.
      finished: whether the generator ended its answer; else the limit of tokens cut it, or it is not whole yet.
      shortened: whether the question was too long for the generator, and lost its end there.
      seconds: what each step took; of questions that were asked together, for all of them.
      emergency: what to do at once, if the question speaks of an emergency; shown before all else.
      disclaimer: is shown with every answer.
    """

    question: str
    answer: str
    hits: tuple[Hit, ...]
    near: bool
    generated: str | None
    num_contexts: int
    seconds: dict[str, float]
    emergency: str | None = None
    disclaimer: str = DISCLAIMER
    finished: bool = False
    shortened: bool = False

    def as_json(self) -> dict[str, Any]:
        """Returns what scripts and services print."""
        sources = [
            {
                "score": round(hit.score, 4),
                "in_prompt": number < self.num_contexts,
                **{name: getattr(hit, name) for name in ("question", "answer", "source", "focus")},
            }
            for number, hit in enumerate(self.hits)
        ]
        return {
            "question": self.question,
            "answer": self.answer,
            "generated": self.generated,
            "finished": self.finished,
            "question_shortened": self.shortened,
            "near": self.near,
            "sources": sources,
            "seconds": {step: round(seconds, 4) for step, seconds in self.seconds.items()},
            "emergency": self.emergency,
            "disclaimer": self.disclaimer,
        }


def retrieve(
    queries: Sequence[Query], retriever: TrainedRetriever, index: Index, threshold: float | None = None
) -> list[Answer]:
    """Finds the nearest answers of each query; nothing is written yet.

    Args:
      queries: one or more; they are encoded together.
      retriever: the encoder that the index was opened for.
      index: where to search.
      threshold: cosine of the question and the nearest answer of the index from which on it is near enough, however
        it is searched. Defaults to the index's calibrated threshold. A stored question that is asked word for word is
        near at any threshold.

    Raises:
      ValueError: a question is blank, or k is out of range.
    """
    for query in queries:
        query.check(index)
    start = time.perf_counter()
    questions = [cleaning.clean(query.question) for query in queries]
    vectors = retriever.embed_few(questions, "question")  # [Q, D]
    encoded = time.perf_counter()
    # Those with equal settings are searched together: each finds what it would find alone.
    alike: dict[tuple[int, Side], list[int]] = {}
    for row, query in enumerate(queries):
        alike.setdefault((query.k, query.search_by), []).append(row)
    found: dict[int, Found] = {}
    for (k, search_by), rows in alike.items():
        of_rows = index.search_many(vectors[rows], k, search_by, [questions[row] for row in rows])
        found |= dict(zip(rows, of_rows, strict=True))
    seconds = {"encode": encoded - start, "search": time.perf_counter() - encoded}
    answers = []
    threshold = index.threshold if threshold is None else threshold
    for row, query in enumerate(queries):
        hits = tuple(found[row].hits)
        near = found[row].stored or found[row].cosine >= threshold
        shown = hits[0].answer if near else NOTHING_NEAR
        advice = emergency.advice(query.question)
        answers.append(Answer(query.question, shown, hits, near, None, 0, seconds, advice))
    return answers


def asked(found: Answer, writer: GenerationSession) -> tuple[Answer, list[int]]:
    """Returns the answer with what stands in the generator's prompt, the first hits, and the ids of that prompt."""
    contexts = [(hit.question, hit.answer) for hit in found.hits]
    prompt = prompts.answer_prompt(writer.tokenizer, writer.prompt, cleaning.clean(found.question), contexts)
    return dataclasses.replace(found, num_contexts=prompt.num_contexts, shortened=prompt.shortened), prompt.ids


def written(found: Answer, generation: Generation, seconds: float) -> Answer:
    """Returns the answer with what the generator wrote, so far or whole."""
    seconds_of = {**found.seconds, "write": seconds}
    return dataclasses.replace(
        found, generated=generation.text.strip(), finished=generation.finished, seconds=seconds_of
    )


def check_writer(writer: GenerationSession) -> None:
    """Raises a ValueError if a generator was not trained to answer."""
    if not writer.prompt:
        raise ValueError(
            "This generator was not trained to answer. Train it with train_gpt2.py --task=context_answer, and export "
            "it again."
        )


def answer(
    question: str,
    retriever: TrainedRetriever,
    index: Index,
    k: int = 5,
    search_by: Side = "answer",
    writer: GenerationSession | None = None,
    settings: GenerationSettings | None = None,
    threshold: float | None = None,
) -> Answer:
    """Answers one question from the nearest answers of the index.

    Args:
      question: see `Query`, as for the next but two.
      retriever: see `retrieve`, as for the next one and threshold.
      index: where to search.
      k: number of sources.
      search_by: answer or question.
      writer: writes an answer from the first hits; None: the best one is quoted only.
      settings: how it writes; None: greedily, with the room that its prompts leave.
      threshold: minimum cosine for a hit to be near enough; see `retrieve`.

    Raises:
      ValueError: the question is blank, k is out of range, or the generator was not trained to answer.
    """
    *_, whole = stream(question, retriever, index, k, search_by, writer, settings, threshold, in_pieces=False)
    return whole


def stream(
    question: str,
    retriever: TrainedRetriever,
    index: Index,
    k: int = 5,
    search_by: Side = "answer",
    writer: GenerationSession | None = None,
    settings: GenerationSettings | None = None,
    threshold: float | None = None,
    in_pieces: bool = True,
) -> Iterator[Answer]:
    """Yields what was found, then the same with what is written, while it grows, and as a whole at last.

    Arguments and errors are those of `answer`; without `in_pieces`, which is a little faster, it does not grow.
    """
    if writer:
        check_writer(writer)
    (found,) = retrieve([Query(question, k, search_by)], retriever, index, threshold)
    if not writer or not found.near:
        yield found
        return
    start = time.perf_counter()
    found, prompt_ids = asked(found, writer)
    yield found
    settings = settings or GenerationSettings(max_tokens=writer.prompt.answer_tokens)
    settings = dataclasses.replace(settings, num_samples=1)
    growing = writer.stream(prompt_ids, settings) if in_pieces else writer.write([prompt_ids], settings)[0]
    for generation in growing:
        yield written(found, generation, time.perf_counter() - start)
