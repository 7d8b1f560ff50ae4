"""Vectors that are added to an engine of any kind, and removed from it, without changing it.

Not every kind of FAISS index can remove vectors (HNSW, inverted lists), and Flat moves all others to do so. Here the
engine stays as it was built: what it returns of the removed vectors is dropped, and the added ones are few, so that
each is compared. Compaction builds a new engine before they are many.

    N vectors in the engine, R of them removed, M added, Q queries, D width, k neighbours
"""

import numpy as np

from docproduct.search.engine import Engine

_LEAST_ROOM = 64  # vectors
_MORE = 16  # neighbours beyond k that are fetched for those that may be dropped


class LiveEngine:
    """An engine with changes; see `search.engine.Engine`. It is as exact as the engine.

    A shallow copy stays as it is when the original changes: vectors are only written behind those that it knows.

    Attributes:
      width: Components of a vector.
      max_k: Neighbours that a search returns at most.
    """

    def __init__(self, engine: Engine):
        """Takes an engine, which nothing else may change."""
        self._engine, self.width, self.max_k = engine, engine.width, engine.max_k
        self._engine_ids = np.sort(engine.ids())  # [N]
        self._removed = np.empty(0, np.int64)  # [R]
        self._added_ids = np.empty(0, np.int64)  # [M]
        self._room = np.empty((0, self.width), np.float32)  # the first M are the added vectors

    def __len__(self) -> int:
        """Returns the number of vectors."""
        return len(self._engine_ids) - len(self._removed) + len(self._added_ids)

    def add(self, vectors: np.ndarray, ids: np.ndarray) -> None:
        """Adds vectors, [B, D] float32, under ids that are not in use, [B] int64."""
        start, end = len(self._added_ids), len(self._added_ids) + len(ids)
        if end > len(self._room):
            room = np.empty((max(end, 2 * len(self._room), _LEAST_ROOM), self.width), np.float32)
            room[:start] = self._room[:start]
            self._room = room
        self._room[start:end] = vectors
        self._added_ids = np.append(self._added_ids, np.asarray(ids, np.int64))

    def remove(self, ids: np.ndarray) -> int:
        """Removes the vectors under some ids, [B] int64, and returns how many there were."""
        before = len(self)
        kept = ~np.isin(self._added_ids, ids)
        if not kept.all():
            self._room = self._added[kept]
            self._added_ids = self._added_ids[kept]
        self._removed = np.union1d(self._removed, ids[self._in_engine(ids)])
        return before - len(self)

    def search(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Returns cosines [Q, k] float32 and ids [Q, k] int64; see `search.engine.Engine`.

        Raises:
          ValueError: only some ids are allowed, and the engine cannot be searched so.
        """
        scores, ids = self._search_engine(vectors, k, allowed)
        added_scores = vectors @ self._added.T  # [Q, M]
        if allowed is not None:
            added_scores[:, ~np.isin(self._added_ids, allowed)] = -np.inf
        scores = np.concatenate([scores, added_scores], axis=1)
        ids = np.concatenate([ids, np.broadcast_to(self._added_ids, added_scores.shape)], axis=1)
        ids[np.isneginf(scores)] = -1
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
        missing = ((0, 0), (0, k - scores.shape[1]))
        return np.pad(scores, missing, constant_values=-np.inf), np.pad(ids, missing, constant_values=-1)

    def _search_engine(self, vectors: np.ndarray, k: int, allowed: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Searches the engine until each query has k neighbours that are not removed; those have the score -inf."""
        most = min(len(self._engine_ids), self._engine.max_k)
        if allowed is not None:
            allowed = np.setdiff1d(allowed[self._in_engine(allowed)], self._removed)
            most = min(most, len(allowed))
        fetched = min(k + min(len(self._removed), _MORE) * (allowed is None), most)
        while True:
            scores, ids = self._engine.search(vectors, fetched, allowed) if fetched else _none(len(vectors))
            scores[(ids < 0) & (scores < -1)] = -np.inf  # FAISS has the lowest float where it found no neighbour
            if allowed is not None or not len(self._removed):
                return scores, ids
            dropped = np.isin(ids, self._removed)
            scores[dropped] = -np.inf
            if fetched == most or (fetched - dropped.sum(axis=1) >= k).all():
                return scores, ids
            fetched = min(2 * fetched, most)

    @property
    def _added(self) -> np.ndarray:
        return self._room[: len(self._added_ids)]

    def _in_engine(self, ids: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self._engine_ids, ids).clip(max=max(len(self._engine_ids) - 1, 0))
        return self._engine_ids[places] == ids if len(self._engine_ids) else np.zeros(len(ids), bool)

    def ids(self) -> np.ndarray:
        """Returns all ids, those of the engine first, in the order in which the vectors were added."""
        kept = self._engine.ids()
        return np.concatenate([kept[~np.isin(kept, self._removed)], self._added_ids])

    def vectors_of(self, ids: np.ndarray) -> np.ndarray:
        """Returns the vectors under some ids, [B] -> [B, D] float32; a compressed engine returns approximations."""
        if not len(self._added_ids):
            return self._engine.vectors_of(ids)
        order = np.argsort(self._added_ids)
        places = order[np.searchsorted(self._added_ids, ids, sorter=order).clip(max=len(order) - 1)]
        is_added = self._added_ids[places] == ids
        vectors = self._room[places]
        if not is_added.all():
            vectors[~is_added] = self._engine.vectors_of(ids[~is_added])
        return vectors

    def close(self) -> None:
        """Releases the memory of the vectors; nothing can be searched afterwards."""
        self._engine.close()
        self._room = self._added_ids = None


def _none(num_queries: int) -> tuple[np.ndarray, np.ndarray]:
    return np.empty((num_queries, 0), np.float32), np.empty((num_queries, 0), np.int64)
