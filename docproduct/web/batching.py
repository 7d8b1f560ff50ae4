"""Requests of several clients, worked on together in a thread."""

import asyncio
import collections
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class OverloadedError(RuntimeError):
    """More is waiting than may wait."""


class Batcher(Generic[Item, Result]):
    """Gathers items that arrive while others are worked on.

    A batch begins as soon as the thread is free; while several clients are there, which the last batch tells, it waits
    up to `max_wait` for others. Whoever stops waiting for an item takes it out of the queue.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        executor: Executor,
        max_batch: int,
        max_wait: float,
        max_waiting: int,
        seen: Callable[[int], None] = lambda size: None,
    ):
        """Takes how to work.

        Args:
          run: items to their results, in the same order; runs in `executor`.
          executor: of one thread, perhaps shared with other batchers.
          max_batch: items that are worked on together.
          max_wait: seconds that the first item of a batch waits for others.
          max_waiting: items that may wait; more are refused.
          seen: is told the size of each batch.
        """
        self._run, self._executor, self._seen = run, executor, seen
        self._max_batch, self._max_wait, self._max_waiting = max_batch, max_wait, max_waiting
        self._waiting: collections.deque[tuple[Item, asyncio.Future[Result]]] = collections.deque()
        self._worker: asyncio.Task[None] | None = None
        self._last_size, self._enough = 0, asyncio.Event()

    @property
    def num_waiting(self) -> int:
        """Items that wait, those that nobody waits for any more included."""
        return len(self._waiting)

    @property
    def _wanted(self) -> int:
        """Items that are not waited for any longer: as many as there were the last time."""
        return min(self._last_size, self._max_batch)

    async def __call__(self, item: Item) -> Result:
        """Returns an item's result.

        Raises:
          OverloadedError: too many items wait.
        """
        if len(self._waiting) >= self._max_waiting:
            self._waiting = collections.deque(entry for entry in self._waiting if not entry[1].done())
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError(f"{len(self._waiting)} requests wait already.")
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if len(self._waiting) >= self._wanted:
            self._enough.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        """Works until nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            if self._last_size > 1 and len(self._waiting) < self._wanted:
                self._enough.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._enough.wait(), self._max_wait)
            batch: list[tuple[Item, asyncio.Future[Result]]] = []
            while self._waiting and len(batch) < self._max_batch:
                entry = self._waiting.popleft()
                if not entry[1].done():  # its client waits still
                    batch.append(entry)
            if not batch:
                continue
            self._last_size = len(batch)
            try:
                self._seen(len(batch))
                results = await loop.run_in_executor(self._executor, self._run, [item for item, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
