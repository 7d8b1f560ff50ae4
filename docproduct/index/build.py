"""Builds an index: embeds prepared folders, cuts long texts into windows, writes the folder."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from absl import logging

from data_pipeline import cleaning
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import PASSAGE
from data_pipeline.schemas import ANSWER, QUESTION
from docproduct.index import windows
from docproduct.index.calibrating import calibrate
from docproduct.index.content import DOCUMENT_COLUMNS, OTHER_NAMES, TEXT_COLUMNS, Content, headings
from docproduct.index.folder import KIND, word_indexes, write
from docproduct.index.ray_embedding import RayEncoder
from docproduct.index.settings import IndexSettings
from docproduct.search import kinds
from docproduct.search.kinds import Kind
from docproduct.systems.reranker import TrainedReranker
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import Embeddings, shorten


class Part(NamedTuple):
    """What a prepared folder adds to an index.

    Attributes:
      prepared: The folder.
      pairs: Its rows, with TEXT_COLUMNS and, for passages, DOCUMENT_COLUMNS.
      windows: What gets a vector of each answer; None: its beginning.
    """

    prepared: PreparedFolder
    pairs: pa.Table
    windows: windows.Windows | None


def build(
    retriever: TrainedRetriever,
    prepared: PreparedFolder | Sequence[PreparedFolder],
    index_dir: str,
    settings: IndexSettings = IndexSettings(),
    encoder_name: str = "",
    overwrite: bool = False,
    encoder: RayEncoder | None = None,
    reranker: TrainedReranker | None = None,
) -> dict[str, Any]:
    """Embeds all pairs and passages of prepared folders and writes an index, whole or not at all.

    Args:
      retriever: The encoder.
      prepared: The folders, of pairs or of passages. What stands in several counts once.
      index_dir: The folder to write.
      settings: How the index is built.
      encoder_name: Name of the encoder, for the error that refuses another.
      overwrite: Whether to replace `index_dir`.
      encoder: The same encoder on a cluster, which embeds in place of this process.
      reranker: The index is calibrated with and without it. None: only without.

    Returns:
      The manifest.

    Raises:
      ValueError: the factory is unknown, passages are longer than the encoder takes, or the factory needs more vectors.
    """
    folders = [prepared] if isinstance(prepared, PreparedFolder) else list(prepared)
    settings = settings.with_hybrid(retriever.hybrid)
    # Errors that can be known before the work are raised before it.
    width = shorten(np.ones((1, retriever.config.width), np.float32), settings.dims).shape[1]
    kinds.check(Kind(settings.factory, settings.search_parameters), width)
    _check_kept(folders, settings.keep)
    parts = [_part(folder, retriever, settings) for folder in folders]
    joined = _joined(parts, settings.keep)
    chosen = _first_of_each(joined.pairs["pair_id"].to_numpy())
    content = joined.taken(chosen)
    words = word_indexes(content.pairs, settings)
    fingerprints = [folder.fingerprint() for folder in folders]
    made_of = {
        "encoder": {
            "name": encoder_name,
            "fingerprint": retriever.fingerprint(),
            "dtype_policy": retriever.dtype_policy,
        },
        "prepared": fingerprints[0] if len(folders) == 1 else files.fingerprint(fingerprints),
        "folders": fingerprints,
        "settings": dataclasses.asdict(settings),
    }
    with files.whole_folder(index_dir, overwrite, KIND) as folder:
        embeddings = _embed(parts, encoder or retriever)
        places = joined.places(chosen)
        embeddings = {
            side: Embeddings(*(each[places[side]] for each in vectors)) for side, vectors in embeddings.items()
        }
        if settings.export_embeddings:
            _save_embeddings(folder, embeddings)
        heads = {side: shorten(vectors.head, settings.dims) for side, vectors in embeddings.items()}
        content = content._replace(vectors=heads)
        made_of |= calibrate(folder, content, retriever, settings, reranker)
        return write(folder, content, words, settings, made_of)


def _part(prepared: PreparedFolder, retriever: TrainedRetriever, settings: IndexSettings) -> Part:
    """Reads a folder and cuts its texts. An answer is one passage by default; a document is never left out in part."""
    if prepared.schema is PASSAGE:
        pairs = _passages(prepared)
        return Part(
            prepared, pairs, windows.of_passages(pairs["answer"].to_pylist(), retriever, settings, headings(pairs))
        )
    size, overlap = settings.passage_tokens, settings.passage_overlap
    kept = [field.name for field in prepared.schema.labels if field.name in settings.keep]
    pairs = prepared.table([*TEXT_COLUMNS, *kept, "split"])
    names = prepared.optional_column("synonyms")
    if names is not None and any(names.to_pylist()):
        pairs = pairs.append_column(OTHER_NAMES, names)
    return Part(prepared, pairs, windows.cut(pairs["answer"].to_pylist(), retriever, size, overlap) if size else None)


def _check_kept(folders: Sequence[PreparedFolder], keep: Sequence[str]) -> None:
    """Raises a ValueError if no folder has a column that is to be kept."""
    labels = dict.fromkeys(field.name for folder in folders for field in folder.schema.labels)
    columns = [name for name in labels if name not in (*TEXT_COLUMNS, *DOCUMENT_COLUMNS)]
    if unknown := sorted({*keep} - {*columns}):
        raise ValueError(f"There is no column {unknown[0]!r} to keep; expected {', '.join(columns) or 'none'}.")


def _passages(prepared: PreparedFolder) -> pa.Table:
    """Returns the passages of documents as rows without a question; their heading takes its place as a group."""
    table = prepared.table(["passage_id", "text", "text_group", "source", "focus", *DOCUMENT_COLUMNS, "split"])
    renamed = {"passage_id": "pair_id", "text": "answer", "text_group": "answer_group"}
    table = table.rename_columns([renamed.get(name, name) for name in table.column_names])
    table = table.append_column("question", pa.array([""] * len(table)))
    groups = pa.array([cleaning.group(cleaning.clean(name)) for name in headings(table)], pa.int64())
    return table.append_column("question_group", groups).select([*TEXT_COLUMNS, *DOCUMENT_COLUMNS, "split"])


def _joined(parts: Sequence[Part], keep: Sequence[str]) -> Content:
    """Returns the rows of all folders, with the further columns that are kept, without vectors."""
    with_documents = any(part.prepared.schema is PASSAGE for part in parts)
    with_names = any(OTHER_NAMES in part.pairs.column_names for part in parts)
    columns = [*TEXT_COLUMNS, *(DOCUMENT_COLUMNS if with_documents else ()), *keep, *[OTHER_NAMES] * with_names]
    tables, rows, numbers, num_rows = [], [], [], 0
    for part in parts:
        table = part.pairs
        for name in columns:
            if name not in table.column_names:
                table = table.append_column(name, pa.array([""] * len(table)))
        own = np.arange(len(table)) if part.windows is None else part.windows.rows
        tables.append(table)
        rows.append(num_rows + own)
        numbers.append(np.zeros(len(own), int) if part.windows is None else part.windows.numbers)
        num_rows += len(table)
    pairs = pa.concat_tables([table.select([*columns, "split"]) for table in tables])
    splits = pairs["split"].to_numpy()
    return Content(pairs.select(columns), splits, {}, np.concatenate(rows), np.concatenate(numbers))


def _first_of_each(pair_ids: np.ndarray) -> np.ndarray:
    """Returns which rows are not in an earlier folder already, [N] bool."""
    chosen = np.zeros(len(pair_ids), bool)
    chosen[np.unique(pair_ids, return_index=True)[1]] = True
    if num_twice := int((~chosen).sum()):
        logging.info("%d pairs or passages stand in several of the prepared folders; each counts once.", num_twice)
    return chosen


def _embed(parts: Iterable[Part], encoder: TrainedRetriever | RayEncoder) -> dict[str, Embeddings]:
    """Returns the vectors of each side of all folders; of passages, there are no questions."""
    by_side: dict[str, list[Embeddings]] = {QUESTION: [], ANSWER: []}
    for part in parts:
        if part.prepared.schema is not PASSAGE:
            by_side[QUESTION].append(encoder.embed_prepared(part.prepared, QUESTION, progress="questions"))
        if part.windows is None:
            by_side[ANSWER].append(encoder.embed_prepared(part.prepared, ANSWER, progress="answers"))
        else:
            progress = "passages" if part.prepared.schema is PASSAGE else "answers"
            by_side[ANSWER].append(encoder.embed_ids(part.windows.ids, ANSWER, progress=progress))
    return {side: Embeddings(*map(np.concatenate, zip(*each, strict=True))) for side, each in by_side.items() if each}


def _save_embeddings(folder: str, embeddings: dict[str, Embeddings]) -> None:
    for side, vectors in embeddings.items():
        for name, array in vectors._asdict().items():
            np.save(os.path.join(folder, f"{side}_{name}.npy"), array)
