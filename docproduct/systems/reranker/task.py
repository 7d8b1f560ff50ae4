"""The reranker's task for the training loop: batches of questions with candidates, loss, evaluation on dev, report.

B questions of one replica, C candidates of each (its own answer, then K hard negatives), T tokens
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import splits
from data_pipeline.batches import pad_rows
from data_pipeline.batches.hard_negatives import HardNegatives
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.reranker import report
from docproduct.systems.reranker.config import RerankerTraining
from docproduct.systems.reranker.dev import RerankEvaluation
from docproduct.systems.reranker.folder import TrainedReranker
from docproduct.systems.reranker.pairs import grouped, join, text_ids
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.batches import GeneratedBatches
from docproduct.systems.retriever.dev import DevEvaluation, text_vectors
from docproduct.systems.retriever.dev_sets import held_out_rows
from docproduct.training.gradients import Batch, Gather, chunked_gradients, whole_gradients
from docproduct.training.task import Task

_MAX_GROUPS = 6  # of similar length: each makes the graph larger
_ROWS_OF_GROUP = 8  # at least
_GROUPS = ("question_group", "answer_group")
_EXCLUDED = -1e9  # the logit of a candidate that is no negative


class RerankerTask(Task):
    """Trains a cross-encoder to tell a question's own answer from hard negatives.

    Attributes:
      reranker: what is trained.
      num_groups: groups of similar length that the pairs of a step are read in.
    """

    best_metric = "RR@10"

    def __init__(
        self,
        config: RerankerTraining,
        prepared: PreparedFolder,
        reranker: TrainedReranker,
        retriever: TrainedRetriever,
        model_dir: str,
    ):
        """Opens the data of a training, and writes nothing.

        Args:
          config: what to train.
          prepared: the pairs.
          reranker: the model before its first step, made under the strategy's scope.
          retriever: finds the candidates of dev's questions.
          model_dir: the folder of weights and report.
        """
        self.reranker, self.modules = reranker, (reranker.model,)
        self._config, self._prepared, self._model_dir = config, prepared, model_dir
        seed = config.settings.seed
        self._negatives = HardNegatives(config.negatives_dir, prepared, config.num_negatives, seed)
        table = prepared.table(["pair_id", "question", "answer", "split", *_GROUPS])
        self._groups = {name: table[name].to_numpy() for name in ("pair_id", *_GROUPS)}  # [pairs] each
        held_out = held_out_rows(prepared)
        self._train = np.setdiff1d(np.flatnonzero(table["split"].to_numpy() == splits.TRAIN), held_out)
        self.num_rows = len(self._train)
        # The shards' ids may be cut shorter than they may be in a pair: texts are tokenized again.
        texts = (table[name].to_pylist() for name in ("question", "answer"))
        self._ids = text_ids(reranker.tokenizer, reranker.config, *texts)
        together = (config.chunk_size or config.settings.batch_size) * (1 + config.num_negatives)
        self.num_groups = max(1, min(_MAX_GROUPS, together // _ROWS_OF_GROUP))
        reranker.compile_for_many()
        retriever.compile_for_many()
        evaluation = DevEvaluation(prepared, config.dev_train_answers, text_vectors(retriever), held_out)
        first_hits = evaluation.first_hits(config.rerank_depth, config.dev_questions, retriever.hybrid)
        self._evaluation = RerankEvaluation(first_hits, reranker)

    def start(self) -> dict[str, Any]:
        """Returns fingerprints of the data and of the untrained model; a resumed run must have the same."""
        return {
            "prepared": self._prepared.fingerprint(),
            "negatives": self._negatives.fingerprint,
            "retriever": self.reranker.retriever,
            "start": self.reranker.fingerprint(),  # the encoder's weights and the seed
            "dtype_policy": self.reranker.model.bert.dtype_policy.name,  # chosen by precision=auto
        }

    def batches(self, epoch: int, skip: int) -> GeneratedBatches:
        """Returns the batches of an epoch without the first `skip`.

        A batch has "pair_ids" [B, C, T] int32, where a question's own answer comes first, "question_lengths" [B] int32,
        and "is_candidate" [B, C] bool, false for negatives that may be right answers.
        """
        candidates = 1 + self._config.num_negatives
        spec = {
            "pair_ids": tf.TensorSpec([None, candidates, None], tf.int32),
            "question_lengths": tf.TensorSpec([None], tf.int32),
            "is_candidate": tf.TensorSpec([None, candidates], tf.bool),
        }
        return GeneratedBatches(self._batches(epoch, skip), spec)

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        size = self._config.settings.batch_size
        random = np.random.default_rng([self._config.settings.seed, epoch])
        order = random.permutation(self._train)
        for start in range(skip * size, len(order), size):
            yield self._batch(order[start : start + size], epoch)

    def _batch(self, rows: np.ndarray, epoch: int) -> Batch:
        """Returns the batch of some rows of pairs.parquet, [B] int."""
        negatives, _ = self._negatives.draw(self._groups["pair_id"][rows], epoch)  # [B, K]
        candidates = np.concatenate([rows[:, None], negatives], axis=1)  # [B, C]
        questions, answers = self._ids
        max_tokens = self.reranker.config.max_tokens
        pairs = [
            join(questions[row], answers[candidate], max_tokens)
            for row, own in zip(rows.tolist(), candidates.tolist(), strict=True)
            for candidate in own
        ]
        ids = pad_rows(pairs, self.reranker.tokenizer.pad_id)
        is_candidate = np.ones(candidates.shape, bool)
        for name in _GROUPS:
            groups = self._groups[name]
            is_candidate[:, 1:] &= groups[negatives] != groups[rows][:, None]
        return {
            "pair_ids": tf.convert_to_tensor(ids.reshape(*candidates.shape, -1)),
            "question_lengths": tf.convert_to_tensor([len(questions[row]) for row in rows.tolist()], tf.int32),
            "is_candidate": tf.convert_to_tensor(is_candidate),
        }

    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in a batch, and the number of places in its groups."""
        ids = batch["pair_ids"].numpy()
        lengths = np.sort((ids != self.reranker.tokenizer.pad_id).sum(axis=2).reshape(-1))
        groups = np.split(lengths, [len(lengths) * i // self.num_groups for i in range(1, self.num_groups)])
        return int(lengths.sum()), sum(int(part[-1]) * len(part) for part in groups if len(part))

    def gradients(self, batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the loss of a batch and its gradients."""
        if self._config.chunk_size:
            return chunked_gradients(self.loss_of_batch, self.modules, batch, gather, self._config.chunk_size)
        return whole_gradients(self.loss_of_batch, self.modules, batch, gather)

    def loss_of_batch(self, batch: Batch, gather: Gather) -> tf.Tensor:
        """Returns the sum over the questions of the cross-entropy of their own answer among the candidates."""
        del gather  # a question's loss depends on its own candidates only
        logits = tf.where(batch["is_candidate"], self.logits_of_batch(batch), _EXCLUDED)
        own = tf.zeros(tf.shape(logits)[:1], tf.int32)
        return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits))

    def logits_of_batch(self, batch: Batch) -> tf.Tensor:
        """Returns the logits of the candidates, [B, C]."""
        ids = batch["pair_ids"]
        num_candidates, width = ids.shape[1], tf.shape(ids)[2]
        question_lengths = tf.repeat(batch["question_lengths"], num_candidates)  # [B * C]
        rows = tf.reshape(ids, [-1, width])
        groups, lengths, places = grouped(rows, question_lengths, self.num_groups, self.reranker.tokenizer.pad_id)
        logits = self.reranker.model(groups, lengths, training=True)
        return tf.reshape(tf.gather(logits, places), [-1, num_candidates])

    def evaluate(self) -> dict[str, float]:
        """Chooses the weight of the logits on dev, and returns RR@10 and Success@1 with it."""
        return self._evaluation()

    def save(self) -> None:
        """Writes the weights, and how much the logits count."""
        self.reranker.save_weights(self._model_dir, self._evaluation.dev)

    def report(self, history: dict[str, Any]) -> None:
        """Writes the model card."""
        report.write(self._model_dir, self._config, self.reranker.config, self._prepared, history)
