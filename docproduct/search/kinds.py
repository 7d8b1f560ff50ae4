"""Kinds of vector indexes: which one suits a number of vectors, and how an engine of any kind is built and opened.

N vectors, D width
"""

import math
import os
import re
from typing import NamedTuple

import numpy as np

from docproduct.search.faiss_engine import FaissEngine, check_factory
from docproduct.search.rescored_engine import RescoredEngine, is_rescored, parts, split_parameters, vectors_file

AUTO = "auto"
_LISTS = 4  # times the root of N: the lists of an inverted file
_TRAINED = 39  # vectors a list: with fewer, FAISS warns
# Kinds that give vectors back as they were added.
_EXACT = re.compile(r"(Flat|HNSW\d+(,Flat)?|IVF\d+(_HNSW\d+)?,Flat|NSG\d+(,Flat)?)")


class Kind(NamedTuple):
    """A kind of index.

    Attributes:
      factory: FAISS factory string.
      search_parameters: How thoroughly it searches; empty: FAISS' defaults.
    """

    factory: str
    search_parameters: str = ""

    @property
    def keeps_vectors(self) -> bool:
        """Whether it gives vectors back as they were added, but for rounding to float16."""
        return is_rescored(self.factory) or _EXACT.fullmatch(self.factory) is not None

    def __str__(self) -> str:
        """Returns the factory and the parameters, such as `HNSW32, efSearch=128`."""
        return ", ".join(filter(None, self))


# By the number of vectors; docs/retriever.md says what was measured.
_FLAT_BELOW = 50_000
_PROBED = 8  # one list in 8 is searched: questions lie elsewhere than answers


def choose(factory: str, search_parameters: str, num_vectors: int) -> Kind:
    """Returns the kind that the settings name, or for the factory `auto` the one that suits so many vectors.

    Raises:
      ValueError: there are parameters for an unknown kind.
    """
    if factory != AUTO:
        return Kind(factory, search_parameters)
    if search_parameters:
        raise ValueError(f"--search_parameters={search_parameters} needs the --factory that it belongs to.")
    if num_vectors < _FLAT_BELOW:
        return Kind("Flat")
    lists = num_lists(num_vectors)
    return Kind(f"IVF{lists},RaBitQfs,RFlat", f"nprobe={max(1, lists // _PROBED)},k_factor_rf=8")


def num_lists(num_vectors: int) -> int:
    """Returns the number of lists, a power of two, of an inverted file of so many vectors."""
    lists = 2 ** round(math.log2(_LISTS * math.sqrt(num_vectors)))
    while lists * _TRAINED > num_vectors and lists > 1:
        lists //= 2
    return lists


def check(kind: Kind, width: int) -> None:
    """Raises a ValueError if no engine of this kind can be built for vectors of `width` components."""
    if kind.factory == AUTO:
        choose(*kind, 0)
    elif is_rescored(kind.factory):
        check_factory(width, parts(kind.factory)[0], split_parameters(kind.search_parameters)[0])
    else:
        check_factory(width, *kind)


def build(
    vectors: np.ndarray, ids: np.ndarray, kind: Kind, progress: str | None = None
) -> FaissEngine | RescoredEngine:
    """Builds an engine of vectors, [N, D] float, under ids, [N] int64; see `FaissEngine.build`."""
    engine = RescoredEngine if is_rescored(kind.factory) else FaissEngine
    return engine.build(vectors, ids, *kind, progress)


def load(path: str, kind: Kind, remedy: str, device: str = "cpu", mapped: bool = False) -> FaissEngine | RescoredEngine:
    """Reads an engine from its file or files; see `FaissEngine.load`."""
    if os.path.exists(vectors_file(path)):
        return RescoredEngine.load(path, kind.search_parameters, remedy, device, mapped)
    return FaissEngine.load(path, remedy, device, mapped)
