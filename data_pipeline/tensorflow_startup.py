"""Holds back the lines that TensorFlow writes while it is imported.

On every start, TensorFlow's C++ code reports to file descriptor 2 that it uses oneDNN, and that there is no GPU, as an
error; no setting stops this. While `tensorflow` is imported, descriptor 2 is therefore a temporary file; its lines are
shown if the import fails. Real errors after that reach us as exceptions. To see all lines, set TF_CPP_MIN_LOG_LEVEL to
less than 3. TensorFlow then also imports JAX if it is installed, which is hidden from it otherwise.
"""

import contextlib
import faulthandler
import importlib.abc
import importlib.machinery
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import ModuleType

from data_pipeline.hidden_imports import hidden

_LEVEL, _ERRORS_OFF = "TF_CPP_MIN_LOG_LEVEL", "3"
_STDERR = 2  # file descriptor
# Lines of C++ code; those of absl-py, ours among them, look alike but name a .py file.
_STARTUP_LINE = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog"
    rb"|[IWEF]\d{4} .*?[\w.]+\.(?:cc|cpp|cu|h|hpp):\d+\]"
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] "
    rb"|To enable the following instructions: "
)


def hold_back() -> None:
    """Makes the first import of TensorFlow silent, wherever it happens. Imports nothing itself."""
    if os.environ.setdefault(_LEVEL, _ERRORS_OFF) != _ERRORS_OFF:
        return
    if not any(isinstance(finder, _TensorFlowFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _TensorFlowFinder())


class _TensorFlowFinder(importlib.abc.MetaPathFinder):
    """Finds tensorflow where Python's own finder does, and loads it inside `_held_back`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with _held_back(), hidden("jax"):
                run(module)

        spec.loader.exec_module = exec_module
        return spec


@contextlib.contextmanager
def _held_back() -> Iterator[None]:
    """Shows in the end what was written to descriptor 2: everything after an error, else all but start-up lines."""
    with contextlib.ExitStack() as stack:
        try:
            stderr_copy = os.dup(_STDERR)
            stack.callback(os.close, stderr_copy)
            held = stack.enter_context(tempfile.TemporaryFile())
        except OSError:  # descriptor 2 is closed, or there is no place for a temporary file
            yield
            return
        stack.enter_context(_tracebacks_of_crashes(stderr_copy))
        _flush()
        os.dup2(held.fileno(), _STDERR)
        failed = True
        try:
            yield
            failed = False
        finally:
            _flush()
            os.dup2(stderr_copy, _STDERR)
            held.seek(0)
            with contextlib.suppress(OSError), open(_STDERR, "wb", closefd=False) as stderr:
                stderr.writelines(line for line in held if failed or not _STARTUP_LINE.match(line))


@contextlib.contextmanager
def _tracebacks_of_crashes(descriptor: int) -> Iterator[None]:
    """Shows a traceback if the process crashes in the block, for example on a processor without AVX."""
    if faulthandler.is_enabled():
        yield
        return
    faulthandler.enable(descriptor)
    try:
        yield
    finally:
        faulthandler.disable()


def _flush() -> None:
    with contextlib.suppress(OSError, ValueError):  # a closed one has nothing to flush
        if sys.stderr is not None:
            sys.stderr.flush()
