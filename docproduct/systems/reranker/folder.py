"""A trained reranker: its folder, and the scores of answers.

config.json          exact config, training settings, seed, versions, git commit
weights.safetensors  metrics.json  learning_curve.png
vocab.txt or tokenizer.json, tokenizer_config.json
rerank.json          the weight of the logits that was best on dev
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.folders import files
from data_pipeline.settings import from_json
from data_pipeline.tokenizers import Tokenizer
from docproduct import model_folder
from docproduct.layers import checkpoints
from docproduct.layers.precision import dtype_policy
from docproduct.model_folder import CONFIG_FILE, WEIGHTS_FILE
from docproduct.systems.reranker.mixing import mix
from docproduct.systems.reranker.model import Reranker, RerankerConfig
from docproduct.systems.reranker.pairs import KnownAnswers, TextIds, grouped, join, question_ids
from docproduct.systems.retriever.folder import check_vocabulary

KIND = "docproduct reranker"
FORMAT = 1
RERANK_FILE = "rerank.json"
DEPTH = 30  # hits that are reranked by default
_BATCH_TOKENS = 8_192  # read together: enough for fast matrix products
_ROW_MULTIPLE = 1_024  # divides _BATCH_TOKENS, so that few rows are added
_NUM_GROUPS = 4  # of similar length in a batch
_WORTH_COMPILING = 256  # width of the encoder
_REMEDY = "Expected what train_embeddings.py --task=reranker wrote."


class TrainedReranker:
    """A reranker with its tokenizer.

    Attributes:
      model: The cross-encoder.
      tokenizer: Its tokenizer.
      config: The config of the model.
      weight: Share of the logits in the scores, see `mixing.mix`; 0: the retriever's order.
      retriever: Fingerprint of the retriever whose cosines the weight was chosen for; None if there was none.
    """

    def __init__(self, model: Reranker, tokenizer: Tokenizer, weight: float = 0.0, retriever: str | None = None):
        """Joins the parts.

        Raises:
          ValueError: the tokenizer has more ids than the model has rows, or another padding.
        """
        check_vocabulary(tokenizer, model.config.bert)
        self.model, self.tokenizer, self.config = model, tokenizer, model.config
        self.weight, self.retriever = weight, retriever
        self._answers = KnownAnswers(tokenizer, model.config)

        # One signature for all lengths: traced once.
        signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]

        @tf.function(input_signature=signature, autograph=False)
        def logits_of_ids(ids: tf.Tensor, question_lengths: tf.Tensor) -> tf.Tensor:
            # Groups of similar length need less padding, and share the matrix products.
            groups, lengths, places = grouped(ids, question_lengths, _NUM_GROUPS, self.tokenizer.pad_id)
            return tf.gather(self.model(groups, lengths), places)

        self._logits_of_ids = logits_of_ids

    def scores(self, question: str, answers: Sequence[str], cosines: Sequence[float]) -> np.ndarray:
        """Returns the scores to order a question's answers by, [A] float32; see `mixing.mix`.

        Args:
          question: A clean text.
          answers: A clean texts, in the order of the retriever.
          cosines: The retriever's cosine of each.
        """
        logits = self.logits_many([(question, answers)])[0] if self.weight else np.zeros(len(answers), np.float32)
        return mix(cosines, logits, self.weight)

    def logits_many(self, pairs: Sequence[tuple[str, Sequence[str]]]) -> list[np.ndarray]:
        """Returns the model's own scores of several questions' answers, [A] float32 each, without the retriever.

        All pairs are read together.

        Args:
          pairs: Each question with its answers, clean texts.
        """
        answers = list(dict.fromkeys(answer for _, given in pairs for answer in given))
        if not answers:
            return [np.zeros(0, np.float32) for _ in pairs]
        place = {answer: number for number, answer in enumerate(answers)}
        questions = question_ids(self.tokenizer, self.config, [question for question, _ in pairs])
        ids = TextIds(questions, self._answers.ids(answers))
        rows = [(number, place[answer]) for number, (_, given) in enumerate(pairs) for answer in given]
        logits = self.logits_of_rows(ids, np.array(rows))
        return np.split(logits, np.cumsum([len(given) for _, given in pairs])[:-1])

    def logits_of_rows(self, ids: TextIds, rows: np.ndarray) -> np.ndarray:
        """Returns the logits of tokenized pairs, [N] float32.

        Args:
          ids: Questions and answers.
          rows: [N, 2] int, the number of question and answer in each pair.
        """
        pairs = [join(ids.questions[q], ids.answers[a], self.config.max_tokens) for q, a in rows.tolist()]
        question_lengths = np.array([len(ids.questions[q]) for q in rows[:, 0].tolist()], np.int32)
        logits = np.empty(len(pairs), np.float32)
        for places in batches.length_order(np.array(list(map(len, pairs))), _BATCH_TOKENS):
            padded = batches.pad_rows([pairs[place] for place in places.tolist()], self.tokenizer.pad_id)
            logits[places] = self._logits_of_ids(padded, question_lengths[places])
        return logits

    def is_untrained(self) -> bool:
        """Returns whether the last layer is all zeros, as in the beginning, so that all logits are equal."""
        return not self.model.head.output_projection.kernel.numpy().any()

    def compile_for_many(self) -> None:
        """Compiles element-wise operations with XLA, on a processor and if the encoder is wide enough."""
        if not tf.config.list_physical_devices("GPU") and self.config.bert.width >= _WORTH_COMPILING:
            self.model.bert.row_multiple = _ROW_MULTIPLE

    def fingerprint(self) -> str:
        """Returns a hash of weights, config and tokenizer."""
        return checkpoints.fingerprint(self.model, repr(self.config), self.tokenizer.fingerprint)

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` describes the training."""
        described = {"reranker": dataclasses.asdict(self.config), "tokenizer": self.tokenizer.fingerprint}
        config = {"kind": KIND, "format": FORMAT, **described, **training}
        files.write_json(os.path.join(folder, CONFIG_FILE), config | model_folder.provenance())
        self.tokenizer.save(folder)

    def save_weights(self, folder: str, dev: Mapping[str, float] | None = None) -> None:
        """Writes the weights of the model, and the weight of its logits with the RR@10 that each weight has on dev."""
        checkpoints.save(self.model, os.path.join(folder, WEIGHTS_FILE))
        chosen = {"weight": self.weight, "retriever": self.retriever, "dev_RR@10": dict(dev or {})}
        files.write_json(os.path.join(folder, RERANK_FILE), chosen)

    @classmethod
    def load(cls, folder: str, precision: str = "float32", seed: int = 0) -> "TrainedReranker":
        """Loads a trained reranker.

        Args:
          folder: A folder that `train_embeddings.py --task=reranker` wrote.
          precision: Of the encoder: float32, bfloat16 or auto.
          seed: Random seed of dropout.

        Raises:
          ValueError: the folder holds something else, or its files are missing or do not fit together.
        """
        path = os.path.join(folder, CONFIG_FILE)
        stored = model_folder.read_config(folder, KIND, FORMAT, _REMEDY)
        tokenizer = model_folder.read_tokenizer(folder, stored["tokenizer"])
        chosen = files.read_json(os.path.join(folder, RERANK_FILE))
        if chosen is None:
            raise ValueError(f"{folder} has no {RERANK_FILE}, which holds the weight of the logits. {_REMEDY}")
        model = Reranker(from_json(RerankerConfig, stored["reranker"], path), seed, dtype_policy(precision))
        checkpoints.assign(
            model, checkpoints.read_safetensors(folder, WEIGHTS_FILE), os.path.join(folder, WEIGHTS_FILE)
        )
        return cls(model, tokenizer, chosen["weight"], chosen["retriever"])
