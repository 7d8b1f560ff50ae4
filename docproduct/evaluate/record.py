"""What an evaluation records besides the means: each query's values, speed, and memory."""

import contextlib
import dataclasses
import resource
import sys
import time
from collections.abc import Iterable, Iterator

import numpy as np

_STATUS_FILE = "/proc/self/status"


@dataclasses.dataclass
class Record:
    """What one evaluation records; `retrieval` and `measure` fill it.

    Attributes:
      per_query: {metric: {query: value}}.
      document_seconds: Time to encode the documents, or to count their words.
      query_seconds: Time to encode all queries and to rank the documents for each, files and metrics not included.
    """

    per_query: dict[str, dict[str, float]] = dataclasses.field(default_factory=dict)
    document_seconds: float = 0.0
    query_seconds: float = 0.0

    @contextlib.contextmanager
    def documents(self) -> Iterator[None]:
        """Adds the time of the block to `document_seconds`."""
        start = time.perf_counter()
        yield
        self.document_seconds += time.perf_counter() - start

    @contextlib.contextmanager
    def queries(self) -> Iterator[None]:
        """Adds the time of the block to `query_seconds`."""
        start = time.perf_counter()
        yield
        self.query_seconds += time.perf_counter() - start

    def timed(self, rows: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields rows of scores; the time to compute each is added to `query_seconds`."""
        iterator = iter(rows)
        while True:
            with self.queries():
                row = next(iterator, None)
            if row is None:
                return
            yield row


def peak_mib() -> float:
    """Returns the largest memory that this process has had, resident set size in MiB, libraries included."""
    # Not `ru_maxrss` where there is another source: on Linux a new process inherits that of its parent.
    with contextlib.suppress(OSError), open(_STATUS_FILE, encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (1024 * 1024 if sys.platform == "darwin" else 1024)
