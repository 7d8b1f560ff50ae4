"""The index: vectors of answers and of questions in FAISS, with the texts they belong to.

    python -m docproduct.index --model_dir=/tmp/model --prepared_dir=/tmp/prepared --index_dir=/tmp/index

    manifest.json          written last: fingerprint of the encoder, settings, counts
    answers.faiss          one vector a passage of an answer, under its passage_id
    questions.faiss        one vector a pair, under its pair_id
    pairs.parquet          texts and groups, one row a pair
    passages.parquet       passage_id and pair_id, one row a passage
    *_encoder.npy *_head.npy   with --export_embeddings: BERT's vectors and the heads', in the order of the Parquet rows

An answer is one passage (its first tokens) or several overlapping ones; a hit is the best passage of an answer, and
equal answers are one hit. This is the only file that imports faiss. Ends with one line of JSON: the counts.
"""

import dataclasses
import json
import os
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from absl import app, flags, logging

from data_pipeline import cleaning, files
from data_pipeline.prepared import MANIFEST_FILE, PAIRS_FILE, PreparedFolder, read_manifest
from docproduct import training
from docproduct.systems.retriever import Side, TrainedRetriever

try:
    import faiss
except ImportError as error:
    raise ImportError(
        "faiss is not installed. Install docproduct with the extra cpu or gpu (never both): pip install -e '.[cpu]'."
    ) from error

KIND = "docproduct index"
FORMAT = 1
PASSAGES_FILE = "passages.parquet"
_TEXT_COLUMNS = ["pair_id", "question", "answer", "answer_group", "source", "focus"]
_MAX_GPU_K = 2_048  # FAISS on a GPU finds no more at once
_UNCUT = 2**30  # tokens: no answer is longer
_REMEDY = "Build it with: python -m docproduct.index --model_dir=... --prepared_dir=... --index_dir=..."

_FAISS_FILES: dict[str, str] = {"answer": "answers.faiss", "question": "questions.faiss"}


@dataclasses.dataclass(frozen=True)
class IndexSettings:
    """How an index is built.

    Attributes:
      factory: FAISS factory string, e.g. Flat (exact), HNSW32, IVF256,Flat.
      search_parameters: how thorough an approximate index searches, e.g. nprobe=16 (IVF) or efSearch=64 (HNSW).
      passage_tokens: 0: an answer is one passage, what the encoder takes of it. Else: passages of so many tokens.
      passage_overlap: tokens that a passage shares with the next.
      export_embeddings: keep all vectors as .npy files.
    """

    factory: str = "Flat"
    search_parameters: str = ""
    passage_tokens: int = 0
    passage_overlap: int = 32
    export_embeddings: bool = False


@dataclasses.dataclass(frozen=True)
class Hit:
    """A pair that was found.

    Attributes:
      score: cosine of the query and the best passage (or the question), -1 to 1.
      pair_id: the pair.
      question: its question.
      answer: its whole answer.
      source: the collection it comes from.
      focus: its topic, or empty.
    """

    score: float
    pair_id: int
    question: str
    answer: str
    source: str
    focus: str


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
    pairs = prepared.pairs(_TEXT_COLUMNS)
    pair_ids = pairs["pair_id"].to_numpy()
    passages, rows, numbers = None, np.arange(len(pairs)), np.zeros(len(pairs), int)
    if settings.passage_tokens:
        passages, rows, numbers = _passages(pairs["answer"].to_pylist(), retriever, settings)
    passage_ids = np.array(
        [cleaning.hash64(f"{pair_ids[row]}:{number}") for row, number in zip(rows, numbers, strict=True)]
    )
    with files.whole_folder(index_dir, overwrite) as folder:
        embeddings = {
            "question": retriever.embed_prepared(prepared, "question", progress="questions"),
            "answer": retriever.embed_ids(passages, "answer", progress="answers")
            if settings.passage_tokens
            else retriever.embed_prepared(prepared, "answer", progress="answers"),
        }
        for side, ids in (("question", pair_ids), ("answer", passage_ids)):
            index = _faiss_index(embeddings[side].head, ids, settings)
            faiss.write_index(index, os.path.join(folder, _FAISS_FILES[side]))
            if settings.export_embeddings:
                for name, vectors in embeddings[side]._asdict().items():
                    np.save(os.path.join(folder, f"{side}_{name}.npy"), vectors)
        pq.write_table(pairs, os.path.join(folder, PAIRS_FILE))
        table = pa.table({"passage_id": passage_ids, "pair_id": pair_ids[rows]})
        pq.write_table(table, os.path.join(folder, PASSAGES_FILE))
        manifest = {
            "kind": KIND,
            "format": FORMAT,
            "encoder": {"name": encoder_name, "fingerprint": retriever.fingerprint()},
            "prepared": prepared.fingerprint(),
            "settings": dataclasses.asdict(settings),
            "counts": {
                "pairs": len(pairs),
                "passages": len(passage_ids),
                "answers": len(np.unique(pairs["answer_group"].to_numpy())),
            },
        }
        files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)
    return manifest


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


def _faiss_index(vectors: np.ndarray, ids: np.ndarray, settings: IndexSettings) -> Any:
    """Returns a trained index of unit vectors under their ids; inner product is cosine."""
    try:
        index = faiss.index_factory(vectors.shape[1], f"IDMap2,{settings.factory}", faiss.METRIC_INNER_PRODUCT)
        faiss.ParameterSpace().set_index_parameters(index, settings.search_parameters)
        index.train(vectors)
        index.add_with_ids(vectors, ids)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        wanted = ", ".join(filter(None, (settings.factory, settings.search_parameters)))
        raise ValueError(
            f"FAISS cannot build {wanted!r} over {len(vectors)} vectors "
            f"({reason}). Expected a factory string such as Flat, HNSW32 or IVF64,Flat, more vectors than the lists it "
            "asks for, and parameters that it has, such as efSearch=64 or nprobe=16."
        ) from error
    return index


class Index:
    """A built index, opened for one encoder."""

    def __init__(self, index_dir: str, retriever: TrainedRetriever, device: str = "auto"):
        """Opens an index.

        Args:
          index_dir: what `build` wrote.
          retriever: the encoder whose vectors will be searched; it must be the one of the index.
          device: cpu, gpu, or auto: the GPU if faiss-gpu and one are there.

        Raises:
          ValueError: no finished index, or one of another encoder.
        """
        self.manifest = read_manifest(index_dir, KIND, FORMAT, _REMEDY)
        built_with, received = self.manifest["encoder"], retriever.fingerprint()
        if built_with["fingerprint"] != received:
            raise ValueError(
                f"{index_dir} was built with the encoder {built_with['name']!r} (fingerprint "
                f"{built_with['fingerprint'][:12]}); received one with fingerprint {received[:12]}. Their vectors "
                "cannot be compared: give that encoder, or build the index again with this one."
            )
        self.num_answers: int = self.manifest["counts"]["answers"]
        self._pairs = pq.read_table(os.path.join(index_dir, PAIRS_FILE))
        self._row_of_pair = {pair_id: row for row, pair_id in enumerate(self._pairs["pair_id"].to_pylist())}
        self._group_of_row = self._pairs["answer_group"].to_numpy()
        passages = pq.read_table(os.path.join(index_dir, PASSAGES_FILE)).to_pydict()
        self._pair_of_passage = dict(zip(passages["passage_id"], passages["pair_id"], strict=True))
        self._faiss = {
            by: _on_device(_read_faiss(os.path.join(index_dir, name)), device) for by, name in _FAISS_FILES.items()
        }

        self._max_fetched = _MAX_GPU_K if device != "cpu" and _has_gpu() else sys.maxsize

    def search(self, query_vector: np.ndarray, k: int, search_by: Side = "answer") -> list[Hit]:
        """Finds the k nearest answers.

        Args:
          query_vector: [D] float32, unit norm, from `encode_question`.
          k: how many, 1 to `num_answers`.
          search_by: compare the query with answers, or with the questions that they answer.

        Returns:
          k hits, the best first, no two with the same answer; an approximate index may find fewer, at least one.

        Raises:
          ValueError: k or search_by is out of range, or nothing was found.
        """
        if not 1 <= k <= self.num_answers:
            raise ValueError(f"k is {k}; expected 1 to {self.num_answers}, the answers of this index.")
        if search_by not in self._faiss:
            raise ValueError(f"search_by is {search_by!r}; expected {' or '.join(self._faiss)}.")
        index = self._faiss[search_by]
        most = min(index.ntotal, self._max_fetched)
        fetched, best = 0, []
        while len(best) < k and fetched < most:
            # Several passages may belong to one answer: fetch more until there are k answers.
            fetched = min(2 * max(fetched, k), most)
            scores, ids = index.search(query_vector[None].astype(np.float32), fetched)
            best = self._best_of_each_answer(scores[0], ids[0], search_by)
        if not best:
            raise ValueError(
                "The index found nothing: it looked where no vector is. Build it with --search_parameters=nprobe=16, "
                "or with --factory=Flat."
            )
        return [self._hit(row, score) for row, score in best[:k]]

    def _best_of_each_answer(self, scores: np.ndarray, ids: np.ndarray, search_by: Side) -> list[tuple[int, float]]:
        """Returns (row of pairs.parquet, score), the first of each answer group; both inputs are sorted by score."""
        best: dict[int, tuple[int, float]] = {}
        for score, found in zip(scores.tolist(), ids.tolist(), strict=True):
            if found in (self._pair_of_passage if search_by == "answer" else self._row_of_pair):
                row = self._row_of_pair[self._pair_of_passage[found] if search_by == "answer" else found]
                best.setdefault(int(self._group_of_row[row]), (row, score))
        return list(best.values())

    def _hit(self, row: int, score: float) -> Hit:
        values = {name: self._pairs[name][row].as_py() for name in _TEXT_COLUMNS if name != "answer_group"}
        return Hit(score=score, **values)


def _read_faiss(path: str) -> Any:
    try:
        return faiss.read_index(path)
    except RuntimeError as error:
        reason = str(error).splitlines()[-1]
        raise ValueError(f"{path} is missing or damaged ({reason}). {_REMEDY}") from error


def _on_device(index: Any, device: str) -> Any:
    """Returns the index, on the GPU if asked for (or `auto`) and possible."""
    if device == "gpu" and not _has_gpu():
        raise ValueError(
            "index_device is gpu, but there is no GPU or faiss has no GPU support. Install the extra gpu, or use cpu."
        )
    if device == "cpu" or not _has_gpu():
        return index
    try:
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    except RuntimeError as error:
        if device == "gpu":
            raise ValueError(
                f"This kind of index cannot be searched on a GPU ({error}). Use --index_device=cpu."
            ) from error
        logging.warning("This kind of index cannot be searched on a GPU; it stays on the CPU (%s).", error)
        return index


def _has_gpu() -> bool:
    return hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus() > 0


def _define_flags() -> None:
    defaults = IndexSettings()
    flags.DEFINE_string("model_dir", None, "Trained retriever, or a bare encoder folder.", required=True)
    flags.DEFINE_string("prepared_dir", None, "The prepared folder whose pairs are indexed.", required=True)
    flags.DEFINE_string("index_dir", None, "The index folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace index_dir if it is there.")
    flags.DEFINE_string("factory", defaults.factory, "FAISS factory string: Flat, HNSW32, IVF256,Flat, ...")
    flags.DEFINE_string(
        "search_parameters", defaults.search_parameters, "How thorough it searches: nprobe=16, efSearch=64, ..."
    )
    flags.DEFINE_integer("passage_tokens", defaults.passage_tokens, "0: one passage an answer; else tokens a passage.")
    flags.DEFINE_integer("passage_overlap", defaults.passage_overlap, "Tokens that a passage shares with the next.")
    flags.DEFINE_bool("export_embeddings", defaults.export_embeddings, "Keep all vectors as .npy files.")


def main(argv: list[str]) -> None:
    """Builds the index that the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    settings = IndexSettings(**{field.name: values[field.name].value for field in dataclasses.fields(IndexSettings)})
    try:
        training.set_up()
        retriever = TrainedRetriever.load(values.model_dir)
        prepared = PreparedFolder(values.prepared_dir)
        manifest = build(retriever, prepared, values.index_dir, settings, values.model_dir, values.overwrite)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"index_dir": values.index_dir, **manifest["counts"]}))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
