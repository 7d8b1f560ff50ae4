"""What an index folder holds, and how it is written; build.py and precomputed.py make its content."""

import os
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import logging

from data_pipeline import cleaning, splits
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE
from docproduct.index.settings import IndexSettings
from docproduct.search import threshold, vectors
from docproduct.search.lexical import Lexical

KIND = "docproduct index"
FORMAT = 3
PAIRS_FILE, PASSAGES_FILE = "pairs.parquet", "passages.parquet"
FAISS_FILES: dict[str, str] = {"answer": "answers.faiss", "question": "questions.faiss"}
LEXICAL_FOLDERS: dict[str, str] = {"answer": "answers.bm25", "question": "questions.bm25"}
SHOWN_COLUMNS = ["pair_id", "question", "answer", "source", "focus"]  # of a hit
TEXT_COLUMNS = [*SHOWN_COLUMNS, "question_group", "answer_group"]
REMEDY = "Build it with: python -m docproduct.index --model_dir=... --prepared_dir=... --index_dir=..."


class Content(NamedTuple):
    """What is searched: N pairs, whose answers are P passages.

    Attributes:
      pairs: N rows with TEXT_COLUMNS.
      split_names: [N], of each pair.
      vectors: by side, float32 of unit norm: question [N, D], answer [P, D]; one of them may be missing.
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


def write(
    folder: str, content: Content, lexical: dict[str, Lexical], settings: IndexSettings, described: dict[str, Any]
) -> dict[str, Any]:
    """Writes an index to an empty folder, the manifest last.

    Args:
      folder: where to.
      content: what is searched.
      lexical: BM25 of the texts by side, if it is joined.
      settings: how.
      described: what the manifest says of the encoder and of the pairs.

    Returns:
      The manifest.

    Raises:
      ValueError: fewer vectors than the factory needs.
    """
    pair_ids, passage_ids = content.pairs["pair_id"].to_numpy(), content.passage_ids
    ids = {"question": pair_ids, "answer": passage_ids}
    for side, of_side in content.vectors.items():
        index = vectors.make(of_side, ids[side], settings.factory, settings.search_parameters)
        vectors.write(index, os.path.join(folder, FAISS_FILES[side]))
    for side, words in lexical.items():
        words.save(os.path.join(folder, LEXICAL_FOLDERS[side]))
    pq.write_table(content.pairs, os.path.join(folder, PAIRS_FILE))
    passages = pa.table({"passage_id": passage_ids, "pair_id": pair_ids[content.rows]})
    pq.write_table(passages, os.path.join(folder, PASSAGES_FILE))
    written = [FAISS_FILES[side] for side in content.vectors]
    manifest = {
        "kind": KIND,
        "format": FORMAT,
        "sha256": {name: files.sha256(os.path.join(folder, name)) for name in written},
        **described,
        "threshold": _threshold(content, settings.kept),
        "counts": {
            "pairs": len(content.pairs),
            "passages": len(passage_ids),
            "answers": len(np.unique(content.pairs["answer_group"].to_numpy())),
        },
    }
    files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)
    return manifest


def _threshold(content: Content, kept: float) -> dict[str, Any]:
    """Calibrates on questions of the index; a warning says where they are too few."""
    if len(content.vectors) < 2:
        logging.warning(
            "The index has vectors of one side only, so that nothing tells which cosine is near enough: every question "
            "is answered. Give serve.py a --threshold."
        )
        return threshold.NONE
    keys = np.stack([content.pairs[name].to_numpy() for name in ("question_group", "answer_group")])  # [2, N]
    chosen, source = threshold.choose(keys[0], content.split_names)
    questions, answers = content.vectors["question"][chosen], content.vectors["answer"]
    unseen = content.split_names[chosen] == splits.DEV
    found = threshold.calibrate(questions, keys[:, chosen], answers, keys[:, content.rows], kept, unseen)
    found |= {"of": source}
    threshold.report(found, kept)
    return found
