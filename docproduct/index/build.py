"""Builds an index: embeds a prepared folder, cuts answers into passages if asked to, writes the folder."""

import dataclasses
import os
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from data_pipeline import cleaning, files, splits
from data_pipeline.prepared import MANIFEST_FILE, PAIRS_FILE, PreparedFolder
from docproduct.index import threshold, vectors
from docproduct.lexical import AUTO, HYBRIDS, Lexical
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import shorten

KIND = "docproduct index"
FORMAT = 3
PASSAGES_FILE = "passages.parquet"
FAISS_FILES: dict[str, str] = {"answer": "answers.faiss", "question": "questions.faiss"}
LEXICAL_FOLDERS: dict[str, str] = {"answer": "answers.bm25", "question": "questions.bm25"}
TEXT_COLUMNS = ["pair_id", "question", "answer", "answer_group", "source", "focus"]
_GROUPS = ["question_group", "answer_group"]
REMEDY = "Build it with: python -m docproduct.index --model_dir=... --prepared_dir=... --index_dir=..."

_UNCUT = 2**30  # tokens: no answer is longer


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """How an index is built.

    Attributes:
      factory: FAISS factory string, e.g. Flat (exact), HNSW32, IVF256,Flat.
      search_parameters: how thorough an approximate index searches, e.g. nprobe=16 (IVF) or efSearch=64 (HNSW).
      passage_tokens: 0: an answer is one passage, what the encoder takes of it. Else: passages of so many tokens.
      passage_overlap: tokens that a passage shares with the next.
      export_embeddings: keep all vectors as .npy files.
      hybrid: how BM25 counts beside the vectors. auto: as was best on dev when the retriever was trained; none, rrf or
        weight: see `lexical.fuse`.
      bm25_weight: for `weight`; `docproduct.evaluate --hybrid=tune` finds a good one.
      dims: 0: whole vectors; else their first components, for a model that was trained for it (matryoshka_dims).
      kept: share of the questions with an answer in the index that shall count as answered; see `threshold.calibrate`.
    """

    factory: str = "Flat"
    search_parameters: str = ""
    passage_tokens: int = 0
    passage_overlap: int = 32
    export_embeddings: bool = False
    hybrid: str = AUTO
    bm25_weight: float = 0.1
    dims: int = 0
    kept: float = 0.95

    def __post_init__(self) -> None:
        """Raises a ValueError for an impossible way to join BM25."""
        if self.hybrid not in (AUTO, *HYBRIDS):
            raise ValueError(f"hybrid is {self.hybrid!r}; expected {AUTO}, {', '.join(HYBRIDS)}.")
        if not 0 < self.kept <= 1:
            raise ValueError(f"kept is {self.kept}; expected more than 0, and at most 1.")
        if not 0 <= self.bm25_weight < float("inf"):
            raise ValueError(f"bm25_weight is {self.bm25_weight}; expected a number from 0 up.")


def build(
    retriever: TrainedRetriever,
    prepared: PreparedFolder,
    index_dir: str,
    settings: IndexSettings = IndexSettings(),
    encoder_name: str = "",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Embeds all pairs of a prepared folder and writes an index, whole or not at all.

    Args:
      retriever: the encoder.
      prepared: the pairs.
      index_dir: the folder to write.
      settings: how.
      encoder_name: what the index calls the encoder when it refuses another.
      overwrite: replace `index_dir`.

    Returns:
      The manifest.

    Raises:
      ValueError: an unknown factory, passages longer than the encoder takes, or fewer vectors than the factory needs.
    """
    if settings.hybrid == AUTO:
        method, weight = retriever.hybrid
        settings = dataclasses.replace(settings, hybrid=method, bm25_weight=weight)
    # Before the work: what FAISS cannot build, and vectors that are shorter than asked for.
    width = shorten(np.ones((1, retriever.config.width), np.float32), settings.dims).shape[1]
    vectors.check(width, settings.factory, settings.search_parameters)
    pairs = prepared.pairs(TEXT_COLUMNS)
    pair_ids = pairs["pair_id"].to_numpy()
    passages, rows, numbers = None, np.arange(len(pairs)), np.zeros(len(pairs), int)
    if settings.passage_tokens:
        passages, rows, numbers = _passages(pairs["answer"].to_pylist(), retriever, settings)
    passage_ids = np.array(
        [cleaning.hash64(f"{pair_ids[row]}:{number}") for row, number in zip(rows, numbers, strict=True)]
    )
    # Texts without words are known before the work, too.
    lexical = {side: Lexical.build(pairs[side].to_pylist()) for side in LEXICAL_FOLDERS if settings.hybrid != "none"}
    with files.whole_folder(index_dir, overwrite, KIND) as folder:
        embeddings = {
            "question": retriever.embed_prepared(prepared, "question", progress="questions"),
            "answer": retriever.embed_ids(passages, "answer", progress="answers")
            if settings.passage_tokens
            else retriever.embed_prepared(prepared, "answer", progress="answers"),
        }
        heads = {side: shorten(found.head, settings.dims) for side, found in embeddings.items()}
        for side, ids in (("question", pair_ids), ("answer", passage_ids)):
            index = vectors.make(heads[side], ids, settings.factory, settings.search_parameters)
            vectors.write(index, os.path.join(folder, FAISS_FILES[side]))
            if settings.export_embeddings:
                for name, rows_of in embeddings[side]._asdict().items():
                    np.save(os.path.join(folder, f"{side}_{name}.npy"), rows_of)
        for side, words in lexical.items():
            words.save(os.path.join(folder, LEXICAL_FOLDERS[side]))
        pq.write_table(pairs, os.path.join(folder, PAIRS_FILE))
        table = pa.table({"passage_id": passage_ids, "pair_id": pair_ids[rows]})
        pq.write_table(table, os.path.join(folder, PASSAGES_FILE))
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "sha256": {name: files.sha256(os.path.join(folder, name)) for name in FAISS_FILES.values()},
            "encoder": {
                "name": encoder_name,
                "fingerprint": retriever.fingerprint(),
                "dtype_policy": retriever.dtype_policy,
            },
            "prepared": prepared.fingerprint(),
            "settings": dataclasses.asdict(settings),
            "threshold": _threshold(prepared, heads, rows, settings.kept),
            "counts": {
                "pairs": len(pairs),
                "passages": len(passage_ids),
                "answers": len(np.unique(pairs["answer_group"].to_numpy())),
            },
        }
        files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)
    return manifest


def _threshold(prepared: PreparedFolder, heads: dict[str, np.ndarray], rows: np.ndarray, kept: float) -> dict[str, Any]:
    """Calibrates with dev's questions, or where there are none, with the others; `rows`: of each passage its pair."""
    table = prepared.pairs([*_GROUPS, "split"])
    keys = np.stack([table[name].to_numpy() for name in _GROUPS])  # [2, N]
    names = table["split"].to_numpy()
    asked = np.flatnonzero(names == splits.DEV)
    source = splits.DEV if len(asked) else "all"
    asked = asked if len(asked) else np.arange(len(names))
    few = asked[np.linspace(0, len(asked) - 1, min(len(asked), threshold.MOST_QUESTIONS)).astype(int)]
    found = threshold.calibrate(heads["question"][few], keys[:, few], heads["answer"], keys[:, rows], kept)
    return found | {"of": source}


def _passages(
    answers: list[str], retriever: TrainedRetriever, settings: IndexSettings
) -> tuple[tf.RaggedTensor, np.ndarray, np.ndarray]:
    """Returns the passages' ids, each with [CLS] and [SEP], and for each the row of its answer and its number there."""
    longest = retriever.config.max_tokens
    window, step = settings.passage_tokens - 2, settings.passage_tokens - 2 - settings.passage_overlap
    if settings.passage_tokens > longest or settings.passage_overlap < 0 or step < 1:
        raise ValueError(
            f"passage_tokens is {settings.passage_tokens} and passage_overlap {settings.passage_overlap}; expected at "
            f"most {longest} tokens, what this encoder takes, and an overlap of 0 to passage_tokens - 3."
        )
    passages: list[list[int]] = []
    rows, numbers = [], []
    for row, ids in enumerate(retriever.tokenizer.encode(answers, _UNCUT).to_list()):
        first, *tokens, last = ids
        # The last window starts before what is left is only overlap.
        for number, start in enumerate(range(0, max(len(tokens) - settings.passage_overlap, 1), step)):
            passages.append([first, *tokens[start : start + window], last])
            rows.append(row)
            numbers.append(number)
    return tf.ragged.constant(passages, tf.int32, row_splits_dtype=tf.int32), np.array(rows), np.array(numbers)
