"""Vectors in FAISS: the only file that imports it.

N vectors in the engine, Q queries, D width, k neighbours
"""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from absl import logging
from tqdm import tqdm

try:
    import faiss
except ImportError as error:
    raise ImportError(
        "faiss is not installed. Install docproduct with the extra cpu or gpu (never both): pip install -e '.[cpu]'."
    ) from error

# With this many queries or more, FAISS takes one matrix product for all of them. Its own default is higher.
faiss.cvar.distance_compute_blas_threshold = 4
FEW = 2_000  # vectors that are compared one by one, where a search is restricted to them
_SAMPLE, _SAMPLE_PER_LIST = 65_536, 64  # vectors that an index is trained on; the larger number counts
_BLOCK = 65_536  # vectors that are added together
_SEED = 0
_MAX_GPU_K = 2_048  # FAISS returns no more neighbours from a GPU


class FaissEngine:
    """A FAISS index of unit vectors under ids; see `search.engine.Engine`.

    Attributes:
      width: Components of a vector.
      max_k: Neighbours that a search returns at most.
    """

    def __init__(self, index: Any, device: str = "cpu", mapped: bool = False):
        """Takes an IDMap index on the CPU.

        Args:
          index: The FAISS index.
          device: Where to search: cpu, gpu, or auto for a GPU if there is one.
          mapped: Whether the index is a file that is mapped into memory.

        Raises:
          ValueError: there is no GPU, or this kind of index cannot be searched there.
        """
        self._index, self._device = index, device  # the index on the CPU gives its vectors back
        self._mapped = mapped
        # [N] and [N]: rows by ascending id, and these ids, until a vector is added or removed.
        self._order: tuple[np.ndarray, np.ndarray] | None = None
        self._searched = _on_device(index, device)
        self.width: int = index.d
        self.max_k = sys.maxsize if self._searched is index else _MAX_GPU_K

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        ids: np.ndarray,
        factory: str,
        search_parameters: str = "",
        progress: str | None = None,
    ) -> "FaissEngine":
        """Trains an index on a sample of vectors, and adds all of them in blocks.

        Args:
          vectors: [N, D] float, an array in memory or a file that is mapped into it.
          ids: [N] int64, their ids.
          factory: FAISS factory string.
          search_parameters: How thoroughly it searches.
          progress: Title of a progress bar; None: no bar.

        Raises:
          ValueError: FAISS cannot build it.
        """
        with _naming(factory, search_parameters, f" over {len(vectors)} vectors"):
            index = _empty(vectors.shape[1], factory, search_parameters)
            index.train(_sample(vectors, index))
            is_quiet = progress is None or len(vectors) <= _BLOCK
            with tqdm(desc=progress, total=len(vectors), unit=" vectors", disable=is_quiet) as bar:
                for start in range(0, len(vectors), _BLOCK):
                    block = np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32)
                    index.add_with_ids(block, ids[start : start + _BLOCK])
                    bar.update(len(block))
        return cls(index)

    @classmethod
    def load(cls, path: str, remedy: str, device: str = "cpu", mapped: bool = False) -> "FaissEngine":
        """Reads what `save` wrote.

        Args:
          path: The file.
          remedy: What to do if it is missing or damaged.
          device: See `__init__`.
          mapped: Map the file into memory instead of reading it. Only what searches touch is read, and processes share
            it; the file may be replaced, but not written to, and vectors cannot be added or removed.

        Raises:
          ValueError: the file is missing or damaged, and the message ends with `remedy`; or see `__init__`.
        """
        try:
            index = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC if mapped else 0)
        except RuntimeError as error:
            raise ValueError(f"{path} is missing or damaged ({_reason(error)}). {remedy}") from error
        return cls(index, device, mapped)

    def save(self, path: str) -> None:
        """Writes the index to a file.

        Raises:
          OSError: the disk is full, or fails.
        """
        try:
            faiss.write_index(self._index, path)
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written ({_reason(error)}).") from error

    def num_bytes(self) -> int:
        """Returns the size of the file that `save` would write."""
        total = 0

        def count(part: Any) -> int:
            nonlocal total
            total += len(part)
            return len(part)

        faiss.write_index(self._index, faiss.PyCallbackIOWriter(count))
        return total

    def set_parameters(self, search_parameters: str) -> None:
        """Sets how thoroughly the index searches, such as efSearch=64 or nprobe=16.

        Raises:
          ValueError: this kind of index has no such parameter.
        """
        with _naming("this index", search_parameters):
            faiss.ParameterSpace().set_index_parameters(self._index, search_parameters)
        self._searched = _on_device(self._index, self._device)

    def __len__(self) -> int:
        """Returns the number of vectors."""
        return self._index.ntotal

    def add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Adds vectors, [M, D] float32, under ids that are not in use, [M] int64.

        Raises:
          ValueError: the index is mapped into memory.
        """
        self._check_changeable()
        self._index.add_with_ids(vectors, ids)
        self._order = None
        self._searched = _on_device(self._index, self._device)

    def remove(self, ids: np.ndarray) -> int:
        """Removes the vectors under some ids, [M] int64, and returns how many there were.

        Raises:
          ValueError: this kind of index cannot remove vectors, or it is mapped into memory.
        """
        self._check_changeable()
        remedy = "Build the index again without them, or with a factory that can, such as Flat."
        self._order = None
        # FAISS would remove them from inverted lists, and then give the vectors behind them other vectors' ids.
        if faiss.try_extract_index_ivf(self._index):
            raise ValueError(f"An index with inverted lists (IVF) cannot remove vectors. {remedy}")
        try:
            removed = self._index.remove_ids(np.ascontiguousarray(ids, np.int64))
        except RuntimeError as error:
            raise ValueError(f"This kind of index cannot remove vectors ({_reason(error)}). {remedy}") from error
        self._searched = _on_device(self._index, self._device)
        return removed

    def search(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cosines, [Q, k] float32, and the ids, [Q, k] int64, of the nearest neighbours of [Q, D] queries.

        `allowed` holds ids of this index.

        Raises:
          ValueError: only some ids are allowed, and this kind of index cannot be searched so.
        """
        if allowed is None:
            return self._searched.search(vectors, k)
        if len(allowed) <= FEW:  # exact, where an approximate index would miss most of so few
            return best_of(vectors, self.vectors_of(allowed), allowed, k)
        selector = faiss.IDSelectorBatch(np.ascontiguousarray(allowed, np.int64))
        parameters = faiss.SearchParameters(sel=selector)
        if lists := faiss.try_extract_index_ivf(self._index):
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=lists.nprobe)
        try:
            return self._searched.search(vectors, k, params=parameters)
        except RuntimeError as error:
            raise ValueError(
                f"This kind of index cannot be searched among some vectors only ({_reason(error)}). Build it with a "
                "factory that can, such as Flat or HNSW32."
            ) from error

    def _check_changeable(self) -> None:
        if self._mapped:
            raise ValueError(
                "An index that is mapped into memory cannot be changed. Load it with mapped=False, or put it into a "
                "LiveEngine, which keeps changes beside it."
            )

    def ids(self) -> np.ndarray:
        """Returns all ids, [N] int64, in the order in which the vectors were added."""
        return faiss.vector_to_array(self._index.id_map)

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Returns where ids of this index stand among all ids, [M] -> [M] int; any row for another id."""
        if self._order is None:
            all_ids = self.ids()
            order = np.argsort(all_ids)
            self._order = order, all_ids[order]
        order, ascending = self._order
        return order[np.searchsorted(ascending, ids).clip(max=len(order) - 1)]

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """Returns the vectors under some ids, [M] -> [M, D] float32; a compressed index returns approximations."""
        vectors, rows = faiss.downcast_index(self._index.index), self.rows_of(ids)
        try:
            return vectors.reconstruct_batch(rows)
        except RuntimeError:
            # Inverted lists know their vectors. The direct map says in which list a vector is.
            faiss.extract_index_ivf(vectors).make_direct_map()
            return vectors.reconstruct_batch(rows)

    def close(self) -> None:
        """Releases the memory of the vectors; nothing can be searched afterwards."""
        self._index = self._searched = None


def check_factory(width: int, factory: str, search_parameters: str = "") -> None:
    """Raises a ValueError if FAISS cannot build such an index of vectors of `width` components."""
    with _naming(factory, search_parameters):
        _empty(width, factory, search_parameters)


def nearest(vectors: np.ndarray, queries: np.ndarray, k: int) -> np.ndarray:
    """Returns the rows of the k vectors nearest to each query, the nearest first: [N, D], [Q, D] -> [Q, k] int."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index.search(np.ascontiguousarray(queries, np.float32), k)[1]


def best_of(queries: np.ndarray, vectors: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns cosines and ids of the k nearest of a few vectors, [M, D], as FAISS returns them."""
    scores = queries @ vectors.T  # [Q, M]
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    missing = ((0, 0), (0, k - order.shape[1]))
    scores = np.pad(np.take_along_axis(scores, order, 1), missing, constant_values=-np.inf)
    return scores, np.pad(ids[order], missing, constant_values=-1)


def _empty(width: int, factory: str, search_parameters: str) -> Any:
    index = faiss.index_factory(width, f"IDMap,{factory}", faiss.METRIC_INNER_PRODUCT)
    faiss.ParameterSpace().set_index_parameters(index, search_parameters)
    return index


def _sample(vectors: np.ndarray, index: Any) -> np.ndarray:
    """Returns vectors, [M, D] float32, to train an empty index on: all, or so many that each inverted list has some."""
    lists = faiss.try_extract_index_ivf(index)
    size = max(_SAMPLE, _SAMPLE_PER_LIST * (lists.nlist if lists else 0))
    if index.is_trained or len(vectors) <= size:
        return np.ascontiguousarray(vectors[: 1 if index.is_trained else None], np.float32)
    rows = np.random.default_rng(_SEED).choice(len(vectors), size, replace=False)
    return np.ascontiguousarray(vectors[np.sort(rows)], np.float32)


@contextlib.contextmanager
def _naming(factory: str, search_parameters: str, vectors: str = "") -> Iterator[None]:
    """Names the factory and its parameters in an error of FAISS."""
    try:
        yield
    except RuntimeError as error:
        index_name = ", ".join(filter(None, (factory, search_parameters)))
        raise ValueError(
            f"FAISS cannot build {index_name!r}{vectors} "
            f"({_reason(error)}). Expected a factory string such as Flat, HNSW32 or IVF64,Flat, more vectors than the "
            "lists it asks for, and parameters that it has, such as efSearch=64 or nprobe=16."
        ) from error


def _on_device(index: Any, device: str) -> Any:
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


def _has_gpu() -> bool:
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def _reason(error: RuntimeError) -> str:
    """Returns the last line of an error of FAISS; the others name places in its source."""
    return str(error).splitlines()[-1]
