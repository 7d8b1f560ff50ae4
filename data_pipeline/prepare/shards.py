"""The second pass: the rows of one shard, from all chunks, become TFRecords and a part of pairs.parquet."""

import collections
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from data_pipeline import records, splits
from data_pipeline.corpora import Refusals
from data_pipeline.folders import files, prepared
from data_pipeline.prepare import chunks, duplicates
from data_pipeline.prepare.settings import Settings
from data_pipeline.prepare.workers import Workers
from data_pipeline.varints import split_varints, varints

COUNTS = ("pairs", "question_tokens", "answer_tokens", "longest_question", "longest_answer")
_ROW_GROUP = 4_096  # rows


def write(
    settings: Settings, chunk_paths: Sequence[str], folder: str, work: str, workers: Workers, progress: bool
) -> list[dict[str, Any]]:
    """Writes the shards that are missing, and pairs.parquet.

    Returns:
      For each shard {"splits": {split: {"name", "counts"}}, "train_lengths": [(length, pairs)], "refused"}.
    """
    calls = ((settings, chunk_paths, folder, work, shard) for shard in range(settings.num_shards))
    results = []
    path = os.path.join(folder, prepared.PAIRS_FILE)
    with (
        files.whole_file(path) as partial,
        pq.ParquetWriter(
            partial, prepared.PAIRS_SCHEMA, use_dictionary=["split", "source", "focus"], compression="lz4"
        ) as writer,
    ):
        for result in tqdm(workers.map(_write_shard, calls), "writing", settings.num_shards, disable=not progress):
            with pa.OSFile(_part_path(work, len(results))) as source:
                part = pa.ipc.open_file(source)
                for number in range(part.num_record_batches):
                    writer.write_batch(part.get_batch(number))
            results.append(result)
            pa.default_memory_pool().release_unused()
    return results


def _part_path(work: str, shard: int) -> str:
    return os.path.join(work, f"part-{shard:05d}.arrow")


def _write_shard(settings: Settings, chunk_paths: Sequence[str], folder: str, work: str, shard: int) -> dict[str, Any]:
    """Writes one shard of each split, unless it is there, and returns what is in it."""
    done = os.path.join(work, f"shard-{shard:05d}.json")
    if (result := files.read_json(done)) is not None:
        return result
    refusals = Refusals()
    table = _kept(_rows(chunk_paths, shard), duplicates.dropped(work), refusals)
    rows_of = {split: np.flatnonzero(pc.equal(table["split"], split).to_numpy()) for split in splits.SPLITS}
    all_records = _records(table)
    tokens = {side: table[f"{side}_tokens"].to_numpy() for side in prepared.SIDES}
    result = {"splits": {}, "train_lengths": [], "refused": refusals.report()}
    for split, rows in rows_of.items():
        if len(rows):
            name = f"{split}-{shard:05d}-of-{settings.num_shards:05d}.tfrecord"
            records.write_shard(os.path.join(folder, name), map(all_records.__getitem__, rows.tolist()))
            counts = {f"{side}_tokens": int(tokens[side][rows].sum()) for side in prepared.SIDES}
            counts |= {f"longest_{side}": int(tokens[side][rows].max()) for side in prepared.SIDES}
            result["splits"][split] = {"name": name, "counts": {"pairs": len(rows)} | counts}
    lengths = sum(tokens.values())[rows_of[splits.TRAIN]]
    result["train_lengths"] = sorted(collections.Counter(lengths.tolist()).items())
    pairs = table.select(prepared.PAIRS_SCHEMA.names).combine_chunks()
    with files.whole_file(_part_path(work, shard)) as partial, pa.ipc.new_file(partial, pairs.schema) as writer:
        writer.write_table(pairs, _ROW_GROUP)
    files.write_json(done, result)
    return result


def _rows(chunk_paths: Sequence[str], shard: int) -> pa.Table:
    """Returns the rows of a shard in the order of the inputs."""
    batches = []
    for path in chunk_paths:
        with pa.OSFile(path) as source:  # not mapped: only one batch of the file is wanted
            batches.append(pa.ipc.open_file(source).get_batch(shard))
    return pa.Table.from_batches(batches, chunks.SCHEMA)


def _kept(rows: pa.Table, near: np.ndarray, refusals: Refusals) -> pa.Table:
    """Returns the rows without duplicates and without questions that a whole file has given to another split."""
    kept = np.ones(rows.num_rows, bool)

    def refuse(refused: np.ndarray, reason: str) -> None:
        for row in np.flatnonzero(refused & kept).tolist():
            refusals.add(reason, rows["where"][row].as_py(), rows["position"][row].as_py())
        kept[refused] = False

    given = np.array(rows["given_split"].to_pylist(), dtype=object)
    if rows.num_rows and any(given):
        _, first, group = np.unique(rows["question_group"].to_numpy(), return_index=True, return_inverse=True)
        owner = given[first][group]  # whoever asks a question first, in the order test, dev, the rest
        for split in (splits.TEST, splits.DEV):
            refuse((owner == split) & (given != split), f"its question is in a {split} file")
    pair_ids = rows["pair_id"].to_numpy()
    candidates = np.flatnonzero(kept)
    _, first = np.unique(pair_ids[candidates], return_index=True)
    repeated = kept.copy()
    repeated[candidates[first]] = False
    refuse(repeated, "the same pair stands before")
    refuse(np.isin(pair_ids, near), "nearly the same pair stands before")
    return rows if kept.all() else rows.filter(pa.array(kept))


def _records(rows: pa.Table) -> list[bytes]:
    return records.serialize(
        {
            name: rows[name].to_pylist() if kind == records.IDS else split_varints(varints(rows[name].to_numpy()))
            for name, kind in records.PAIR.items()
        }
    )
