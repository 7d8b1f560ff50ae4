"""A compressed FAISS index whose first hits are scored anew, with vectors that stay in a file.

The factory ends in RFlat or Refine(SQfp16), as FAISS writes it, such as IVF4096,SQ4,RFlat. The search parameter
`k_factor_rf` says how many neighbours the compressed index returns for each one that is asked for. FAISS itself would
hold the vectors in memory; here only those of such neighbours are read.

    N vectors in the engine, Q queries, D width, k neighbours, F of the compressed index
"""

import os
import re
import weakref

import numpy as np

from docproduct.search.faiss_engine import FEW, FaissEngine, best_of

_FACTORY = re.compile(r"(.+),(?:(RFlat|Refine\(Flat\))|Refine\(SQfp16\))")
_FACTOR = re.compile(r"(?:^|,)k_factor_rf=(\d+(?:\.\d+)?)(?=,|$)")
_DEFAULT_FACTOR = 4.0
_BLOCK = 8_192  # vectors that are written together
_BATCH = 256  # queries that are searched together: FAISS needs memory for each query and list
_CHUNK_BYTES = 2**24  # of vectors that are compared together


class RescoredEngine:
    """A compressed index with its vectors; see `search.engine.Engine`. Its cosines and vectors are exact.

    Attributes:
      width: Components of a vector.
      max_k: Neighbours that a search returns at most.
    """

    def __init__(
        self,
        base: FaissEngine,
        vectors: "np.ndarray | VectorFile",
        factor: float,
        dtype: type[np.floating] = np.float32,
    ):
        """Joins an index with its vectors.

        Args:
          base: The compressed index.
          vectors: [N, D] float32 or float16 of unit norm, in the order of its ids: in memory, or in a file.
          factor: Neighbours of the compressed index for each one that is asked for.
          dtype: What `save` writes the vectors as.
        """
        self._base, self._vectors, self._factor, self._dtype = base, vectors, factor, dtype
        self.width, self.max_k = base.width, base.max_k

    @classmethod
    def build(
        cls,
        vectors: np.ndarray,
        ids: np.ndarray,
        factory: str,
        search_parameters: str = "",
        progress: str | None = None,
    ) -> "RescoredEngine":
        """Builds the compressed index of vectors, [N, D] float, under ids, [N] int64; see `FaissEngine.build`."""
        base, dtype = parts(factory)
        own, factor = split_parameters(search_parameters)
        engine = FaissEngine.build(vectors, ids, base, own, progress)
        return cls(engine, vectors, factor, dtype)

    @classmethod
    def load(
        cls, path: str, search_parameters: str, remedy: str, device: str = "cpu", mapped: bool = False
    ) -> "RescoredEngine":
        """Reads what `save` wrote; see `FaissEngine.load`. Vectors are read from their file when they are needed.

        Raises:
          ValueError: a file is missing or damaged.
        """
        base = FaissEngine.load(path, remedy, device, mapped)
        file = vectors_file(path)
        try:
            vectors = VectorFile(file)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{file} is missing or damaged ({error}). {remedy}") from error
        if vectors.shape != (len(base), base.width):
            expected = f"expected {[len(base), base.width]} numbers, as {path} says, received {list(vectors.shape)}"
            raise ValueError(f"{file} is missing or damaged ({expected}). {remedy}")
        return cls(base, vectors, split_parameters(search_parameters)[1])

    def save(self, path: str) -> None:
        """Writes the index to a file, and the vectors to `vectors_file` of it.

        Raises:
          OSError: the disk is full, or fails.
        """
        self._base.save(path)
        header = {"descr": np.dtype(self._dtype).str, "fortran_order": False, "shape": self._vectors.shape}
        with open(vectors_file(path), "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for start in range(0, len(self._vectors), _BLOCK):
                file.write(np.ascontiguousarray(self._vectors[start : start + _BLOCK], self._dtype).tobytes())

    def num_bytes(self) -> int:
        """Returns the size of the compressed index: what a search needs in memory."""
        return self._base.num_bytes()

    def set_parameters(self, search_parameters: str) -> None:
        """Sets how thoroughly the index searches, such as nprobe=16,k_factor_rf=8.

        Raises:
          ValueError: this kind of index has no such parameter.
        """
        own, self._factor = split_parameters(search_parameters)
        self._base.set_parameters(own)

    def __len__(self) -> int:
        """Returns the number of vectors."""
        return len(self._base)

    def add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Raises a ValueError: its file of vectors stays as it is."""
        self._refuse()

    def remove(self, ids: np.ndarray) -> int:
        """Raises a ValueError: its file of vectors stays as it is."""
        self._refuse()

    def _refuse(self) -> None:
        raise ValueError("An index with rescoring cannot be changed. Put it into a LiveEngine, which keeps changes.")

    def search(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns cosines [Q, k] float32 and ids [Q, k] int64; see `search.engine.Engine`.

        Raises:
          ValueError: only some ids are allowed, and the compressed index cannot be searched so.
        """
        if allowed is not None and len(allowed) <= FEW:
            return best_of(vectors, self.vectors_of(allowed), allowed, k)
        most = min(len(self) if allowed is None else len(allowed), self.max_k)
        fetched = max(k, min(round(k * self._factor), most))
        scores, ids = np.empty((len(vectors), k), np.float32), np.empty((len(vectors), k), np.int64)
        for start in range(0, len(vectors), _BATCH):
            part = slice(start, start + _BATCH)
            of_base = self._base.search(vectors[part], fetched, allowed)[1]  # [B, F]
            exact = self._scores(vectors[part], of_base)
            order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
            scores[part], ids[part] = np.take_along_axis(exact, order, 1), np.take_along_axis(of_base, order, 1)
        return scores, ids

    def _scores(self, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """Returns the cosines of each query and its neighbours, [Q, D] and [Q, F] -> [Q, F]; -inf for the id -1."""
        scores = np.empty(ids.shape, np.float32)
        step = max(1, _CHUNK_BYTES // (4 * self.width * max(1, ids.shape[1])))
        for start in range(0, len(queries), step):
            part = slice(start, start + step)
            vectors = self.vectors_of(ids[part].ravel()).reshape(*ids[part].shape, self.width)  # [B, F, D]
            scores[part] = (vectors @ queries[part, :, None])[..., 0]
        scores[ids == -1] = -np.inf
        return scores

    def ids(self) -> np.ndarray:
        """Returns all ids, [N] int64, in the order in which the vectors were added."""
        return self._base.ids()

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """Returns the vectors under some ids, [M] -> [M, D] float32."""
        return self._vectors[self._base.rows_of(ids)].astype(np.float32, copy=False)

    def close(self) -> None:
        """Releases the memory of the vectors; nothing can be searched afterwards."""
        self._base.close()
        self._vectors = None


class VectorFile:
    """Vectors in an .npy file, [N, D], which are read one by one: a mapped file would fill the process's memory.

    Attributes:
      shape: [N, D].
    """

    def __init__(self, path: str):
        """Opens the file.

        Raises:
          OSError, ValueError, EOFError: it is missing or damaged.
        """
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        self.shape, self._dtype, self._start = array.shape, array.dtype, array.offset
        self._path, self._file = path, os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        if hasattr(os, "posix_fadvise"):  # not on macOS
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)  # nothing is read ahead

    def __len__(self) -> int:
        """Returns the number of vectors."""
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Returns the vectors of some rows, [M] -> [M, D].

        Raises:
          OSError: the file was cut since it was opened, or the disk fails.
        """
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        vectors = np.empty((len(rows), self.shape[1]), self._dtype)
        size = vectors.itemsize * self.shape[1]
        room = memoryview(vectors).cast("B") if len(rows) else memoryview(b"")
        for place, row in enumerate(rows.tolist()):
            if os.preadv(self._file, [room[place * size : (place + 1) * size]], self._start + row * size) < size:
                raise OSError(
                    f"{self._path} ends before row {row}. It was cut while it was open: load the index again."
                )
        return vectors


def is_rescored(factory: str) -> bool:
    """Returns whether a factory string asks for rescoring with vectors in a file."""
    return _FACTORY.fullmatch(factory) is not None


def parts(factory: str) -> tuple[str, type[np.floating]]:
    """Returns the factory of the compressed index, and the type of the vectors: IVF64,SQ4,RFlat -> IVF64,SQ4."""
    base, is_float32 = _FACTORY.fullmatch(factory).groups()
    return base, np.float32 if is_float32 else np.float16


def split_parameters(search_parameters: str) -> tuple[str, float]:
    """Returns the parameters of the compressed index, and `k_factor_rf`: nprobe=8,k_factor_rf=2 -> nprobe=8 and 2."""
    given = _FACTOR.search(search_parameters)
    own = _FACTOR.sub("", search_parameters).strip(",")
    return own, max(1.0, float(given[1])) if given else _DEFAULT_FACTOR


def vectors_file(path: str) -> str:
    """Returns the file of the vectors beside that of the compressed index: answers.faiss -> answers.vectors.npy."""
    return f"{os.path.splitext(path)[0]}.vectors.npy"
