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
import os
import shutil
from collections.abc import Sequence
from typing import Any

from data_pipeline import files, prepared, splits
from data_pipeline.corpora import Columns, Refusals
from data_pipeline.prepare import chunks, duplicates, shards
from data_pipeline.prepare.settings import Settings
from data_pipeline.prepare.workers import Workers
from data_pipeline.tokenizers import WordPiece

__all__ = ["Columns", "Settings", "prepare"]

_WORK = "work"  # what only the passes need, inside the unfinished folder


def prepare(
    settings: Settings, output_dir: str, overwrite: bool = False, num_workers: int | None = None, progress: bool = False
) -> dict[str, Any]:
    """Writes a prepared folder, whole or not at all.

    A folder that was prepared from the same inputs with the same settings is left as it is. A run that was killed
    continues where it stopped.

    Args:
      settings: what to prepare, and how.
      output_dir: the folder to write.
      overwrite: replace `output_dir` where it holds something else.
      num_workers: processes beside this one; 0: none; None: one for each processor, or none for a small corpus. The
        result is the same.
      progress: show progress bars.

    Returns:
      Its manifest.

    Raises:
      ValueError: an input is damaged, or no pair is left.
      FileExistsError: `output_dir` holds something else, and `overwrite` is off.
    """
    tokenizer = WordPiece.load(settings.tokenizer, settings.lower_case)
    inputs = [{"path": path, "bytes": files.size(path), "sha256": files.sha256(path)} for path in settings.paths()]
    settings = settings.with_num_shards(inputs)
    state = _state(settings, tokenizer, inputs)
    found = prepared.find_manifest(output_dir)
    if found is not None and found["state"] == state:
        return found
    with files.resumable_folder(output_dir, state, overwrite) as folder:
        work = os.path.join(folder, _WORK)
        os.makedirs(work, exist_ok=True)
        small = sum(entry["bytes"] for entry in inputs) < 2**22
        with Workers(num_workers if num_workers is not None or not small else 0) as workers:
            reports = chunks.write(settings, state, work, workers, progress)
            chunk_paths = [chunks.path_of(work, number) for number in range(len(reports) - 1)]
            duplicates.find(settings, chunk_paths, work, progress)
            results = shards.write(settings, chunk_paths, folder, work, workers, progress)
        refusals = _refusals(reports, results)
        counts, lengths, names = _totals(results)
        if not any(count["pairs"] for count in counts.values()):
            raise ValueError(
                f"No pair is left of {', '.join(settings.paths())}. Refused: {refusals or 'nothing'}. "
                "Expected rows with a question and an answer."
            )
        _check_unchanged(inputs)
        shutil.rmtree(work)
        tokenizer.save(folder)
        manifest = {
            "kind": prepared.KIND,
            "format": prepared.FORMAT,
            "state": state,
            "tokenizer": {"fingerprint": tokenizer.fingerprint, "lower_case": tokenizer.lower_case},
            "counts": counts,
            "refused": refusals,
            "changed": dict(sum((collections.Counter(report["changed"]) for report in reports), collections.Counter())),
            "shards": names,
            "train_lengths": lengths,
            "settings": dataclasses.asdict(settings),
            "inputs": inputs,
        }
        files.write_json(os.path.join(folder, prepared.MANIFEST_FILE), manifest)
    return manifest


def _state(settings: Settings, tokenizer: WordPiece, inputs: Sequence[dict[str, Any]]) -> str:
    """Returns the hash of everything that decides the content of the folder."""
    boilerplate = settings.scrub.boilerplate
    content = [
        prepared.FORMAT,
        dataclasses.asdict(settings),
        tokenizer.fingerprint,
        [entry["sha256"] for entry in inputs],
        files.sha256(boilerplate) if boilerplate else None,
    ]
    return files.fingerprint(content)


def _refusals(reports: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    refusals = Refusals()
    for part in (*reports, *results):
        refusals.merge(part["refused"])
    return {reason: {"rows": at["rows"], "first": at["first"]} for reason, at in refusals.report().items()}


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


def _check_unchanged(inputs: Sequence[dict[str, Any]]) -> None:
    for entry in inputs:
        if files.size(entry["path"]) != entry["bytes"]:
            raise ValueError(f"{entry['path']} was changed while it was read. Start again when it is complete.")
