"""Answers and errors on their way to a client: complete, as server-sent events, or given up."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import Any, TypeVar

from absl import logging
from fastapi import Request

from docproduct.answering import Answer
from docproduct.search.changes import NotStoredError
from docproduct.search.store import StoreError
from docproduct.web.protection import error_body
from docproduct.web.queue import OverloadedError

T = TypeVar("T")


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


class InvalidRequestError(ValueError):
    """These models and this index cannot do what the request asks for."""


@contextlib.contextmanager
def request_errors() -> Iterator[None]:
    """Names the request as the cause of a ValueError; any other is a fault of the service."""
    try:
        yield
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error


async def while_connected(request: Request, work: Awaitable[T], deadline: float) -> T:
    """Returns the result of some work, which is given up if the client leaves or the deadline passes."""
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


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def last(answers: AsyncIterator[Answer]) -> Answer:
    """Returns the last one, which is complete."""
    async with contextlib.aclosing(answers):
        async for answer in answers:
            complete = answer
    return complete


async def events(answer: Answer, answers: AsyncIterator[Answer], deadline: float) -> AsyncIterator[bytes]:
    """Yields server-sent events: the answer with its sources, pieces of the generator's text, and the whole."""
    sent = ""
    try:
        async with contextlib.aclosing(answers):
            yield _event("answer", answer.as_json())
            while (more := await asyncio.wait_for(anext(answers, None), deadline - time.perf_counter())) is not None:
                answer = more
                if piece := answer.generated[len(sent) :]:
                    yield _event("text", {"text": piece})
                    sent = answer.generated
        yield _event("done", answer.as_json())
    except Exception as error:
        status, kind, message = explained(error)
        if status == 500:
            logging.exception("A stream failed.")
        yield _event("error", json.loads(error_body(kind, message)))


def _event(name: str, data: dict[str, Any]) -> bytes:
    # ASCII: some clients take U+2028, U+0085 and others for the end of a line.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def explained(error: Exception) -> tuple[int, str, str]:
    """Returns status, type and message of an error; the log has more about faults of the service."""
    if isinstance(error, OverloadedError):
        return 503, "overloaded", "The service is busy. Try again in a moment."
    if isinstance(error, TimeoutError):
        return 504, "timeout", "This took too long and was given up. Try again, perhaps with fewer tokens."
    if isinstance(error, NotStoredError):
        logging.error("A change was refused: %s", error)
        return 507, "not_stored", "The change could not be stored, as the disk is full or fails; nothing was changed."
    if isinstance(error, StoreError):
        logging.error("A search failed: %s", error)
        return 503, "unavailable", "The database of the answers cannot be reached at present. Try again in a moment."
    if isinstance(error, InvalidRequestError):
        return 422, "invalid_request", str(error)
    return 500, "internal", "Something went wrong here; the service's log says more."
