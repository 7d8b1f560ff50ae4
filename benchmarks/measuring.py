"""Shared by the benchmarks: contestants, memory of a process and its children, tables, and the JSON line."""

import json
import os
import platform
import statistics
import subprocess
import threading
from collections.abc import Sequence
from importlib import metadata
from typing import Any

# The peer of training, encoding and quality, and its arguments for each precision.
PEER_SCRIPT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "sentence_transformers_peer.py")
PEER_PRECISIONS = {"float32": [], "bfloat16": ["--bfloat16"]}


def all_cores() -> dict[str, str]:
    """Returns an environment in which PyTorch uses as many threads as TensorFlow: one for each core."""
    return os.environ | {"OMP_NUM_THREADS": str(len(os.sched_getaffinity(0)))}


class PeakMemory:
    """Samples the memory of a process and all its children.

    Attributes:
      mib: Highest sum of private memory in MiB (anonymous pages; mapped files do not count).
    """

    def __init__(self, pid: int, interval_seconds: float = 0.1):
        self.mib = 0.0
        self._pid, self._interval = pid, interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "PeakMemory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(self._interval):
            self.mib = max(self.mib, sum(map(_anonymous_kib, _tree(self._pid))) / 1024)


def _tree(pid: int) -> list[int]:
    children = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children += map(int, file.read().split())
    except OSError:
        return []  # it has ended
    return [pid, *(descendant for child in children for descendant in _tree(child))]


def _anonymous_kib(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            return next((int(line.split()[1]) for line in file if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


def metric(
    name: str, unit: str, ours: float, peers: dict[str, float] | None = None, against: str | None = None
) -> dict[str, Any]:
    """Returns one entry of the JSON line; `ratio` is above 1 when ours is better."""
    ratio = None
    if against:
        lower_is_better = unit in ("s", "ms", "MiB", "share", "perplexity")
        ratio = peers[against] / ours if lower_is_better else ours / peers[against]
    return {"name": name, "unit": unit, "ours": ours, "against": against, "peers": peers or {}, "ratio": ratio}


def show(title: str, rows: Sequence[tuple[str, Sequence[float], str]]) -> None:
    """Prints median and spread of each row: (label, values, unit)."""
    print(f"\n{title}")
    for label, values, unit in rows:
        spread = f"   ({min(values):,.4g} to {max(values):,.4g})" if len(values) > 1 else ""
        print(f"  {label:44s} {statistics.median(values):12,.4g} {unit}{spread}")


def finish(benchmark: str, packages: Sequence[str], metrics: Sequence[dict[str, Any]]) -> None:
    """Prints the line of JSON that ends a benchmark."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    hardware = {"processor": _processor(), "cores": len(os.sched_getaffinity(0))}
    line = {"benchmark": benchmark, "hardware": hardware, "versions": versions, "metrics": list(metrics)}
    print(json.dumps(line))


def _processor() -> str:
    shown_flags = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")
    name, flags = platform.machine(), []
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    name = line.partition(":")[2].strip()
                elif line.startswith("flags"):
                    flags = [flag for flag in shown_flags if flag in line.split()]
    except OSError:
        pass
    return f"{name} ({' '.join(flags)})"


class Contestant:
    """A process that does a round of work for every line it receives, and answers with a line of JSON.

    All contestants are alive at once and work in turn. Start and warm-up are not measured, and other load on the
    machine affects all of them alike.

    Attributes:
      pid: Id of the process.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str]):
        # Messages of the process go to our standard error.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.pid = self._process.pid

    def round(self, line: str) -> dict[str, Any]:
        """Sends a line and returns the answer.

        Raises:
          RuntimeError: The process has ended.
        """
        try:
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()
            while answer := self._process.stdout.readline():
                if answer.startswith('{"'):  # the trainer of a peer prints other lines, too
                    return json.loads(answer)
        except BrokenPipeError:
            pass
        raise RuntimeError(f"{' '.join(self._process.args[:4])} ... has ended; see its message above.")

    def stop(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
