"""Near duplicates: rows that share most of their word triples with an earlier row, found by MinHash.

Source: Broder 1997; datasketch's MinHash and MinHashLSH. The hashes of all rows but near duplicates stay in memory
during the search; without it, preparing needs the same memory for every corpus.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from data_pipeline import cleaning
from data_pipeline.folders import files
from data_pipeline.prepare.job import Job

_NUM_HASHES = 128
_SEED, _SCHEME = 1, "affine32"
_WORDS = 3  # of a shingle
SIGNATURE = (_NUM_HASHES, _SEED, _SCHEME, _WORDS)
_DROPPED_FILE = "near_duplicates.npy"


def signatures(texts: Sequence[str]) -> list[bytes]:
    """Returns the MinHash of each text, `_NUM_HASHES` 32-bit numbers."""
    import datasketch  # imports SciPy, which takes a second that other runs need not wait

    shingles = []
    for text in texts:
        words = cleaning.normal_form(text).encode().split()
        count = max(1, len(words) - _WORDS + 1)
        shingles.append({b" ".join(words[i : i + _WORDS]) for i in range(count)})
    hashes = datasketch.MinHash.generator(shingles, num_perm=_NUM_HASHES, seed=_SEED, scheme=_SCHEME)
    return [minhash.hashvalues.astype("<u4").tobytes() for minhash in hashes]


class NearDuplicates:
    """Tells of each text whether an earlier one is nearly the same."""

    def __init__(self, threshold: float):
        """Takes the Jaccard similarity from which texts are near duplicates."""
        import datasketch  # see above

        self._threshold = threshold
        self._first = datasketch.MinHash(_NUM_HASHES, seed=_SEED, scheme=_SCHEME)
        self._candidates = datasketch.MinHashLSH(min(threshold, 0.9), _NUM_HASHES)  # above, bands are too few
        self._hashes_of: dict[int, np.ndarray] = {}

    def __contains__(self, text_id: int) -> bool:
        return text_id in self._hashes_of

    def add(self, text_id: int, signature: bytes) -> bool:
        """Adds a text by its id and `signatures`, unless it is a near duplicate; returns whether it was added."""
        if self.nearest(signature):
            return False
        self.insert(text_id, signature)
        return True

    def insert(self, text_id: int, signature: bytes) -> None:
        """Adds a text by its id and `signatures`, near duplicate or not."""
        hashes = np.frombuffer(signature, "<u4")
        self._candidates.insert(text_id, self._minhash(hashes))
        self._hashes_of[text_id] = hashes

    def nearest(self, signature: bytes) -> tuple[float, int] | None:
        """Returns similarity and id of the nearest text, or None if none is near.

        The share of equal hashes estimates the Jaccard similarity; the LSH finds candidates only.
        """
        hashes = np.frombuffer(signature, "<u4")
        candidates = self._candidates.query(self._minhash(hashes))
        similarities = ((float(np.mean(self._hashes_of[i] == hashes)), i) for i in candidates)
        return max((found for found in similarities if found[0] >= self._threshold), default=None)

    def _minhash(self, hashes: np.ndarray) -> Any:
        permutations = self._first.permutations  # making them takes longer than all else here
        return type(self._first)(_NUM_HASHES, seed=_SEED, hashvalues=hashes, permutations=permutations, scheme=_SCHEME)


def find(job: Job, chunk_paths: Sequence[str], progress: bool) -> None:
    """Finds the rows to drop, in the order of the inputs, and writes their ids into a file."""
    path = os.path.join(job.work, _DROPPED_FILE)
    if job.settings.duplicates != "near" or os.path.exists(path):
        return
    owner = _owners(job, chunk_paths)
    seen = NearDuplicates(job.settings.near_threshold)
    dropped: list[int] = []
    for chunk_path in tqdm(chunk_paths, "near duplicates", disable=not progress):
        names = [job.schema.id_name, job.schema.key_group, "given_split", "signature"]
        for row_id, key, split, signature in zip(*in_order(chunk_path, names), strict=True):
            if row_id in seen or owner.get(key, split) != split:
                continue  # an exact duplicate, or a key of another split's file: it is refused anyway
            if not seen.add(row_id, signature):
                dropped.append(row_id)
    with files.whole_file(path) as partial, open(partial, "wb") as file:
        np.save(file, np.array(dropped, np.int64))


def _owners(job: Job, chunk_paths: Sequence[str]) -> dict[int, str]:
    """Returns the split of each key in a file that belongs to one split; the first row with a key decides."""
    owner: dict[int, str] = {}
    for path in chunk_paths:
        for key, split in zip(*in_order(path, [job.schema.key_group, "given_split"]), strict=True):
            if split:
                owner.setdefault(key, split)
    return owner


def in_order(chunk_path: str, names: Sequence[str]) -> list[list]:
    """Returns columns of a chunk, in the order of the inputs."""
    with pa.memory_map(chunk_path) as source:
        table = pa.ipc.open_file(source).read_all().select([*names, "position"]).sort_by("position")
        return [table[name].to_pylist() for name in names]


def dropped(work: str) -> np.ndarray:
    """Returns the ids of the rows to drop."""
    path = os.path.join(work, _DROPPED_FILE)
    return np.load(path) if os.path.exists(path) else np.empty(0, np.int64)
