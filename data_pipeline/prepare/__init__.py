"""Prepares a table of questions and answers for training and for the index.

    python -m data_pipeline.prepare --input=docproduct/sample/pairs.csv --tokenizer=MODEL_FOLDER --output_dir=prepared

Two passes, each over all processors; none holds the corpus in memory, and none imports TensorFlow, which takes longer
to import than 100,000 pairs take here.

    chunks.py   reader -> chunks of rows -> clean, group, split, tokenize -> one Arrow file a chunk, with one batch
                for each shard that the rows belong to
    shards.py   the batches of one shard from all chunks -> duplicates out -> TFRecords and a part of pairs.parquet

A shard is decided by the hash of the question, so that all pairs that could contradict each other (equal ones, or one
question in two splits) meet in one shard. A run that was killed goes on with the first chunk or shard that is missing.
"""

import collections
import dataclasses
import importlib.metadata
import os
import unicodedata
from collections.abc import Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.corpora import OTHER_NUMBER, Columns, Refusals, read_pairs
from data_pipeline.folders import files, prepared
from data_pipeline.prepare import chunks, duplicates, html_columns, shards
from data_pipeline.prepare.settings import Settings
from data_pipeline.prepare.workers import Workers
from data_pipeline.tokenizers import Tokenizer, load_tokenizer

__all__ = ["Columns", "Settings", "prepare"]

_SMALL_BYTES = 2**22  # of input: processes would take longer to start than to work


def prepare(
    settings: Settings, output_dir: str, overwrite: bool = False, num_workers: int | None = None, progress: bool = False
) -> dict[str, Any]:
    """Writes a prepared folder, whole or not at all.

    A whole folder that was prepared from the same inputs with the same settings is left as it is, unless `overwrite`
    is on. A run that was killed continues where it stopped.

    Args:
      settings: what to prepare, and how.
      output_dir: the folder to write.
      overwrite: replace `output_dir`.
      num_workers: processes beside this one; 0: none; None: one for each processor, or none for a small corpus. The
        result is the same.
      progress: show progress bars.

    Returns:
      Its manifest.

    Raises:
      ValueError: an input is damaged, or no pair is left.
      FileExistsError: `output_dir` holds something else, and `overwrite` is off.
    """
    tokenizer = load_tokenizer(settings.tokenizer, settings.lower_case)
    settings = settings.with_prompts()
    sizes = {path: files.size(path) for path in settings.paths()}
    for path in sizes:  # an unknown format or a missing column is found now, not after hours
        next(read_pairs(path, settings.columns, Refusals()), None)
    found = None if overwrite else prepared.find_manifest(output_dir)
    if num_workers is None and (found is not None or sum(sizes.values()) < _SMALL_BYTES):
        num_workers = 0
    with Workers(num_workers) as workers:  # they start while the inputs are hashed
        return _prepare(settings, tokenizer, sizes, found, output_dir, overwrite, workers, progress)


def _prepare(
    settings: Settings,
    tokenizer: Tokenizer,
    sizes: dict[str, int],
    found: dict[str, Any] | None,
    output_dir: str,
    overwrite: bool,
    workers: Workers,
    progress: bool,
) -> dict[str, Any]:
    """Writes the folder, unless the one that was found is it."""
    inputs = [{"path": path, "bytes": sizes[path], "sha256": files.sha256(path)} for path in settings.paths()]
    for entry in inputs:
        entry["html"] = html_columns.find(settings, entry["path"])
    times = [os.stat(path).st_mtime_ns for path in settings.paths()]
    settings = settings.with_num_shards(inputs)
    boilerplate = None
    if settings.scrub.boilerplate:
        files.size(settings.scrub.boilerplate)
        boilerplate = files.sha256(settings.scrub.boilerplate)
    state = _state(settings, tokenizer, inputs, boilerplate)
    if found is not None and found["state"] == state and _is_whole(output_dir, found):
        return found
    with files.resumable_folder(output_dir, state, overwrite, prepared.KIND) as working:
        result, work = os.path.join(working, "result"), os.path.join(working, "work")
        if (manifest := prepared.find_manifest(result)) is not None:
            return manifest  # killed when all was done
        os.makedirs(work, exist_ok=True)
        reports = chunks.write(
            settings, {entry["path"]: entry["html"] for entry in inputs}, state, work, workers, progress
        )
        chunk_paths = [chunks.path_of(work, number) for number in range(len(reports) - 1)]
        duplicates.find(settings, chunk_paths, work, progress)
        shard_reports = shards.write(settings, chunk_paths, result, work, workers, progress)
        if times != [os.stat(path).st_mtime_ns for path in settings.paths()]:
            raise ValueError("An input was changed while it was read. Start again when all are complete.")
        counts, lengths, names = _totals(shard_reports)
        refused = _refusals(settings, reports, shard_reports, counts)
        changed = sum((collections.Counter(report["changed"]) for report in reports), collections.Counter())
        tokenizer.save(result)
        manifest = {
            "kind": prepared.KIND,
            "format": prepared.FORMAT,
            "state": state,
            "tokenizer": {"fingerprint": tokenizer.fingerprint, "lower_case": tokenizer.lower_case},
            "counts": counts,
            "refused": refused,
            "changed": changed,
            "noted": reports[-1].get("noted", {}),
            "shards": names,
            "train_lengths": lengths,
            "settings": dataclasses.asdict(settings),
            "boilerplate_sha256": boilerplate,
            "inputs": inputs,
        }
        files.write_json(os.path.join(result, prepared.MANIFEST_FILE), manifest)
    return prepared.PreparedFolder(output_dir).manifest


def _state(settings: Settings, tokenizer: Tokenizer, inputs: Sequence[dict[str, Any]], boilerplate: str | None) -> str:
    """Returns the hash of everything that decides the content of the folder."""
    packages = ("tokenizers", "datasketch", "numpy", "pyarrow", "selectolax", "xxhash")
    content = [
        prepared.FORMAT,
        chunks.LIMITS,
        duplicates.SIGNATURE,
        prepared.content_settings(dataclasses.asdict(settings)),
        tokenizer.fingerprint,
        [(entry["sha256"], entry["html"]) for entry in inputs],
        boilerplate,
        unicodedata.unidata_version,
        [importlib.metadata.version(package) for package in packages],
    ]
    return files.fingerprint(content)


def _is_whole(folder: str, manifest: dict[str, Any]) -> bool:
    names = [prepared.PAIRS_FILE, *(name for shard_names in manifest["shards"].values() for name in shard_names)]
    return all(os.path.exists(os.path.join(folder, name)) for name in names)


def _refusals(
    settings: Settings, reports: Sequence[dict[str, Any]], shard_reports: Sequence[dict[str, Any]], counts: dict
) -> dict[str, Any]:
    """Returns what was refused.

    Raises:
      ValueError: no pair is left.
      RuntimeError: a row is neither among the pairs nor among the refused ones.
    """
    refusals = Refusals()
    for part in (*reports, *shard_reports):
        refusals.merge(part["refused"])
    refused = {reason: {"rows": at["rows"], "first": at["first"]} for reason, at in refusals.report().items()}
    pairs, rows = sum(count["pairs"] for count in counts.values()), sum(report["rows"] for report in reports)
    if pairs + sum(refusals.counts.values()) != rows:
        raise RuntimeError(f"{rows} rows were read; {pairs} pairs and {refused} do not account for all. This is a bug.")
    if not pairs:
        remedy = "Expected rows with a question and an answer."
        if OTHER_NUMBER in refused:
            remedy += " If each row has a field more than the header, as R writes tables: write with row.names=FALSE."
        raise ValueError(f"No pair is left of {', '.join(settings.paths())}. Refused: {refused or 'nothing'}. {remedy}")
    return refused


def _totals(results: Sequence[dict[str, Any]]) -> tuple[dict[str, dict[str, int]], list, dict[str, list[str]]]:
    """Returns counts by split, (length, pairs) of train, and the names of the shards by split."""
    counts: dict[str, dict[str, int]] = {split: dict.fromkeys(shards.COUNTS, 0) for split in splits.SPLITS}
    lengths: collections.Counter[int] = collections.Counter()
    names: dict[str, list[str]] = {split: [] for split in splits.SPLITS}
    for result in results:
        for split, shard in result["splits"].items():
            names[split].append(shard["name"])
            for name, value in shard["counts"].items():
                total = counts[split]
                total[name] = max(total[name], value) if name.startswith("longest") else total[name] + value
        lengths.update({int(length): pairs for length, pairs in result["train_lengths"]})
    return counts, sorted(lengths.items()), names
