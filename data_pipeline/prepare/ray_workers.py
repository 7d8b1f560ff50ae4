"""Shares work among the processors of a Ray cluster, as workers.py does among those of one machine.

All machines see the same files under the same paths, and have this package. `ray.init` joins the cluster that the
variable RAY_ADDRESS names; without it, Ray starts one on this machine.
"""

import collections
import os
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, TypeVar

Result = TypeVar("Result")


def joined() -> tuple[ModuleType, bool]:
    """Returns ray, joined to a cluster, and whether this call has joined it.

    Raises:
      ValueError: ray is not installed.
      ConnectionError: there is no cluster at RAY_ADDRESS.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("The engine ray needs Ray, which is missing. Install it: pip install -e '.[scale]'") from error
    if ray.is_initialized():
        return ray, False
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="warning")
    return ray, True


class RayWorkers:
    """The processors of a Ray cluster.

    Attributes:
      num_workers: their number.
    """

    def __init__(self) -> None:
        """Joins the cluster; see `joined` for errors."""
        self._ray, self._joined = joined()
        self.num_workers = int(self._ray.cluster_resources().get("CPU", 1))

    def __enter__(self) -> "RayWorkers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._joined:
            self._ray.shutdown()

    def map(self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yields the results of `function(*call)` in the order of the calls, of which it takes only a few ahead.

        An error of a call is raised as it is. Ray repeats calls whose machine was lost.
        """
        remote, folder = self._ray.remote(_in_folder), os.getcwd()
        waiting: collections.deque[Any] = collections.deque()
        for call in calls:
            waiting.append(remote.remote(folder, function, call))
            if len(waiting) > self.num_workers:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error


def _in_folder(folder: str, function: Callable[..., Result], call: tuple[Any, ...]) -> Result:
    """Calls a function in the folder of the process that started the work: paths may be relative to it."""
    os.chdir(folder)
    return function(*call)
