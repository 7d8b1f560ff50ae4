"""Keeps the vectors of the bundled sample's texts in the user's cache: encoding them takes longer than a few documents.

$XDG_CACHE_HOME/docproduct/vectors/KEY.npy, or ~/.cache/docproduct/vectors/KEY.npy: [N, D] float32

KEY is a hash of the encoder, its precision, the version of TensorFlow and the texts, so that a changed sample has other
files. The files that were used last are kept, enough for five encoders.
"""

import contextlib
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from docproduct.systems.retriever import Side, TrainedRetriever

_FORMAT = 1  # raise it when encoding gives other vectors than before
_NUM_FILES = 20  # an index of documents needs four

Encode = Callable[[Sequence[str], Side], np.ndarray]


def cached(retriever: TrainedRetriever) -> Encode:
    """Returns a function that encodes texts, or reads their vectors: N texts and their side -> [N, D], unit norm.

    A cache that is damaged, or that cannot be read or written, is no error: then the texts are encoded.
    """
    encoder = [_FORMAT, retriever.fingerprint(), retriever.dtype_policy, tf.__version__]
    folder = files.user_cache("vectors")

    def encode(texts: Sequence[str], side: Side) -> np.ndarray:
        path = folder and os.path.join(folder, f"{files.fingerprint([encoder, side, list(texts)])}.npy")
        vectors = _read(path)
        if vectors is None or vectors.shape != (len(texts), retriever.config.width):
            vectors = retriever.embed(texts, side).head
            _write(path, vectors)
        return vectors

    return encode


def _read(path: str | None) -> np.ndarray | None:
    with contextlib.suppress(OSError, ValueError, EOFError):
        if path:
            vectors = np.load(path, allow_pickle=False)
            os.utime(path)
            return vectors if vectors.dtype == np.float32 else None
    return None


def _write(path: str | None, vectors: np.ndarray) -> None:
    """Writes a file if that is possible, and removes those that were not used for the longest time."""
    with contextlib.suppress(OSError):
        if path:
            os.makedirs(folder := os.path.dirname(path), exist_ok=True)
            with files.whole_file(path) as partial, open(partial, "wb") as file:
                np.save(file, vectors)
            paths = [os.path.join(folder, name) for name in os.listdir(folder)]
            for old in sorted(paths, key=os.path.getmtime)[:-_NUM_FILES]:
                os.remove(old)
