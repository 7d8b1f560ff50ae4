"""Writes a live index as a new folder, and puts it in the place of the old one."""

import dataclasses
import itertools
import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import cleaning
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE
from docproduct.index import windows
from docproduct.index.calibrating import calibrate, threshold_of
from docproduct.index.content import Content, are_passages, headings
from docproduct.index.folder import KIND, kind_of, word_indexes, write
from docproduct.index.pairs import Pairs
from docproduct.index.precomputed import PRECOMPUTED
from docproduct.index.settings import IndexSettings
from docproduct.index.vector_rows import VectorRows
from docproduct.search.engine import Engine
from docproduct.systems.retriever import Side, TrainedRetriever
from docproduct.systems.retriever.folder import shorten

Snapshot = tuple[Pairs, dict[Side, tuple[Engine, VectorRows]]]  # see `Index.snapshot`
_NEW, _OLD = "new", "old"  # in the folder beside the index folder


def live_dir(index_dir: str) -> str:
    """Returns the folder beside an index folder that holds its changes."""
    return f"{os.path.realpath(index_dir)}.live"


def write_new(
    manifest: dict[str, Any],
    settings: IndexSettings,
    snapshot: Snapshot,
    index_dir: str,
    retriever: TrainedRetriever,
) -> str:
    """Writes a live index to a folder beside the old one, and returns it; its files are on the disk.

    The calibration is made anew; that with a reranker, which is not loaded here, is kept. The index may be searched
    and changed meanwhile.

    Args:
      manifest: Manifest of the old folder.
      settings: Settings of the index.
      snapshot: The pairs and vectors to write.
      index_dir: The old folder, which stays.
      retriever: The encoder of the index.

    Raises:
      ValueError: There are too few pairs for the factory, or none with words.
      OSError: The disk is full, or fails.
    """
    settings = dataclasses.replace(settings, export_embeddings=False)
    content = _content(manifest, snapshot, settings, retriever)
    words = word_indexes(content.pairs, settings)
    unchanged = ("encoder", "prepared", "folders", "vectors", "answerable_reranked")
    made_of = {name: manifest[name] for name in unchanged if name in manifest}
    made_of |= {"settings": dataclasses.asdict(settings), "compactions": manifest.get("compactions", 0) + 1}
    path = os.path.join(live_dir(index_dir), _NEW)
    with files.whole_folder(path, overwrite=True, kind=KIND) as folder:
        if made_of["encoder"]["dtype_policy"] == PRECOMPUTED:
            made_of["threshold"] = threshold_of(content, settings.kept)
        else:
            made_of |= calibrate(folder, content, retriever, settings)
        write(folder, content, words, settings, made_of)
        files.sync_folder(folder)
    return path


def _content(
    manifest: dict[str, Any], snapshot: Snapshot, settings: IndexSettings, retriever: TrainedRetriever
) -> Content:
    pairs, sides = snapshot
    table = pairs.table()
    if "question_group" not in table.column_names:  # an index of an earlier version
        table = table.append_column("question_group", [list(map(cleaning.group, table["question"].to_pylist()))])
    split_names = np.full(len(table), "")
    if "split" in table.column_names:
        split_names = table["split"].to_numpy(zero_copy_only=False)
        table = table.drop_columns(["split"])
    present = np.flatnonzero(pairs.present).tolist()
    vectors = {}
    rows, numbers = np.arange(len(present)), np.zeros(len(present), int)
    for side, (engine, ids_of) in sides.items():
        ids = [ids_of[row] for row in present]
        if side == "answer":
            lengths = list(map(len, ids))
            rows = np.repeat(rows, lengths)
            numbers = np.array([number for length in lengths for number in range(length)], int)
        if kind_of(manifest, side).keeps_vectors:
            vectors[side] = engine.vectors_of(np.array(list(itertools.chain(*ids)), np.int64))
        else:
            vectors[side] = _encode_again(table, side, settings, retriever)
    return Content(table, split_names, vectors, rows, numbers)


def _encode_again(table: pa.Table, side: Side, settings: IndexSettings, retriever: TrainedRetriever) -> np.ndarray:
    """Returns the vectors of one side of all rows, in their order, [P, D]."""
    of_documents = are_passages(table)
    texts, names = table[side].to_pylist(), headings(table)
    vectors: list[np.ndarray] = [np.empty((0, 0))] * len(table)
    for passages in (False, True):
        rows = np.flatnonzero(of_documents == passages).tolist()
        if rows and not (passages and side == "question"):
            own_names = [names[row] for row in rows] if passages else ()
            own = encode([texts[row] for row in rows], side, settings, retriever, own_names)
            for row, of_row in zip(rows, own, strict=True):
                vectors[row] = of_row
    return np.concatenate([of_row for of_row in vectors if len(of_row)])


def encode(
    texts: list[str],
    side: Side,
    settings: IndexSettings,
    retriever: TrainedRetriever,
    names: Sequence[str] = (),
) -> list[np.ndarray]:
    """Returns the vectors of each text as an index of these settings has them, [P, D] float32 of unit norm.

    Args:
      texts: Questions, answers or passages of documents.
      side: Whether the texts are questions or answers; passages count as answers.
      settings: Settings of the index.
      retriever: The encoder of the index.
      names: Heading of each text if they are passages; empty for pairs.
    """
    if not names and (side == "question" or not settings.passage_tokens):
        return list(shorten(retriever.embed_few(texts, side), settings.dims)[:, None])
    if names:
        cut = windows.of_passages(texts, retriever, settings, names)
    else:
        cut = windows.cut(texts, retriever, settings.passage_tokens, settings.passage_overlap)
    heads = shorten(retriever.embed_ids(cut.ids, side).head, settings.dims)
    return [heads[cut.rows == row] for row in range(len(texts))]


def put_in_place(index_dir: str) -> None:
    """Replaces the index folder by the new one; `recover` completes it if the process is killed meanwhile."""
    path, beside = os.path.realpath(index_dir), live_dir(index_dir)
    old = os.path.join(beside, _OLD)
    _remove_old(beside)
    if os.path.isdir(old):  # NFS keeps files that are open, but they can be moved
        os.replace(old, tempfile.mkdtemp(prefix=f"{_OLD}.", dir=beside))
    os.replace(path, old)
    os.replace(os.path.join(beside, _NEW), path)
    for folder in (os.path.dirname(path), beside):
        _sync(folder)
    _remove_old(beside)


def recover(index_dir: str) -> None:
    """Completes what a killed process began, or removes it. Nobody may be writing the index."""
    path, beside = os.path.realpath(index_dir), live_dir(index_dir)
    new, old = os.path.join(beside, _NEW), os.path.join(beside, _OLD)
    if not os.path.isdir(path) and os.path.isdir(old):
        os.replace(new if os.path.exists(os.path.join(new, MANIFEST_FILE)) else old, path)
    for folder in (new, f"{new}.partial"):
        shutil.rmtree(folder, ignore_errors=True)
    _remove_old(beside)


def _remove_old(beside: str) -> None:
    """Removes replaced index folders. What cannot be removed stays until the next compaction or start."""
    for name in os.listdir(beside):
        if name == _OLD or name.startswith(f"{_OLD}."):
            shutil.rmtree(os.path.join(beside, name), ignore_errors=True)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
