"""The files of an index folder, and how they are written; build.py and precomputed.py make their content."""

import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from absl import logging

from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE
from docproduct.index.content import Content, are_passages, searched_texts
from docproduct.index.settings import IndexSettings
from docproduct.search import kinds
from docproduct.search.kinds import Kind
from docproduct.search.rescored_engine import vectors_file
from docproduct.search.words import WordIndex

KIND = "docproduct index"
FORMAT = 3
PAIRS_FILE, PASSAGES_FILE = "pairs.parquet", "passages.parquet"
FAISS_FILES: dict[str, str] = {"answer": "answers.faiss", "question": "questions.faiss"}
WORD_FOLDERS: dict[str, str] = {"answer": "answers.bm25", "question": "questions.bm25"}
REMEDY = "Build it with: python -m docproduct.index --model_dir=... --prepared_dir=... --index_dir=..."


def word_indexes(pairs: pa.Table, settings: IndexSettings) -> dict[str, WordIndex]:
    """Returns a BM25 index for each side; none where BM25 does not count, or no row has a question.

    Raises:
      ValueError: the texts of a side have no words.
    """
    if settings.hybrid == "none":
        return {}
    passages = are_passages(pairs)
    sides = ["answer"] if passages.all() else ["question", "answer"]
    return {side: WordIndex.build(searched_texts(pairs, side)) for side in sides}


def write(
    folder: str, content: Content, words: dict[str, WordIndex], settings: IndexSettings, made_of: dict[str, Any]
) -> dict[str, Any]:
    """Writes an index to an empty folder, the manifest last.

    Args:
      folder: The folder.
      content: What the index searches.
      words: BM25 indexes by side; see `word_indexes`.
      settings: How the index is built.
      made_of: What the manifest records of the encoder, of the rows, and of the calibration.

    Returns:
      The manifest.

    Raises:
      ValueError: there are fewer vectors than the factory needs.
    """
    pair_ids, passage_ids = content.pairs["pair_id"].to_numpy(), content.passage_ids
    are_of_documents = are_passages(content.pairs)
    ids = {"question": pair_ids[~are_of_documents], "answer": passage_ids}
    built = {}
    for side, vectors in content.vectors.items():
        built[side] = kinds.choose(settings.factory, settings.search_parameters, len(vectors))
        logging.info("%d vectors of %ss: %s.", len(vectors), side, built[side])
        engine = kinds.build(vectors, ids[side], built[side], progress=FAISS_FILES[side])
        engine.save(os.path.join(folder, FAISS_FILES[side]))
    for side, index in words.items():
        index.save(os.path.join(folder, WORD_FOLDERS[side]))
    pairs = content.pairs.append_column("split", pa.array(content.split_names.tolist(), pa.string()))
    pq.write_table(pairs, os.path.join(folder, PAIRS_FILE))
    passages = pa.table({"passage_id": passage_ids, "pair_id": pair_ids[content.rows]})
    pq.write_table(passages, os.path.join(folder, PASSAGES_FILE))
    names = [FAISS_FILES[side] for side in content.vectors]
    names += [name for name in map(vectors_file, names) if os.path.exists(os.path.join(folder, name))]
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "kinds": {side: kind._asdict() for side, kind in built.items()},
        "sha256": {name: files.sha256(os.path.join(folder, name)) for name in names},
        **made_of,
        "counts": {
            "pairs": int((~are_of_documents).sum()),
            "passages": len(passage_ids),
            "answers": len(np.unique(content.pairs["answer_group"].to_numpy())),
            **_documents(content.pairs, are_of_documents),
        },
    }
    files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)
    return manifest


def kind_of(manifest: dict[str, Any], side: str) -> Kind:
    """Returns the kind of the vectors of a side; earlier versions recorded what the settings name."""
    settings = manifest["settings"]
    stored = manifest.get("kinds", {}).get(side)
    return Kind(**stored) if stored else Kind(settings["factory"], settings["search_parameters"])


def _documents(pairs: pa.Table, are_of_documents: np.ndarray) -> dict[str, int]:
    """Returns the numbers of documents and of their passages; nothing for an index of pairs alone."""
    if not are_of_documents.any():
        return {}
    sources = pairs.filter(pa.array(are_of_documents))["source"]
    return {"documents": len(pc.unique(sources)), "document_passages": int(are_of_documents.sum())}
