"""Stratified splits: dev and test get their share of each label's keys, rather than of all keys.

By a hash of the key alone, a rare label may be all in dev, or not there at all. Shares are rounded: a label with few
keys may still have none there. All rows have to be known before the first key has a split: this pass reads the chunks
between the two others, and holds the keys with their labels in memory, no texts.
"""

import collections
import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.prepare import duplicates
from data_pipeline.prepare.job import Job

_DRAWN_FILE = "drawn_keys.npz"  # the keys of dev and of test


def find(job: Job, chunk_paths: Sequence[str], progress: bool) -> None:
    """Draws the keys of dev and of test, label by label, and writes them into a file."""
    path = os.path.join(job.work, _DRAWN_FILE)
    if not job.schema.stratify or os.path.exists(path):
        return
    settings = job.settings
    drawn: dict[str, list[int]] = {splits.DEV: [], splits.TEST: []}
    for keys in _strata(job, chunk_paths, progress):
        dev, test = splits.draw(keys, settings.seed, settings.dev_share, settings.test_share)
        drawn[splits.DEV] += dev
        drawn[splits.TEST] += test
    with files.whole_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, **{split: np.array(keys, np.int64) for split, keys in drawn.items()})


def _strata(job: Job, chunk_paths: Sequence[str], progress: bool) -> list[list[int]]:
    """Returns the keys of each label. Keys of refused rows, and of files of a given split, are left out.

    A key with several labels goes by its first row, in the order of the inputs. Rows without a label are one stratum.
    """
    label_of: dict[int, str] = {}
    one_of_each: dict[str, str] = {}  # equal labels are one object in memory
    given = set[int]()
    dropped = set(duplicates.dropped(job.work).tolist())
    names = [job.schema.id_name, job.schema.key_group, job.schema.stratify, "given_split"]
    for path in tqdm(chunk_paths, "splitting", disable=not progress):
        for row_id, key, label, split in zip(*duplicates.in_order(path, names), strict=True):
            if split:  # the files of test and dev come first: their keys are refused in others
                given.add(key)
            elif key not in given and row_id not in dropped:
                label_of.setdefault(key, one_of_each.setdefault(label, label))
    strata: dict[str, list[int]] = collections.defaultdict(list)
    for key, label in label_of.items():
        strata[label].append(key)
    return list(strata.values())


def with_splits(job: Job, rows: pa.Table) -> pa.Table:
    """Returns the rows of a shard with the splits that were drawn; no file gives the split of these keys."""
    if not job.schema.stratify:
        return rows
    keys = rows[job.schema.key_group].to_numpy()
    column = rows["split"]
    with np.load(os.path.join(job.work, _DRAWN_FILE)) as drawn:
        for split in drawn.files:
            column = pc.if_else(pa.array(np.isin(keys, drawn[split])), split, column)
    return rows.set_column(rows.schema.get_field_index("split"), "split", column)
