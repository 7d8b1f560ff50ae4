"""What an engine for vectors does.

N vectors in the engine, Q queries, D width, k neighbours
"""

from typing import Protocol

import numpy as np


class Engine(Protocol):
    """Vectors of unit norm under ids, searched by inner product, which is the cosine then.

    Attributes:
      width: Components of a vector, D.
      max_k: Neighbours that a search returns at most.
    """

    width: int
    max_k: int

    def __len__(self) -> int:
        """Returns the number of vectors, N."""

    def add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Adds vectors, [M, D] float32, under ids that are not in use, [M] int64."""

    def remove(self, ids: np.ndarray) -> int:
        """Removes the vectors under some ids and returns how many there were.

        Raises:
          ValueError: this engine cannot remove vectors.
        """

    def search(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns the k nearest neighbours of each query, the nearest first.

        Args:
          vectors: [Q, D] float32.
          k: Number of neighbours.
          allowed: [M] int64, the ids that may be returned; None allows all.

        Returns:
          Cosines [Q, k] float32 and ids [Q, k] int64; -1 is the id of a neighbour that an approximate search missed.
        """

    def ids(self) -> np.ndarray:
        """Returns all ids, [N] int64, in the order in which the vectors were added."""

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """Returns the vectors under some ids, [M] -> [M, D] float32; a compressed engine returns approximations."""

    def close(self) -> None:
        """Releases the memory of the vectors; nothing can be searched afterwards."""
