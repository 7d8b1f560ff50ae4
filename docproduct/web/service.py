"""What the routes do: questions of several clients together, answers that grow, reloading."""

import asyncio
import base64
import contextlib
import dataclasses
import gc
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from absl import logging
from fastapi import Request

from docproduct.answering import answerer as answering
from docproduct.answering.answerer import Answer, Query
from docproduct.systems.retriever.folder import shorten
from docproduct.web import schemas
from docproduct.web.batching import Batcher, OverloadedError
from docproduct.web.engine import Engine, Reloadable
from docproduct.web.generation_queue import GenerationQueue
from docproduct.web.measures import Measures
from docproduct.web.protection import Limits, error_body

T = TypeVar("T")
_HOW = ("temperature", "top_k", "top_p", "repetition_penalty", "no_repeat_ngram_size", "seed")  # of a request


@dataclasses.dataclass(frozen=True)
class ServiceSettings:
    """How the service works.

    Attributes:
      max_batch: questions that are encoded and searched together.
      max_wait: seconds that the first question of a batch waits for others.
      max_waiting: questions that may wait; more are answered with 503.
      writing_batch: answers that are written together.
      writing_waiting: answers that may wait to be written.
      timeout: seconds until a request is given up.
      log_questions: whether questions stand in the log.
      limits: what a client may do.
      request_limits: how much a request may hold.
    """

    max_batch: int = 32
    max_wait: float = 0.002
    max_waiting: int = 128
    writing_batch: int = 8
    writing_waiting: int = 16
    timeout: float = 60.0
    log_questions: bool = False
    limits: Limits = Limits()
    request_limits: schemas.RequestLimits = schemas.RequestLimits()

    def __post_init__(self) -> None:
        """Raises a ValueError where no body could be as long as a text may be."""
        for name in ("question_chars", "text_chars"):
            if (value := getattr(self.request_limits, name)) > self.limits.body_bytes:
                raise ValueError(
                    f"{name} is {value}, and a body may have {self.limits.body_bytes} bytes: no such text could "
                    "arrive. Give a lower limit, or allow longer bodies."
                )


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class InvalidRequestError(ValueError):
    """What is asked is not possible with these models and this index."""


@contextlib.contextmanager
def _asked_for() -> Iterator[None]:
    """Names the client as the cause of a ValueError; any other is ours."""
    try:
        yield
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error


class Service:
    """Works on requests; see the routes in server.py.

    Attributes:
      measures: what it counts.
    """

    def __init__(self, source: Reloadable, settings: ServiceSettings, measures: Measures):
        """Makes the queues."""
        self._source, self._settings, self.measures = source, settings, measures
        # A thread each: TensorFlow and FAISS use all cores within one batch.
        self._threads = [ThreadPoolExecutor(1, name) for name in ("retrieval", "writing")]
        retrieval, writing = self._threads
        queue = (settings.max_batch, settings.max_wait, settings.max_waiting)
        self._queries = Batcher(lambda items: self.engine.retrieve(items), retrieval, *queue, self._seen("retrieval"))
        self._texts = Batcher(self._embed, retrieval, 1, 0.0, settings.max_waiting, self._seen("embeddings"))
        self._writing = GenerationQueue(
            writing, settings.writing_batch, settings.writing_waiting, self._seen("writing")
        )
        for name, waiting in (("retrieval", self._queries), ("embeddings", self._texts), ("writing", self._writing)):
            measures.waiting.labels(name).set_function(lambda waiting=waiting: waiting.num_waiting)

    @property
    def engine(self) -> Engine:
        """What answers now."""
        return self._source.engine

    def _seen(self, queue: str) -> Callable[[int], None]:
        return self.measures.batch_size.labels(queue).observe

    def _embed(self, items: list[schemas.EmbeddingsRequest]) -> list[tuple[np.ndarray, int]]:
        engine = self.engine
        return [engine.embed([i.input] if isinstance(i.input, str) else i.input, i.side) for i in items]

    def deadline(self) -> float:
        """Returns until when a request that begins now may take, by `time.perf_counter`."""
        return time.perf_counter() + self._settings.timeout

    async def retrieve(self, asked: schemas.RetrieveRequest) -> Answer:
        """Finds the nearest answers."""
        num_answers = self.engine.index.num_answers
        query = Query(asked.question, asked.k or min(Query.k, num_answers), asked.search_by)
        with _asked_for():  # alone: a wrong one must not spoil a batch
            query.check(self.engine.index)
        if self._settings.log_questions:
            logging.info("question: %s", json.dumps(asked.question))
        return await self._queries(query)

    async def answer(self, asked: schemas.AnswerRequest) -> AsyncIterator[Answer]:
        """Yields what was found, then the same with what is written, while it grows."""
        engine = self.engine
        settings = None
        if engine.writer and asked.generate:
            with _asked_for():
                settings = engine.writing_settings(asked.max_tokens, **{name: getattr(asked, name) for name in _HOW})
        found = await self.retrieve(asked)
        if settings is None or not found.near:
            yield found
            return
        self._writing.check_room()  # before anything is sent: a stream that has begun has no other status
        start = time.perf_counter()
        found, prompt_ids = answering.asked(found, engine.writer)
        yield found
        tokens = 0
        writing = self._writing.write(engine.writer, prompt_ids, settings)
        try:
            async for generation in writing:
                tokens = len(generation.ids)
                yield answering.written(found, generation, time.perf_counter() - start)
        finally:
            await writing.aclose()
            self.measures.tokens.inc(tokens)

    async def embeddings(self, asked: schemas.EmbeddingsRequest) -> schemas.EmbeddingsResponse:
        """Encodes texts."""
        vectors, tokens = await self._texts(asked)
        with _asked_for():
            vectors = shorten(vectors, asked.dimensions or 0)
        data = [
            schemas.Embedding(
                index=number,
                embedding=base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if asked.encoding_format == "base64"
                else vector.tolist(),
            )
            for number, vector in enumerate(vectors)
        ]
        usage = schemas.Usage(prompt_tokens=tokens, total_tokens=tokens)
        return schemas.EmbeddingsResponse(data=data, model=asked.model or schemas.MODEL_ID, usage=usage)

    def info(self) -> schemas.Info:
        """Returns what a page needs to know."""
        engine = self.engine
        return schemas.Info(
            num_answers=engine.index.num_answers,
            generator=engine.writer is not None,
            max_k=min(schemas.MAX_K, engine.index.num_answers),
            max_question_chars=self._settings.request_limits.question_chars,
            max_texts=self._settings.request_limits.texts,
            max_text_chars=self._settings.request_limits.text_chars,
            max_body_bytes=self._settings.limits.body_bytes,
            max_tokens=engine.writer.prompt.answer_tokens if engine.writer else None,
            examples=engine.examples,
            disclaimer=answering.DISCLAIMER,
        )

    async def reload(self) -> None:
        """Exchanges models and index, while the old ones answer."""
        done = await asyncio.get_running_loop().run_in_executor(None, self._source.reload)
        self.measures.reloads.labels("done" if done else "failed").inc()
        # What the old ones still answer ends by then. They stand in cycles, which nothing else would break soon.
        await asyncio.sleep(self._settings.timeout)
        gc.collect()

    async def while_connected(self, request: Request, work: Awaitable[T], deadline: float) -> T:
        """Returns what the work gives, unless the client goes or it takes too long: then the work is given up."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
        try:
            async with asyncio.timeout(deadline - time.perf_counter()):
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise ClientGoneError
        finally:
            gone.cancel()
            task.cancel()

    async def events(self, found: Answer, answers: AsyncIterator[Answer], deadline: float) -> AsyncIterator[bytes]:
        """Yields server-sent events: what was found, pieces of what is written, and the whole at last."""
        shown = ""
        try:
            async with contextlib.aclosing(answers):
                yield _event("answer", found.as_json())
                while (
                    more := await asyncio.wait_for(anext(answers, None), deadline - time.perf_counter())
                ) is not None:
                    found = more
                    if piece := found.generated[len(shown) :]:
                        yield _event("text", {"text": piece})
                        shown = found.generated
            yield _event("done", found.as_json())
        except Exception as error:
            status, kind, message = explained(error)
            if status == 500:
                logging.exception("A stream failed.")
            yield _event("error", json.loads(error_body(kind, message)))

    def close(self) -> None:
        """Ends the threads, after what they work on."""
        for threads in self._threads:
            threads.shutdown(wait=True, cancel_futures=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def last(answers: AsyncIterator[Answer]) -> Answer:
    """Returns the whole answer."""
    async with contextlib.aclosing(answers):
        async for found in answers:
            whole = found
    return whole


def _event(name: str, data: dict[str, Any]) -> bytes:
    # ASCII: some clients take U+2028, U+0085 and others for the end of a line.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def explained(error: Exception) -> tuple[int, str, str]:
    """Returns status, type and message for what went wrong; of what is our fault, the log has more."""
    if isinstance(error, OverloadedError):
        return 503, "overloaded", "The service is busy. Try again in a moment."
    if isinstance(error, TimeoutError):
        return 504, "timeout", "This took too long and was given up. Try again, perhaps with fewer tokens."
    if isinstance(error, InvalidRequestError):
        return 422, "invalid_request", str(error)
    return 500, "internal", "Something went wrong here; the service's log says more."
