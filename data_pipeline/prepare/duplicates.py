"""Near duplicates: pairs that share most of their word triples with an earlier pair, found by MinHash.

Source: Broder 1997; datasketch's MinHash and MinHashLSH. The hashes of all pairs that are kept stay in memory while
they are looked for; without this, preparing needs the same memory for every corpus.
"""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from data_pipeline import cleaning
from data_pipeline.folders import files
from data_pipeline.prepare.settings import Settings

_NUM_HASHES = 128
_SEED, _SCHEME = 1, "affine32"
_WORDS = 3  # of a shingle
SIGNATURE = (_NUM_HASHES, _SEED, _SCHEME, _WORDS)
_COLUMNS = ["position", "pair_id", "question_group", "given_split", "signature"]
_DROPPED_FILE = "near_duplicates.npy"


def signatures(questions: Sequence[str], answers: Sequence[str]) -> list[bytes]:
    """Returns the MinHash of each pair, `_NUM_HASHES` 32-bit numbers."""
    import datasketch  # imports SciPy, which takes a second that other runs need not wait

    shingles = []
    for question, answer in zip(questions, answers, strict=True):
        words = cleaning.normal_form(f"{question} {answer}").encode().split()
        count = max(1, len(words) - _WORDS + 1)
        shingles.append({b" ".join(words[i : i + _WORDS]) for i in range(count)})
    hashes = datasketch.MinHash.generator(shingles, num_perm=_NUM_HASHES, seed=_SEED, scheme=_SCHEME)
    return [found.hashvalues.astype("<u4").tobytes() for found in hashes]


def find(settings: Settings, chunk_paths: Sequence[str], work: str, progress: bool) -> None:
    """Finds the pairs to drop, in the order of the inputs, and keeps their ids in a file."""
    path = os.path.join(work, _DROPPED_FILE)
    if settings.duplicates != "near" or os.path.exists(path):
        return
    import datasketch  # see above

    owner = _owners(chunk_paths)
    seen = datasketch.MinHashLSH(min(settings.near_threshold, 0.9), _NUM_HASHES)  # above, bands are too few
    kept: dict[int, np.ndarray] = {}
    dropped: list[int] = []
    for chunk_path in tqdm(chunk_paths, "near duplicates", disable=not progress):
        with pa.memory_map(chunk_path) as source:
            rows = pa.ipc.open_file(source).read_all().select(_COLUMNS).sort_by("position").to_pydict()
        for pair_id, group, split, signature in zip(*(rows[name] for name in _COLUMNS[1:]), strict=True):
            if pair_id in kept or owner.get(group, split) != split:
                continue  # an exact duplicate, or a question of another split's file: it is refused anyway
            hashes = np.frombuffer(signature, "<u4")
            found = datasketch.MinHash(_NUM_HASHES, seed=_SEED, hashvalues=hashes, scheme=_SCHEME)
            # The share of equal hashes estimates the Jaccard similarity; the LSH finds candidates only.
            if any(np.mean(kept[other] == hashes) >= settings.near_threshold for other in seen.query(found)):
                dropped.append(pair_id)
            else:
                seen.insert(pair_id, found)
                kept[pair_id] = hashes
    with files.whole_file(path) as partial, open(partial, "wb") as file:
        np.save(file, np.array(dropped, np.int64))


def _owners(chunk_paths: Sequence[str]) -> dict[int, str]:
    """Returns the split of each question that a whole file has given to one; whoever asks first decides."""
    owner: dict[int, str] = {}
    for path in chunk_paths:
        with pa.memory_map(path) as source:
            rows = pa.ipc.open_file(source).read_all().select(_COLUMNS).sort_by("position").to_pydict()
        for group, split in zip(rows["question_group"], rows["given_split"], strict=True):
            if split:
                owner.setdefault(group, split)
    return owner


def dropped(work: str) -> np.ndarray:
    """Returns the ids of the pairs to drop."""
    path = os.path.join(work, _DROPPED_FILE)
    return np.load(path) if os.path.exists(path) else np.empty(0, np.int64)
