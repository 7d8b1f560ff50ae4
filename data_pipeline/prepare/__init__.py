"""Prepares a corpus, such as a table of questions and answers, for training and for the index.

    python -m data_pipeline.prepare --input=docproduct/sample/pairs.csv --tokenizer=MODEL_FOLDER --output_dir=prepared
    python -m data_pipeline.prepare --rows=triage --input=departments.csv --output_dir=prepared_triage

Two passes, each over all processors. Neither holds the corpus in memory, and neither imports TensorFlow, whose import
takes as long as 100,000 pairs take here.

    chunks.py   reader -> chunks of rows -> clean, group, split, tokenize -> one Arrow file a chunk, with one batch
                for each shard that the rows belong to
    shards.py   the batches of one shard from all chunks -> duplicates out -> TFRecords and a part of pairs.parquet

Both follow the schema of the rows (`data_pipeline.schemas`). The hash of a row's key, such as the question of a pair,
decides its shard, so that all rows that could contradict each other (equal ones, or one question in two splits) meet in
one shard. Of stratified rows, strata.py draws the splits between the two passes. A run that was killed goes on with the
first chunk or shard that is missing.
"""

import collections
import importlib.metadata
import os
import unicodedata
from collections.abc import Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.corpora import OTHER_NUMBER, PAIRS, Columns, Reader, Refusals
from data_pipeline.folders import files, prepared
from data_pipeline.folders.manifest import MANIFEST_FILE
from data_pipeline.folders.prepared_settings import PrepareSettings
from data_pipeline.prepare import chunks, duplicates, inputs, shards, strata
from data_pipeline.prepare.inputs import Inputs
from data_pipeline.prepare.job import Job
from data_pipeline.prepare.workers import LOCAL, Workers, start
from data_pipeline.rows import ANNOTATIONS, PAIR
from data_pipeline.schemas import Schema
from data_pipeline.tokenizers import Tokenizer, load_tokenizer

__all__ = ["Columns", "PrepareSettings", "prepare"]

_SMALL_BYTES = 2**22  # of input: processes would take longer to start than to work
_PACKAGES = ("tokenizers", "datasketch", "numpy", "pyarrow", "selectolax", "xxhash")  # that decide the content, too


def prepare(
    settings: PrepareSettings,
    output_dir: str,
    overwrite: bool = False,
    num_workers: int | None = None,
    progress: bool = False,
    reader: Reader = PAIRS,
    engine: str = LOCAL,
) -> dict[str, Any]:
    """Writes a prepared folder, whole or not at all.

    A finished folder of the same inputs and settings stays as it is, unless `overwrite` is on. A run that was killed
    continues where it stopped.

    Args:
      settings: what to prepare.
      output_dir: the folder to write.
      overwrite: replace `output_dir`.
      num_workers: processes beside this one; 0: none; None: one for each processor, or none for a small corpus. The
        result is the same.
      progress: show progress bars.
      reader: reads the input files; its schema says how rows are prepared.
      engine: local, or ray: all processors of a Ray cluster, whose machines share the files. It ignores num_workers;
        the result is the same.

    Returns:
      Its manifest.

    Raises:
      ValueError: a setting does not fit the schema, an input is damaged, or no row is left.
      FileExistsError: `output_dir` holds something else, and `overwrite` is off.
    """
    schema = reader.schema
    settings = settings.completed(schema)
    tokenizer = load_tokenizer(settings.tokenizer, settings.lower_case) if settings.tokenizer else None
    sizes = {path: sum(map(files.size, inputs.members(settings, path, schema))) for path in settings.paths()}
    for path in sizes:  # an unknown format or a missing column shows now, not after hours
        next(reader.read(path, settings.columns, Refusals()), None)
    finished = None if overwrite else prepared.find_manifest(output_dir, schema)
    if num_workers is None and (finished is not None or sum(sizes.values()) < _SMALL_BYTES):
        num_workers = 0
    with start(engine, num_workers) as workers:  # processes start while the inputs are hashed
        described = inputs.describe(settings, sizes, reader)
        settings = settings.with_num_shards(described.files)
        state = _state(settings, schema, tokenizer, described)
        if finished is not None and finished["state"] == state and _is_whole(output_dir, schema, finished):
            return finished
        with files.resumable_folder(output_dir, state, overwrite, prepared.kind(schema)) as working:
            result, work = os.path.join(working, "result"), os.path.join(working, "work")
            if prepared.find_manifest(result, schema) is None:  # else it was killed when all was done
                os.makedirs(work, exist_ok=True)
                job = Job(settings, schema, state, work, {entry["path"]: entry["html"] for entry in described.files})
                _write(job, reader, tokenizer, described, result, workers, progress)
    return prepared.PreparedFolder(output_dir, schema).manifest


def _write(
    job: Job,
    reader: Reader,
    tokenizer: Tokenizer | None,
    described: Inputs,
    folder: str,
    workers: Workers,
    progress: bool,
) -> None:
    """Writes the content of the folder, and its manifest last."""
    settings, schema = job.settings, job.schema
    reports = chunks.write(job, reader, workers, progress)
    num_chunks = len(reports) - 1
    chunk_paths = [job.chunk_path(number) for number in range(num_chunks)]
    duplicates.find(job, chunk_paths, progress)
    strata.find(job, chunk_paths, progress)
    labels = _labels(schema, reports)
    shard_reports = shards.write(job, num_chunks, labels, folder, workers, progress)
    if described.modified != inputs.modified(settings, schema):
        raise ValueError("An input was changed while it was read. Start again when all are complete.")
    counts, lengths, names = _totals(schema, shard_reports)
    if tokenizer:
        tokenizer.save(folder)
    manifest = {
        "kind": prepared.kind(schema),
        "format": prepared.FORMAT,
        "state": job.state,
        "tokenizer": tokenizer and {"fingerprint": tokenizer.fingerprint, "lower_case": tokenizer.lower_case},
        "counts": counts,
        "refused": _refused(job, reports, shard_reports, counts),
        "changed": sum((collections.Counter(report["changed"]) for report in reports), collections.Counter()),
        "noted": reports[-1]["noted"],
        "shards": names,
        "train_lengths": lengths,
        "settings": settings.stored(),
        "boilerplate_sha256": described.boilerplate,
        "inputs": described.files,
    }
    manifest |= {"labels": labels} if labels else {}
    files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)


def _labels(schema: Schema, reports: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Returns the sorted values of each label with classes."""
    values = {field.name: set[str]() for field in schema.classes}
    for report in reports:
        for name, labels in report.get("labels", {}).items():
            values[name].update(labels)
    return {name: sorted(labels) for name, labels in values.items()}


def _state(settings: PrepareSettings, schema: Schema, tokenizer: Tokenizer | None, described: Inputs) -> str:
    """Returns the hash of everything that decides the content of the folder."""
    content = [
        prepared.FORMAT,
        chunks.LIMITS,
        duplicates.SIGNATURE,
        prepared.content_settings(settings.stored()),
        tokenizer and tokenizer.fingerprint,
        [(entry["sha256"], entry["html"]) for entry in described.files],
        described.boilerplate,
        unicodedata.unidata_version,
        [importlib.metadata.version(package) for package in _PACKAGES],
    ]
    if schema != PAIR:  # folders of pairs were prepared before there were schemas
        content.append([schema.parquet.to_string(), schema.features])
    else:  # columns that came later
        content.append(ANNOTATIONS)
    if schema.stratify:
        content.append(schema.stratify)
    return files.fingerprint(content)


def _is_whole(folder: str, schema: Schema, manifest: dict[str, Any]) -> bool:
    shard_names = (name for names in manifest["shards"].values() for name in names)
    return all(os.path.exists(os.path.join(folder, name)) for name in (prepared.table_file(schema), *shard_names))


def _refused(
    job: Job, reports: Sequence[dict[str, Any]], shard_reports: Sequence[dict[str, Any]], counts: dict
) -> dict[str, Any]:
    """Returns {reason: {"rows", "first"}} of the refused rows.

    Raises:
      ValueError: no row is left.
      RuntimeError: a row is neither in the table nor among the refused ones.
    """
    refusals, schema = Refusals(), job.schema
    for part in (*reports, *shard_reports):
        refusals.merge(part["refused"])
    refused = {reason: {"rows": at["rows"], "first": at["first"]} for reason, at in refusals.report().items()}
    left, read = sum(count[schema.plural] for count in counts.values()), sum(report["rows"] for report in reports)
    if left + sum(refusals.counts.values()) != read:
        raise RuntimeError(
            f"{read} rows were read; {left} {schema.plural} and {refused} do not account for all. This is a bug."
        )
    if not left:
        needed = [field.name for field in schema.content if not field.optional]
        remedy = f"Expected rows with {' and '.join([*needed, *filter(None, [' or '.join(schema.either)])])}."
        if OTHER_NUMBER in refused:
            remedy += " If each row has a field more than the header, as R writes tables: write with row.names=FALSE."
        raise ValueError(
            f"No {schema.name} is left of {', '.join(job.settings.paths())}. Refused: {refused or 'nothing'}. {remedy}"
        )
    return refused


def _totals(
    schema: Schema, results: Sequence[dict[str, Any]]
) -> tuple[dict[str, dict[str, int]], list, dict[str, list[str]]]:
    """Returns counts by split, (length, rows) of train, and the names of the shards by split."""
    counts: dict[str, dict[str, int]] = {split: dict.fromkeys(shards.count_names(schema), 0) for split in splits.SPLITS}
    lengths: collections.Counter[int] = collections.Counter()
    names: dict[str, list[str]] = {split: [] for split in splits.SPLITS}
    for result in results:
        for split, shard in result["splits"].items():
            names[split].append(shard["name"])
            for name, value in shard["counts"].items():
                total = counts[split]
                total[name] = max(total[name], value) if name.startswith("longest") else total[name] + value
        lengths.update({int(length): rows for length, rows in result["train_lengths"]})
    return counts, sorted(lengths.items()), names
