"""Hides a package from the imports of another one.

TensorFlow imports JAX wherever it is installed, which slows the start down and adds a warning at every fork. bm25s even
runs an operation of JAX while it is imported: on a GPU, JAX then reserves three quarters of the memory.
"""

import contextlib
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def hidden(package: str) -> Iterator[None]:
    """Makes imports of a package fail inside the block, unless it is imported already."""
    hides = package not in sys.modules
    if hides:
        sys.modules[package] = None
    try:
        yield
    finally:
        if hides:
            sys.modules.pop(package, None)
