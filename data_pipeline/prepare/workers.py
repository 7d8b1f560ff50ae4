"""Shares work among processes; with none, this process does it."""

import collections
import concurrent.futures
import gc
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, TypeVar

from data_pipeline.prepare.ray_workers import RayWorkers

Result = TypeVar("Result")
LOCAL, RAY = ENGINES = ("local", "ray")


def start(engine: str, num_workers: int | None) -> "Workers | RayWorkers":
    """Returns processes of this machine, see `Workers`, or with the engine ray the processors of a cluster."""
    return RayWorkers() if engine == RAY else Workers(num_workers)


class Workers:
    """A pool of processes, or none."""

    def __init__(self, num_workers: int | None):
        """Starts `num_workers` processes; None: one for each processor; 0: none."""
        if num_workers is None:
            num_workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.num_workers = num_workers
        # Spawned, never forked: the caller may have imported TensorFlow, whose threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pool = (
            concurrent.futures.ProcessPoolExecutor(num_workers, context, initializer=_begin) if num_workers else None
        )
        for _ in range(num_workers):  # they import now, not with the first call
            self._pool.submit(_nothing)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yields the results of `function(*call)` in the order of the calls, of which it takes only a few ahead."""
        if not self._pool:
            yield from (function(*call) for call in calls)
            return
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        for call in calls:
            waiting.append(self._pool.submit(function, *call))
            if len(waiting) > self.num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _nothing() -> None:
    """Does nothing; a process that receives it imports this package."""


def _begin() -> None:
    """Prepares a process.

    The process ends when its parent has ended, so that nothing goes on writing after a run was killed. It looks for no
    cycles among the millions of strings that it makes, as there are none.
    """
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends its children

    def wait() -> None:
        parent = multiprocessing.parent_process()
        if parent:
            parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
