"""The files of an index folder, and how they are written; build.py and precomputed.py make their content."""

import os
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging

from data_pipeline import cleaning, splits
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE
from data_pipeline.schemas import SIDES
from docproduct.index.settings import IndexSettings
from docproduct.search import threshold
from docproduct.search.faiss_engine import FaissEngine
from docproduct.search.words import WordIndex

KIND = "docproduct index"
FORMAT = 3
PAIRS_FILE, PASSAGES_FILE = "pairs.parquet", "passages.parquet"
FAISS_FILES: dict[str, str] = {"answer": "answers.faiss", "question": "questions.faiss"}
WORD_FOLDERS: dict[str, str] = {"answer": "answers.bm25", "question": "questions.bm25"}
SHOWN_COLUMNS = ["pair_id", "question", "answer", "source", "focus"]  # of a hit
TEXT_COLUMNS = [*SHOWN_COLUMNS, "question_group", "answer_group"]
REMEDY = "Build it with: python -m docproduct.index --model_dir=... --prepared_dir=... --index_dir=..."


class Content(NamedTuple):
    """What an index searches: N pairs, whose answers are P passages.

    Attributes:
      pairs: N rows with TEXT_COLUMNS.
      split_names: [N], the split of each pair.
      vectors: By side, float32 of unit norm: question [N, D], answer [P, D]; one side may be missing.
      rows: [P] int, the row of the pair that a passage belongs to.
      numbers: [P] int, the number of the passage in its answer.
    """

    pairs: pa.Table
    split_names: np.ndarray
    vectors: dict[str, np.ndarray]
    rows: np.ndarray
    numbers: np.ndarray

    @property
    def passage_ids(self) -> np.ndarray:
        """The ids of the passages, [P] int64."""
        pair_ids = self.pairs["pair_id"].to_numpy()
        places = zip(pair_ids[self.rows].tolist(), self.numbers.tolist(), strict=True)
        return np.array([cleaning.hash64(f"{pair}:{number}") for pair, number in places], np.int64)


def word_indexes(pairs: pa.Table, settings: IndexSettings) -> dict[str, WordIndex]:
    """Returns a BM25 index for each side; none where BM25 does not count.

    Raises:
      ValueError: the texts of a side have no words.
    """
    if settings.hybrid == "none":
        return {}
    return {side: WordIndex.build(pairs[side].to_pylist()) for side in SIDES}


def write(
    folder: str, content: Content, words: dict[str, WordIndex], settings: IndexSettings, made_of: dict[str, Any]
) -> dict[str, Any]:
    """Writes an index to an empty folder, the manifest last.

    Args:
      folder: The folder.
      content: What the index searches.
      words: BM25 indexes by side; see `word_indexes`.
      settings: How the index is built.
      made_of: What the manifest records of the encoder and of the pairs.

    Returns:
      The manifest.

    Raises:
      ValueError: there are fewer vectors than the factory needs.
    """
    pair_ids, passage_ids = content.pairs["pair_id"].to_numpy(), content.passage_ids
    ids = {"question": pair_ids, "answer": passage_ids}
    for side, vectors in content.vectors.items():
        engine = FaissEngine.build(vectors, ids[side], settings.factory, settings.search_parameters)
        engine.save(os.path.join(folder, FAISS_FILES[side]))
    for side, index in words.items():
        index.save(os.path.join(folder, WORD_FOLDERS[side]))
    pq.write_table(content.pairs, os.path.join(folder, PAIRS_FILE))
    passages = pa.table({"passage_id": passage_ids, "pair_id": pair_ids[content.rows]})
    pq.write_table(passages, os.path.join(folder, PASSAGES_FILE))
    names = [FAISS_FILES[side] for side in content.vectors]
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "sha256": {name: files.sha256(os.path.join(folder, name)) for name in names},
        **made_of,
        "threshold": _threshold(content, settings.kept),
        "counts": {
            "pairs": len(content.pairs),
            "passages": len(passage_ids),
            "answers": len(np.unique(content.pairs["answer_group"].to_numpy())),
        },
    }
    files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)
    return manifest


def _threshold(content: Content, keep_share: float) -> dict[str, Any]:
    """Calibrates on questions of the index."""
    if len(content.vectors) < 2:
        logging.warning(
            "The index has vectors of one side only, so that no threshold can be calibrated: every question counts as "
            "answerable. Give serve.py a --threshold."
        )
        return threshold.UNCALIBRATED
    keys = np.stack([content.pairs[name].to_numpy() for name in ("question_group", "answer_group")])  # [2, N]
    chosen, source = threshold.choose(keys[0], content.split_names)
    questions, answers = content.vectors["question"][chosen], content.vectors["answer"]
    unseen = content.split_names[chosen] == splits.DEV
    answer_keys = keys[:, content.rows]
    calibrated = threshold.calibrate(questions, keys[:, chosen], answers, answer_keys, keep_share, unseen)
    calibrated |= {"of": source}
    threshold.report(calibrated, keep_share)
    return calibrated
