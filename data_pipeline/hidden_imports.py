"""Hides a package from the imports of another one.

TensorFlow imports JAX wherever it is installed, which takes longer and warns of every fork. bm25s even runs one of its
operations while it is imported: on a GPU, that takes three quarters of the memory from TensorFlow.
"""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(package: str) -> Iterator[None]:
    """Lets imports of a package fail inside the block, unless it is imported already."""
    hides = package not in sys.modules
    if hides:
        sys.modules[package] = None
    try:
        yield
    finally:
        if hides:
            del sys.modules[package]
