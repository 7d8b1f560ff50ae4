"""What the routes do: questions of several clients together, answers that grow, reloading."""

import asyncio
import base64
import contextlib
import dataclasses
import gc
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from absl import logging
from starlette.exceptions import HTTPException

from data_pipeline import cleaning
from docproduct.answering import DISCLAIMER, Answer, Answerer, Query
from docproduct.answering.choices import ChoiceAnswer, ChoiceAnswerer, ReadQuestion
from docproduct.answering.triage import Triage, Triager
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation, GenerationSession
from docproduct.index.live import LiveFolder
from docproduct.search.changes import NotStoredError
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.systems.retriever.folder import shorten
from docproduct.web import pair_schemas, schemas, talk_schemas
from docproduct.web.feedback import FeedbackFile
from docproduct.web.measures import Measures
from docproduct.web.queue import QueueLimits, WorkQueue
from docproduct.web.reloading import Reloadable
from docproduct.web.responses import InvalidRequestError, request_errors
from docproduct.web.settings import ServiceSettings

T = TypeVar("T")


class _Question(NamedTuple):
    """A question and the answerer that checked it: after a reload, another one may have fewer answers."""

    answerer: Answerer
    query: Query


class _Texts(NamedTuple):
    retriever: TrainedRetriever
    texts: list[str]
    side: Side


class _Complaint(NamedTuple):
    triager: Triager
    text: str


class _Exam(NamedTuple):
    chooser: ChoiceAnswerer
    question: ReadQuestion


class _Prompt(NamedTuple):
    generator: GenerationSession
    ids: list[int]
    sampling: GenerationSettings


def _retrieve(questions: Sequence[_Question]) -> Iterator[list[Answer]]:
    yield questions[0].answerer.retrieve([question.query for question in questions])


def _embed(batch: Sequence[_Texts]) -> Iterator[list[tuple[np.ndarray, int]]]:
    """Yields for each item its vectors, [N, D] float32 of unit norm, and the number of tokens that were encoded."""
    results = []
    for retriever, texts, side in batch:
        ids = retriever.token_ids(texts, side)
        results.append((retriever.embed_ids(ids, side).head, int(ids.row_lengths().numpy().sum())))
    yield results


def _triage(complaints: Sequence[_Complaint]) -> Iterator[list[Triage]]:
    yield [complaint.triager.triage(complaint.text) for complaint in complaints]


def _draft(complaints: Sequence[_Complaint]) -> Iterator[list[str | None]]:
    yield [complaint.triager.draft(complaint.text) for complaint in complaints]


def _choose(exams: Sequence[_Exam]) -> Iterator[list[ChoiceAnswer]]:
    yield [exam.chooser.answer(exam.question) for exam in exams]


def _change(changes: Sequence[Callable[[], Any]]) -> Iterator[list[Any]]:
    yield [change() for change in changes]


def _write(prompts: Sequence[_Prompt]) -> Iterator[list[Generation]]:
    first = prompts[0]
    yield from first.generator.stream_many([prompt.ids for prompt in prompts], first.sampling)


class Service:
    """Works on requests; see the routes in server.py.

    Attributes:
      measures: Its counters.
      writing_thread: The thread that writes.
      feedback: Keeps ratings, and questions without an answer; None: they are not kept.
    """

    def __init__(self, source: Reloadable, settings: ServiceSettings, measures: Measures):
        """Makes the queues."""
        self._source, self._settings, self.measures = source, settings, measures
        # A thread for retrieval and one for writing: TensorFlow and FAISS use all cores within one batch.
        # Changes of the pairs have a third, which waits for the disk.
        self._threads = [ThreadPoolExecutor(1, name) for name in ("retrieval", "writing", "changing")]
        retrieval, writing, changing = self._threads
        self.writing_thread = writing
        self.feedback = FeedbackFile(settings.feedback_file) if settings.feedback_file else None
        limits = QueueLimits(settings.max_batch, settings.max_waiting, settings.max_wait_ms)
        self._questions = WorkQueue(
            _retrieve, retrieval, limits, key=lambda item: item.answerer, on_batch=self._observe("retrieval")
        )
        limits = QueueLimits(1, settings.max_waiting)
        self._texts = WorkQueue(_embed, retrieval, limits, on_batch=self._observe("embeddings"))
        self._complaints = WorkQueue(_triage, retrieval, limits, on_batch=self._observe("triage"))
        self._changes = WorkQueue(_change, changing, limits, on_batch=self._observe("changes"))
        limits = QueueLimits(1, settings.writing_waiting)
        self._drafts = WorkQueue(_draft, writing, limits, on_batch=self._observe("drafts"))
        # Not beside retrieval: a language model takes longer than an encoder.
        self._exams = WorkQueue(_choose, writing, limits, on_batch=self._observe("choices"))
        limits = QueueLimits(settings.writing_batch, settings.writing_waiting)
        self._prompts = WorkQueue(
            _write,
            writing,
            limits,
            key=lambda item: (item.generator, item.sampling),
            is_last=lambda generation: generation.finished,
            on_batch=self._observe("writing"),
        )
        queues = {"retrieval": self._questions, "embeddings": self._texts, "writing": self._prompts}
        queues |= {"triage": self._complaints, "drafts": self._drafts, "choices": self._exams}
        queues["changes"] = self._changes
        for name, queue in queues.items():
            measures.waiting.labels(name).set_function(lambda queue=queue: queue.num_waiting)

    def _observe(self, queue: str) -> Callable[[int], None]:
        return self.measures.batch_size.labels(queue).observe

    def deadline(self) -> float:
        """Returns the time, by `time.perf_counter`, when a request that begins now is given up."""
        return time.perf_counter() + self._settings.timeout

    def answerer(self) -> Answerer:
        """Returns what answers questions; a reload replaces it."""
        if self._source.answerer is None:
            raise HTTPException(404, "This service answers no questions. Start it with --model_dir and --index_dir.")
        return self._source.answerer

    async def retrieve(self, request: schemas.RetrieveRequest) -> Answer:
        """Finds the sources of a question."""
        with request_errors():
            query = Query(request.question, request.k, request.search_by, request.conditions(), correct=request.correct)
        return await self.retrieved(self.answerer(), query)

    async def retrieved(self, answerer: Answerer, query: Query) -> Answer:
        """Finds the sources of a query with this answerer, which may have been replaced since."""
        with request_errors():  # checked alone: a wrong question must not spoil a batch
            answerer.check(query)
        if self._settings.log_questions:
            logging.info("question: %s", json.dumps(query.question))
        return await self._questions.result(_Question(answerer, query))

    async def answer(self, request: schemas.AnswerRequest) -> AsyncIterator[Answer]:
        """Yields the answer with its sources, then with the generator's text while it grows, then complete, checked."""
        answerer = self.answerer()
        with request_errors():
            sampling = _sampling(answerer, request)
            query = Query(
                request.question,
                request.k,
                request.search_by,
                request.conditions(),
                request.generate,
                request.only_supported,
                correct=request.correct,
                sampling=sampling,
            )
        answer = await self.retrieved(answerer, query)
        if self.feedback and not answer.answerable:
            try:
                await asyncio.to_thread(self.feedback.refused, answer)
            except NotStoredError as error:
                logging.warning("A question without an answer was not kept: %s", error)
        if not answerer.writes(query, answer):
            yield answer
            return
        self.check_writing()  # before anything is sent: a stream that has begun has its status already
        start = time.perf_counter()
        draft = answerer.draft(query, answer)
        yield draft.answer
        async with contextlib.aclosing(self.write(answerer.generator, draft.prompt_ids, sampling)) as generations:
            async for generation in generations:
                yield await asyncio.to_thread(draft.growing, generation, time.perf_counter() - start)
        yield await asyncio.to_thread(draft.complete, generation, time.perf_counter() - start)

    def check_writing(self) -> None:
        """Raises an OverloadedError if nothing else may wait to be written."""
        self._prompts.check_room()

    async def write(
        self, generator: GenerationSession, prompt_ids: list[int], sampling: GenerationSettings
    ) -> AsyncIterator[Generation]:
        """Yields the growing answer to a prompt, and finally the whole."""
        num_tokens = 0
        try:
            async with contextlib.aclosing(self._prompts.results(_Prompt(generator, prompt_ids, sampling))) as results:
                async for generation in results:
                    num_tokens = len(generation.ids)
                    yield generation
        finally:
            self.measures.tokens.inc(num_tokens)

    async def embeddings(self, request: schemas.EmbeddingsRequest) -> schemas.EmbeddingsResponse:
        """Encodes texts."""
        texts = [request.input] if isinstance(request.input, str) else request.input
        vectors, num_tokens = await self._texts.result(_Texts(self.answerer().retriever, texts, request.side))
        with request_errors():
            vectors = shorten(vectors, request.dimensions or 0)
        data = [
            schemas.Embedding(
                index=number,
                embedding=base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if request.encoding_format == "base64"
                else vector.tolist(),
            )
            for number, vector in enumerate(vectors)
        ]
        usage = schemas.Usage(prompt_tokens=num_tokens, total_tokens=num_tokens)
        return schemas.EmbeddingsResponse(data=data, model=request.model or schemas.MODEL_ID, usage=usage)

    async def triage(self, request: schemas.TriageRequest) -> Triage | None:
        """Names the departments of a text, and drafts a reply if it is asked for; None without a triage model."""
        triager = self._source.triager
        if triager is None:
            return None
        if not cleaning.clean(request.text):
            raise InvalidRequestError("The text is empty. Expected what a patient wrote.")
        complaint = _Complaint(triager, request.text)
        triage = await self._complaints.result(complaint)
        if not request.reply:
            return triage
        return dataclasses.replace(triage, reply=await self._drafts.result(complaint))

    async def choices(self, request: schemas.ChoicesRequest) -> ChoiceAnswer | None:
        """Chooses among the answers of a question; None without a model that chooses."""
        chooser = self._source.chooser
        if chooser is None:
            return None
        self._exams.check_room()  # before the question is tokenized
        with request_errors():
            asked = (request.question, request.choices, request.context, request.several)
            read = await asyncio.to_thread(chooser.read, *asked)
        if self._settings.log_questions:
            logging.info("question: %s", json.dumps(request.question))
        return await self._exams.result(_Exam(chooser, read))

    @property
    def live(self) -> LiveFolder:
        """The index whose pairs can be changed."""
        if (live := self.answerer().live) is None:
            raise HTTPException(404, "The pairs of this service cannot be changed. Start it with --live.")
        return live

    async def changed(self, change: Callable[[], T]) -> T:
        """Changes pairs, one change after another, and returns what the change returns.

        A client that leaves does not stop a change that has begun.
        """
        return await self._changes.result(change)

    def info(self) -> schemas.Info:
        """Returns the facts that a page shows."""
        answerer, triager, chooser = self._source.answerer, self._source.triager, self._source.chooser
        limits, num_answers = self._settings.request_limits, answerer.index.num_answers if answerer else 0
        generator, live = (answerer.generator, answerer.live) if answerer else (None, None)
        return schemas.Info(
            num_answers=num_answers,
            num_documents=answerer.index.num_documents if answerer else 0,
            search_by=answerer.index.sides if answerer else (),
            generator=generator is not None,
            triage=triager is not None,
            triage_reply=triager is not None and triager.model.has_replies,
            choices=chooser is not None,
            choices_several=chooser is not None and chooser.takes_several,
            max_k=min(schemas.MAX_K, num_answers),
            max_question_chars=limits.question_chars,
            max_texts=limits.texts,
            max_text_chars=limits.text_chars,
            max_choices=limits.choices,
            max_body_bytes=self._settings.limits.body_bytes,
            max_tokens=generator.prompt.answer_tokens if generator else None,
            examples=self._source.examples,
            sources=answerer.index.sources() if answerer else [],
            columns=list(answerer.index.pairs.columns) if answerer else [],
            feedback=self.feedback is not None,
            live=pair_schemas.LiveState(
                changes=live.num_changes, changed_share=live.changed_share, compacting=live.is_compacting
            )
            if live
            else None,
            disclaimer=DISCLAIMER,
        )

    def model_ids(self) -> list[str]:
        """Returns the names of the models of OpenAI's routes."""
        writes = self._source.answerer and self._source.answerer.generator
        return [schemas.MODEL_ID, *([talk_schemas.MODEL_ID] if writes else [])]

    async def reload(self) -> None:
        """Exchanges models and index, while the old ones answer."""
        reloaded = await asyncio.get_running_loop().run_in_executor(None, self._source.reload)
        self.measures.reloads.labels("done" if reloaded else "failed").inc()
        # The old ones have given their last answer by now. They are in reference cycles, which may stay for long.
        await asyncio.sleep(self._settings.timeout)
        gc.collect()

    def close(self) -> None:
        """Ends the threads, when they have finished their work."""
        for threads in self._threads:
            threads.shutdown(wait=True, cancel_futures=True)
        if self.feedback:
            self.feedback.close()
        if self._source.answerer and self._source.answerer.live:
            self._source.answerer.live.close()


def _sampling(answerer: Answerer, request: schemas.AnswerRequest) -> GenerationSettings | None:
    """Returns the settings for the generator; None if none will write."""
    if not answerer.generator or not request.generate:
        return None
    longest = answerer.generator.prompt.answer_tokens
    if request.max_tokens is not None and request.max_tokens > longest:
        raise ValueError(
            f"max_tokens is {request.max_tokens}; expected 1 to {longest}, what this generator was trained for."
        )
    return answerer.sampling(**request.sampling())
