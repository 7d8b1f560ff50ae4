"""Answers that a generator writes for several clients together, each growing in a stream of its own."""

import asyncio
import collections
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor

from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation, GenerationSession
from docproduct.web.batching import OverloadedError


@dataclasses.dataclass(eq=False)
class _Job:
    """A prompt that is to be answered, and where its answer goes.

    Attributes:
      writer: who writes.
      prompt: token ids.
      settings: how.
      pieces: what was written so far, then None; or what went wrong.
      given_up: nobody listens any more.
    """

    writer: GenerationSession
    prompt: list[int]
    settings: GenerationSettings
    pieces: "asyncio.Queue[Generation | Exception | None]" = dataclasses.field(default_factory=asyncio.Queue)
    given_up: threading.Event = dataclasses.field(default_factory=threading.Event)


class GenerationQueue:
    """Writes for all clients, in a thread; those who ask for the same settings are served together."""

    def __init__(
        self, executor: Executor, max_batch: int, max_waiting: int, seen: Callable[[int], None] = lambda size: None
    ):
        """Takes how to work.

        Args:
          executor: of one thread.
          max_batch: answers that grow together.
          max_waiting: prompts that may wait; more are refused.
          seen: is told the size of each batch.
        """
        self._executor, self._max_batch, self._max_waiting, self._seen = executor, max_batch, max_waiting, seen
        self._waiting: collections.deque[_Job] = collections.deque()
        self._worker: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        """Prompts that wait."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raises an OverloadedError if too many prompts wait."""
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError(f"{len(self._waiting)} answers wait to be written already.")

    async def write(
        self, writer: GenerationSession, prompt: list[int], settings: GenerationSettings
    ) -> AsyncIterator[Generation]:
        """Yields an answer while it grows; whoever stops listening stops it.

        Raises:
          OverloadedError: too many prompts wait.
        """
        self.check_room()
        job = _Job(writer, prompt, settings)
        self._waiting.append(job)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        try:
            while (piece := await job.pieces.get()) is not None:
                if isinstance(piece, Exception):
                    raise piece
                yield piece
        finally:
            job.given_up.set()
            if job in self._waiting:
                self._waiting.remove(job)

    async def _work(self) -> None:
        """Works until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            first = self._waiting[0]
            alike = [j for j in self._waiting if (j.writer, j.settings) == (first.writer, first.settings)]
            batch = alike[: self._max_batch]
            for job in batch:
                self._waiting.remove(job)
            try:
                self._seen(len(batch))
                await loop.run_in_executor(self._executor, _write, batch, loop)
            except Exception as error:
                for job in batch:
                    job.pieces.put_nowait(error)


def _write(batch: list[_Job], loop: asyncio.AbstractEventLoop) -> None:
    """Writes a batch and tells each job what was written; ends when nobody listens any more."""

    def tell(job: _Job, piece: Generation | Exception | None) -> None:
        loop.call_soon_threadsafe(job.pieces.put_nowait, piece)

    told = [False] * len(batch)  # those that have ended
    try:
        prompts = [job.prompt for job in batch]
        for generations in batch[0].writer.stream_many(prompts, batch[0].settings):
            for place, (job, generation) in enumerate(zip(batch, generations, strict=True)):
                if not told[place]:
                    tell(job, generation)
                    if generation.finished:
                        tell(job, None)
                        told[place] = True
            if all(done or job.given_up.is_set() for job, done in zip(batch, told, strict=True)):
                return
    except Exception as error:
        for job in batch:
            tell(job, error)
    else:
        for job, done in zip(batch, told, strict=True):
            if not done:
                tell(job, None)
