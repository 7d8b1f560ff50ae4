"""The queue of the service: items of several clients, worked on together in a thread."""

import asyncio
import collections
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Generator, Hashable, Iterable, Sequence
from concurrent.futures import Executor
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
_END = object()  # behind the last result of an item


class OverloadedError(RuntimeError):
    """The maximum number of items is waiting already."""


@dataclasses.dataclass(frozen=True)
class QueueLimits:
    """The limits of a queue.

    Attributes:
      max_batch: Items that are worked on together, at most.
      max_waiting: Items that may wait; more are refused.
      max_wait_ms: Milliseconds that the first item of a batch waits for others.
    """

    max_batch: int
    max_waiting: int
    max_wait_ms: float = 0.0


@dataclasses.dataclass(eq=False)
class _Job(Generic[Item]):
    """An item in the queue.

    Attributes:
      item: What to work on.
      results: Its results so far, then _END; or the error that ended it.
      ended: Whether its last result was given, or its client no longer listens. Both threads set it, to True only.
    """

    item: Item
    results: asyncio.Queue = dataclasses.field(default_factory=asyncio.Queue)
    ended: bool = False


class WorkQueue(Generic[Item, Result]):
    """Gathers the items that arrive while others are worked on.

    Each item has one result, or several that grow. A batch begins when the thread is free. After a batch of several
    items, which tells that there are several clients, the next batch waits up to `max_wait_ms` for as many items. A
    client that stops listening takes its item out of the queue; work that nobody listens to is stopped.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Generator[Sequence[Result], None, None]],
        executor: Executor,
        limits: QueueLimits,
        key: Callable[[Item], Hashable] = lambda item: None,
        is_last: Callable[[Result], bool] = lambda result: False,
        on_batch: Callable[[int], None] = lambda size: None,
    ):
        """Makes a queue.

        Args:
          work: Runs in `executor`. Takes the items of a batch and yields, once or several times, a result for each.
          executor: One thread, perhaps shared with other queues.
          limits: The limits of the queue.
          key: Items are worked on together only if their keys are equal.
          is_last: Whether a result is the last one of its item. The other items of the batch may have more.
          on_batch: Called with the size of each batch.
        """
        self._work, self._executor, self._limits = work, executor, limits
        self._key, self._is_last, self._on_batch = key, is_last, on_batch
        self._waiting: collections.deque[_Job[Item]] = collections.deque()
        self._worker: asyncio.Task[None] | None = None
        self._last_size, self._enough = 0, asyncio.Event()

    @property
    def num_waiting(self) -> int:
        """Items that wait."""
        return len(self._waiting)

    def check_room(self) -> None:
        """Raises an OverloadedError if no other item may wait."""
        if self.num_waiting >= self._limits.max_waiting:
            raise OverloadedError(f"{self.num_waiting} items wait; at most {self._limits.max_waiting} may.")

    async def result(self, item: Item) -> Result:
        """Returns the first result of an item.

        Raises:
          OverloadedError: too many items wait.
        """
        async with contextlib.aclosing(self.results(item)) as results:
            return await anext(results)

    async def results(self, item: Item) -> AsyncIterator[Result]:
        """Yields the results of an item; a client that stops listening closes the iterator.

        Raises:
          OverloadedError: too many items wait.
        """
        self.check_room()
        job = _Job(item)
        self._waiting.append(job)
        if self.num_waiting >= self._wanted:
            self._enough.set()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._run_batches())
        try:
            while (result := await job.results.get()) is not _END:
                if isinstance(result, Exception):
                    raise result
                yield result
        finally:
            job.ended = True
            if job in self._waiting:
                self._waiting.remove(job)

    @property
    def _wanted(self) -> int:
        """Number of items that a batch waits for: as many as the last batch had."""
        return min(self._last_size, self._limits.max_batch)

    async def _run_batches(self) -> None:
        """Works until no item waits."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            await self._wait_for_others()
            if not (batch := self._next_batch()):
                continue  # all clients left while their items waited
            self._last_size = len(batch)
            try:
                self._on_batch(len(batch))
                await loop.run_in_executor(self._executor, self._run_batch, batch, loop)
            except Exception as error:
                _give((job, error) for job in batch)

    async def _wait_for_others(self) -> None:
        if self._last_size > 1 and self.num_waiting < self._wanted and self._limits.max_wait_ms:
            self._enough.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._enough.wait(), self._limits.max_wait_ms / 1_000)

    def _next_batch(self) -> list[_Job[Item]]:
        """Takes the first item out of the queue, and those with an equal key that fit into a batch with it."""
        if not self._waiting:
            return []
        key = self._key(self._waiting[0].item)
        batch = [job for job in self._waiting if self._key(job.item) == key][: self._limits.max_batch]
        for job in batch:
            self._waiting.remove(job)
        return batch

    def _run_batch(self, batch: Sequence[_Job[Item]], loop: asyncio.AbstractEventLoop) -> None:
        """Works on a batch in the executor's thread, until it is done or no client listens."""
        ending: Any = _END
        try:
            with contextlib.closing(self._work([job.item for job in batch])) as steps:
                for results in steps:
                    loop.call_soon_threadsafe(_give, self._new_results(batch, results))
                    if all(job.ended for job in batch):
                        return
        except Exception as error:
            ending = error
        loop.call_soon_threadsafe(_give, [(job, ending) for job in batch if not job.ended])

    def _new_results(self, batch: Sequence[_Job[Item]], results: Sequence[Result]) -> list[tuple[_Job[Item], Any]]:
        """Returns the results of the jobs that have not ended, and ends those that have their last one."""
        new: list[tuple[_Job[Item], Any]] = []
        for job, result in zip(batch, results, strict=True):
            if not job.ended:
                new.append((job, result))
                if self._is_last(result):
                    new.append((job, _END))
                    job.ended = True
        return new


def _give(results: Iterable[tuple[_Job[Item], Any]]) -> None:
    """Gives results to those who wait for them, in the loop's thread."""
    for job, result in results:
        job.results.put_nowait(result)
