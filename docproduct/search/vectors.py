"""Vectors in FAISS: the only file that imports it."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging

try:
    import faiss
except ImportError as error:
    raise ImportError(
        "faiss is not installed. Install docproduct with the extra cpu or gpu (never both): pip install -e '.[cpu]'."
    ) from error

# From so many queries on, one matrix product for all of them; FAISS would begin much later to read the vectors once.
faiss.cvar.distance_compute_blas_threshold = 4
_MAX_GPU_K = 2_048  # FAISS on a GPU finds no more at once


def make(vectors: np.ndarray, ids: np.ndarray, factory: str, search_parameters: str = "") -> Any:
    """Returns a trained index of unit vectors under their ids; inner product is cosine.

    Raises:
      ValueError: FAISS cannot build it.
    """
    with _named(factory, search_parameters, f" over {len(vectors)} vectors"):
        index = _empty(vectors.shape[1], factory, search_parameters)
        index.train(vectors)
        index.add_with_ids(vectors, ids)
    return index


def check(width: int, factory: str, search_parameters: str = "") -> None:
    """Raises a ValueError if FAISS cannot build such an index of vectors of `width` components."""
    with _named(factory, search_parameters):
        _empty(width, factory, search_parameters)


def _empty(width: int, factory: str, search_parameters: str) -> Any:
    index = faiss.index_factory(width, f"IDMap2,{factory}", faiss.METRIC_INNER_PRODUCT)
    faiss.ParameterSpace().set_index_parameters(index, search_parameters)
    return index


@contextlib.contextmanager
def _named(factory: str, search_parameters: str, of_what: str = "") -> Iterator[None]:
    """Says in an error of FAISS what it was asked for."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        wanted = ", ".join(filter(None, (factory, search_parameters)))
        raise ValueError(
            f"FAISS cannot build {wanted!r}{of_what} "
            f"({reason}). Expected a factory string such as Flat, HNSW32 or IVF64,Flat, more vectors than the lists it "
            "asks for, and parameters that it has, such as efSearch=64 or nprobe=16."
        ) from error


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns the rows of the k vectors nearest to each query, the best first: [N, D], [Q, D] -> [Q, k] int."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index.search(np.ascontiguousarray(queries, np.float32), k)[1]


def inner_products(index: Any, ids: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Returns the inner products of a query with vectors of an index on the CPU: [K] ids, [D] -> [K] float32."""
    return _vectors_of(index, ids) @ query


def contents(index: Any) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ids of an index on the CPU, in the order in which they were added, [N] int64; and its vectors.

    The vectors, [N, D] float32, are those that were added, or what a compressed index made of them.
    """
    ids = faiss.vector_to_array(index.id_map)
    return ids, _vectors_of(index, ids)


def _vectors_of(index: Any, ids: np.ndarray) -> np.ndarray:
    try:
        return index.reconstruct_batch(ids)
    except RuntimeError:
        faiss.extract_index_ivf(index).make_direct_map()  # lists know their vectors, not where a vector is
        return index.reconstruct_batch(ids)


def write(index: Any, path: str) -> None:
    """Writes an index to a file."""
    faiss.write_index(index, path)


def read(path: str, remedy: str) -> Any:
    """Reads an index.

    Raises:
      ValueError: the file is missing or damaged; the message ends with `remedy`.
    """
    try:
        return faiss.read_index(path)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise ValueError(f"{path} is missing or damaged ({reason}). {remedy}") from error


def on_device(index: Any, device: str) -> Any:
    """Returns the index, on the GPU if asked for (or `auto`) and possible."""
    if device == "gpu" and not _has_gpu():
        raise ValueError(
            "index_device is gpu, but there is no GPU or faiss has no GPU support. Install the extra gpu, or use cpu."
        )
    if device == "cpu" or not _has_gpu():
        return index
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    except RuntimeError as error:
        if device == "gpu":
            raise ValueError(
                f"This kind of index cannot be searched on a GPU ({error}). Use --index_device=cpu."
            ) from error
        logging.warning("This kind of index cannot be searched on a GPU; it stays on the CPU (%s).", error)
        return index


def most_found(device: str) -> int:
    """Returns how many neighbours an index on this device finds at once."""
    return _MAX_GPU_K if device != "cpu" and _has_gpu() else sys.maxsize


def _has_gpu() -> bool:
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0
