"""The second pass: writes the rows of one shard, from all chunks, as TFRecords and as a part of the Parquet file."""

import collections
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from data_pipeline import records, splits
from data_pipeline.corpora import Refusals
from data_pipeline.folders import files, prepared
from data_pipeline.prepare import chunks, duplicates, strata
from data_pipeline.prepare.job import Job
from data_pipeline.prepare.workers import Workers
from data_pipeline.schemas import Schema
from data_pipeline.varints import split_varints, varints

Labels = dict[str, list[str]]  # {field: all its values, sorted}, of labels that are classes
_ROW_GROUP = 4_096  # rows


def count_names(schema: Schema) -> list[str]:
    """Returns the names of a split's counts."""
    names = [field.name for field in schema.tokenized]
    return [schema.plural, *(f"{name}_tokens" for name in names), *(f"longest_{name}" for name in names)]


def write(
    job: Job, num_chunks: int, labels: Labels, folder: str, workers: Workers, progress: bool
) -> list[dict[str, Any]]:
    """Writes the shards that are missing, and the Parquet file.

    Returns:
      For each shard {"splits": {split: {"name", "counts"}}, "train_lengths": [(length, rows)], "refused"}.
    """
    schema, num_shards = job.schema, job.settings.num_shards
    calls = ((job, num_chunks, labels, folder, shard) for shard in range(num_shards))
    results = []
    path = os.path.join(folder, prepared.table_file(schema))
    texts_that_repeat = ["split", *(field.name for field in schema.labels)]
    with (
        files.whole_file(path) as partial,
        pq.ParquetWriter(partial, schema.parquet, use_dictionary=texts_that_repeat, compression="lz4") as writer,
    ):
        for result in tqdm(workers.map(_write_shard, calls), "writing", num_shards, disable=not progress):
            with pa.OSFile(_part_path(job, len(results))) as source:
                part = pa.ipc.open_file(source)
                for number in range(part.num_record_batches):
                    writer.write_batch(part.get_batch(number))
            results.append(result)
            pa.default_memory_pool().release_unused()
    return results


def _part_path(job: Job, shard: int) -> str:
    return os.path.join(job.work, f"part-{shard:05d}.arrow")


def _write_shard(job: Job, num_chunks: int, labels: Labels, folder: str, shard: int) -> dict[str, Any]:
    """Writes one shard of each split, unless it is there, and returns its report; see `write`."""
    report_file = os.path.join(job.work, f"shard-{shard:05d}.json")
    if (result := files.read_json(report_file)) is not None:
        return result
    schema, refusals = job.schema, Refusals()
    rows = strata.with_splits(job, _rows(job, num_chunks, shard))
    table = _accepted(schema, rows, duplicates.dropped(job.work), refusals)
    rows_of = {split: np.flatnonzero(pc.equal(table["split"], split).to_numpy()) for split in splits.SPLITS}
    serialized = _records(schema, table, labels)
    result = {"splits": {}, "train_lengths": _lengths(schema, table, rows_of[splits.TRAIN])}
    result["refused"] = refusals.report()
    for split, rows in rows_of.items():
        if len(rows):
            name = f"{split}-{shard:05d}-of-{job.settings.num_shards:05d}.tfrecord"
            records.write_shard(os.path.join(folder, name), map(serialized.__getitem__, rows.tolist()))
            result["splits"][split] = {"name": name, "counts": _counts(schema, table, rows)}
    part = table.select(schema.parquet.names).combine_chunks()
    with files.whole_file(_part_path(job, shard)) as partial, pa.ipc.new_file(partial, part.schema) as writer:
        writer.write_table(part, _ROW_GROUP)
    files.write_json(report_file, result)
    return result


def _counts(schema: Schema, table: pa.Table, rows: np.ndarray) -> dict[str, int]:
    tokens = {field.name: table[f"{field.name}_tokens"].to_numpy()[rows] for field in schema.tokenized}
    sums = {f"{name}_tokens": int(numbers.sum()) for name, numbers in tokens.items()}
    return {schema.plural: len(rows)} | sums | {f"longest_{name}": int(n.max()) for name, n in tokens.items()}


def _lengths(schema: Schema, table: pa.Table, rows: np.ndarray) -> list[tuple[int, int]]:
    """Returns (number of tokens of all fields together, rows with this number), sorted."""
    tokens = (table[f"{field.name}_tokens"].to_numpy()[rows] for field in schema.tokenized)
    return sorted(collections.Counter(sum(tokens, np.zeros(len(rows), int)).tolist()).items())


def _rows(job: Job, num_chunks: int, shard: int) -> pa.Table:
    """Returns the rows of a shard in the order of the inputs."""
    batches = []
    for number in range(num_chunks):
        with pa.OSFile(job.chunk_path(number)) as source:  # not mapped: only one batch of the file is read
            batches.append(pa.ipc.open_file(source).get_batch(shard))
    return pa.Table.from_batches(batches, chunks.arrow_schema(job.schema))


def _accepted(schema: Schema, rows: pa.Table, near_duplicates: np.ndarray, refusals: Refusals) -> pa.Table:
    """Returns the rows without duplicates, and without rows whose key is in a file of another split."""
    accepted = np.ones(rows.num_rows, bool)

    def refuse(refused: np.ndarray, reason: str) -> None:
        for row in np.flatnonzero(refused & accepted).tolist():
            refusals.add(reason, rows["where"][row].as_py(), rows["position"][row].as_py())
        accepted[refused] = False

    given_split = np.array(rows["given_split"].to_pylist(), dtype=object)
    if rows.num_rows and any(given_split):
        _, first, group = np.unique(rows[schema.key_group].to_numpy(), return_index=True, return_inverse=True)
        owner = given_split[first][group]  # the first row with a key decides, in the order test, dev, other files
        for split in (splits.TEST, splits.DEV):
            refuse((owner == split) & (given_split != split), f"its {schema.key} is in a {split} file")
    ids = rows[schema.id_name].to_numpy()
    candidates = np.flatnonzero(accepted)
    _, first, same = np.unique(ids[candidates], return_index=True, return_inverse=True)
    repeated = accepted.copy()
    repeated[candidates[first]] = False
    if schema.stratify:  # an id is made of the texts alone
        values = np.array(rows[schema.stratify].to_pylist(), dtype=object)
        is_other = np.zeros(rows.num_rows, bool)
        is_other[candidates] = values[candidates] != values[candidates[first]][same]
        refuse(is_other, f"the same {schema.name} occurs before with another {schema.stratify}")
    refuse(repeated, f"the same {schema.name} occurs before")
    refuse(np.isin(ids, near_duplicates), f"nearly the same {schema.name} occurs before")
    return rows if accepted.all() else rows.filter(pa.array(accepted))


def _records(schema: Schema, rows: pa.Table, labels: Labels) -> list[bytes]:
    """Returns the serialized record of each row."""
    columns = {field.feature: rows[field.feature].to_pylist() for field in schema.tokenized}
    for feature, name in schema.numbers.items():
        numbers = pc.index_in(rows[name], pa.array(labels[name])) if name in labels else rows[name]
        columns[feature] = split_varints(varints(numbers.to_numpy()))
    return records.serialize(columns)
