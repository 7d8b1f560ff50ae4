"""The retriever as a SavedModel: for questions and answers as ids, as texts, and with the answers to search.

    encode_question        question_ids [B, T] int32    -> vectors [B, D], encoder_vectors [B, D]
    encode_answer          answer_ids [B, T] int32      -> the same
    serving_default        encode_question, or with texts encode_question_text
  with texts (the server needs tensorflow-text's ops):
    encode_question_text   questions [B] string         -> the same
    encode_answer_text     answers [B] string           -> the same
  with answers:
    retrieve               questions [B] string, k      -> pair_ids [B, k] int64, scores [B, k]

Vectors are float32: `vectors` has unit norm, `encoder_vectors` are BERT's own. Ids are padded with the vocabulary's
[PAD]; texts are cut at the model's max_tokens.

    B texts, T tokens, D width, P passages, G answers
"""

import dataclasses
import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from docproduct.exports import saved_models
from docproduct.systems.retriever.folder import Side, TrainedRetriever
from docproduct.systems.retriever.model import unit

KIND = "docproduct exported retriever"
FORMAT = 1
_SIDES: tuple[Side, ...] = ("question", "answer")
_WARMUP_TEXT = "What helps against a cold?"
_LEAST_NORM = 1e-12
_SAME = 1e-6  # cosines that differ by less are equal, but for rounding

Vectors = dict[str, tf.Tensor]


class SearchedAnswers(NamedTuple):
    """Answers that an export searches itself; an answer may have several passages.

    Attributes:
      vectors: [P, D] float32, unit norm; narrower than the model if only their first components are compared.
      groups: [P] int64, equal for equal answers, of which a search returns one.
      pair_ids: [P] int64, the id that is returned for a passage.
    """

    vectors: np.ndarray
    groups: np.ndarray
    pair_ids: np.ndarray


def export(
    retriever: TrainedRetriever, export_dir: str, strings: bool = False, answers: SearchedAnswers | None = None
) -> str:
    """Writes the next version of an export, whole or not at all.

    Args:
      retriever: The retriever in float32, as `TrainedRetriever.load` returns it.
      export_dir: The folder of the versions; see saved_models.py.
      strings: Whether to add signatures that take texts; implied by `answers`.
      answers: Adds `retrieve` over these.

    Returns:
      The version's folder.

    Raises:
      ValueError: the retriever is loaded for encoding many texts, or there are no answers.
      FileExistsError: `export_dir` holds something else.
    """
    if retriever.dtype_policy != "float32" or retriever.model.bert.compiled:
        raise ValueError(
            f"The retriever is in {retriever.dtype_policy}, or made for many texts; expected float32. Load it with "
            "TrainedRetriever.load."
        )
    if (strings or answers is not None) and not retriever.tokenizer.in_graph:
        raise ValueError(
            "The tokenizer.json of this encoder runs in Python alone, so that a graph cannot take texts. Expected a "
            "WordPiece tokenizer as BERT's; export ids only: without strings and without an index."
        )
    if answers is not None and not len(answers.vectors):
        raise ValueError("There are no answers to search; expected one or more. Build the index from other pairs.")
    with saved_models.new_version(export_dir, KIND) as partial:
        module = _Served(retriever, answers)
        functions, requests = _ids_functions(module), _ids_requests(retriever)
        if strings or answers is not None:
            functions |= _text_functions(module, functions)
            requests |= {f"encode_{side}_text": {f"{side}s": [_WARMUP_TEXT]} for side in _SIDES}
        if answers is not None:
            functions["retrieve"] = _retrieve_function(module, functions)
            requests["retrieve"] = {"questions": [_WARMUP_TEXT], "k": 1}
        # For a client that names no signature: texts if the export takes them.
        functions["serving_default"] = functions.get("encode_question_text", functions["encode_question"])
        saved_models.save(partial, module, functions, requests)
        own = saved_models.own_files(partial)
        config = {"kind": KIND, "format": FORMAT, "fingerprint": retriever.fingerprint()}
        config |= {"signatures": list(functions), "retriever": dataclasses.asdict(retriever.config)}
        files.write_json(os.path.join(own, saved_models.CONFIG_FILE), config)
        retriever.tokenizer.save(own)
    return saved_models.newest(export_dir)


class _Served(tf.Module):
    """The computations of a version, with their variables."""

    def __init__(self, retriever: TrainedRetriever, answers: SearchedAnswers | None):
        super().__init__()
        self._retriever = retriever
        retriever.tokenizer.encode([_WARMUP_TEXT], 3)  # makes its tables here, not inside a graph that is traced
        # TensorFlow's own variables: a session would restore copies of Keras' variables.
        self.weights = [variable.value for variable in retriever.model.weights]
        if answers is not None:
            # Of equal vectors FAISS returns the later first, top_k below the earlier.
            backwards = [np.ascontiguousarray(part[::-1]) for part in answers]
            _, first, groups = np.unique(backwards[1], return_index=True, return_inverse=True)
            self._num_answers = len(first)
            rank = np.argsort(np.argsort(first))  # answers in the order of their first passage
            # Variables: a graph may not hold 2 GB of constants.
            self.answer_vectors = tf.Variable(backwards[0], trainable=False, name="answer_vectors")  # [P, dims]
            self.answers = tf.Variable(rank[groups].astype(np.int32), trainable=False, name="answers")  # [P]
            self.pair_ids = tf.Variable(backwards[2], trainable=False, name="pair_ids")  # [P]

    def encode(self, ids: tf.Tensor, side: Side) -> Vectors:
        """[B, T] -> [B, D] each."""
        model = self._retriever.model
        head = {"question": model.question_head, "answer": model.answer_head}[side]
        pooled = model.pool(ids)
        return {"vectors": unit(head(pooled)), "encoder_vectors": pooled}

    def ids(self, texts: tf.Tensor, side: Side) -> tf.Tensor:
        """[B] strings -> [B, T] int32, padded; the prompt of the side comes before each text."""
        tokenizer, prompt = self._retriever.tokenizer, getattr(self._retriever.prompts, side)
        texts = tf.strings.join([prompt, texts]) if prompt else texts
        return tokenizer.encode(texts, self._retriever.config.max_tokens).to_tensor(tokenizer.pad_id)

    def nearest(self, queries: tf.Tensor, k: tf.Tensor) -> Vectors:
        """Compares questions with all passages; the score of an answer is that of its best passage.

        Args:
          queries: [B, D], unit norm.
          k: Scalar int32, 1 or more; if there are fewer answers, all of them are returned.

        Returns:
          pair_ids [B, k] int64 and scores [B, k] float32, cosines: the best first, no two of the same answer.
        """
        tf.debugging.assert_positive(k, message="k is 0 or less; expected 1 or more.")
        dims = self.answer_vectors.shape[1]
        if dims < queries.shape[1]:
            queries = queries[:, :dims]
            queries /= tf.maximum(tf.norm(queries, axis=-1, keepdims=True), _LEAST_NORM)
        scores = tf.matmul(self.answer_vectors, queries, transpose_b=True)  # [P, B]
        best = tf.math.unsorted_segment_max(scores, self.answers, self._num_answers)  # [G, B]
        # Of an answer's passages that score as high as its best, the first is returned: rounding decides nothing.
        last = tf.shape(scores)[0]
        nearest = scores >= tf.gather(best, self.answers) - _SAME  # [P, B]
        rows = tf.where(nearest, tf.range(last)[:, None], last)
        rows = tf.math.unsorted_segment_min(rows, self.answers, self._num_answers)  # [G, B]
        highest = tf.math.top_k(tf.transpose(best), tf.minimum(k, self._num_answers))  # [B, k]
        rows = tf.gather(tf.transpose(rows), highest.indices, batch_dims=1)
        return {"pair_ids": tf.gather(self.pair_ids, rows), "scores": highest.values}


def _ids_functions(module: _Served) -> saved_models.Functions:
    def encode_question(question_ids: tf.Tensor) -> Vectors:
        return module.encode(question_ids, "question")

    def encode_answer(answer_ids: tf.Tensor) -> Vectors:
        return module.encode(answer_ids, "answer")

    ids = tf.TensorSpec([None, None], tf.int32)
    return {
        "encode_question": saved_models.traced(encode_question, {"question_ids": ids}),
        "encode_answer": saved_models.traced(encode_answer, {"answer_ids": ids}),
    }


def _ids_requests(retriever: TrainedRetriever) -> dict[str, dict[str, np.ndarray]]:
    ids = retriever.tokenizer.encode([_WARMUP_TEXT], retriever.config.max_tokens).numpy()
    return {f"encode_{side}": {f"{side}_ids": ids} for side in _SIDES}


def _text_functions(module: _Served, encode: saved_models.Functions) -> saved_models.Functions:
    """Returns the same for texts, which call the functions for ids."""

    def encode_question_text(questions: tf.Tensor) -> Vectors:
        return encode["encode_question"](question_ids=module.ids(questions, "question"))

    def encode_answer_text(answers: tf.Tensor) -> Vectors:
        return encode["encode_answer"](answer_ids=module.ids(answers, "answer"))

    texts = tf.TensorSpec([None], tf.string)
    return {
        "encode_question_text": saved_models.traced(encode_question_text, {"questions": texts}),
        "encode_answer_text": saved_models.traced(encode_answer_text, {"answers": texts}),
    }


def _retrieve_function(module: _Served, encode: saved_models.Functions) -> tf.types.experimental.ConcreteFunction:
    def retrieve(questions: tf.Tensor, k: tf.Tensor) -> Vectors:
        return module.nearest(encode["encode_question_text"](questions=questions)["vectors"], k)

    return saved_models.traced(
        retrieve, {"questions": tf.TensorSpec([None], tf.string), "k": tf.TensorSpec([], tf.int32)}
    )
