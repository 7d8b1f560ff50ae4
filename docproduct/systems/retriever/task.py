"""The retriever's task for the training loop: batches, vectors, loss, evaluation on dev, report.

Two kinds of training: the whole model on token ids, and the heads alone on vectors that a frozen encoder computed once.

    B pairs of one replica, K hard negatives a pair, T tokens, D width
"""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import batches, splits
from data_pipeline.batches import BatchSettings
from data_pipeline.batches.hard_negatives import HardNegatives
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.schemas import SIDES
from docproduct.layers import checkpoints
from docproduct.systems.retriever import blend, dev_sets, report
from docproduct.systems.retriever.batches import (
    ClusterOrder,
    GeneratedBatches,
    Pairs,
    TokenPairs,
    VectorPairs,
    in_order,
    with_negatives,
)
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.dev import DevEvaluation, Vectors, stored_vectors, text_vectors
from docproduct.systems.retriever.embedding_store import open_store
from docproduct.systems.retriever.folder import HYBRID_FILE, WEIGHTS_FILE, Side, TrainedRetriever
from docproduct.systems.retriever.losses import RetrievalLoss
from docproduct.systems.retriever.rewording import Rewording
from docproduct.training import devices
from docproduct.training.gradient_cache import cached_gradients
from docproduct.training.gradients import Batch, Gather, whole_gradients
from docproduct.training.task import Task

_MAX_GROUPS = 6  # of similar length, on each side: each makes the graph larger
_ROWS_OF_GROUP = 8  # at least
_SHOWN_MISSES = 10
_TRAINED_SHARE = "trained_share"


class RetrieverTask(Task):
    """Trains the encoder and the heads on token ids.

    Attributes:
      retriever: what is trained.
      loss: the loss, which may hold a learned scale.
      num_groups: groups of similar length that each side of a batch is encoded in.
    """

    best_metric = "RR@10"

    def __init__(
        self,
        config: RetrieverTraining,
        prepared: PreparedFolder,
        retriever: TrainedRetriever,
        strategy: tf.distribute.Strategy,
        model_dir: str,
    ):
        """Opens the data of a training, and writes nothing but the encoder's vectors, if they are needed.

        Args:
          config: what to train.
          prepared: the pairs.
          retriever: the model before its first step, made under the strategy's scope.
          strategy: where to train.
          model_dir: the folder of weights and report.
        """
        others = [dev_sets.of_beir(*named) for named in dev_sets.named_folders(config.dev_sets).items()]
        self._held_out = dev_sets.held_out_rows(prepared)
        self.retriever, self.num_rows = retriever, prepared.num_rows(splits.TRAIN) - len(self._held_out)
        self._config, self._prepared, self._model_dir = config, prepared, model_dir
        with strategy.scope():
            dims = retriever.config.matryoshka_dims
            self.loss = RetrievalLoss(dataclasses.replace(config.loss, matryoshka_dims=dims))
        self.modules = (retriever.model, self.loss)
        self._batch_settings = BatchSettings(
            config.settings.batch_size,
            config.num_buckets,
            config.boundaries or None,
            pad_to_multiple=config.pad_to_multiple,
            seed=config.settings.seed,
        )
        self._negatives: HardNegatives | None = None
        if config.negatives_dir:
            seed = config.settings.seed
            self._negatives = HardNegatives(config.negatives_dir, prepared, config.num_negatives, seed)
        self._pairs: Pairs | None = None  # in memory, if an order of their own or hard negatives need them
        self._order: ClusterOrder | None = None  # if None, batches follow the order of the shards
        self._rewording: Rewording | None = None
        self._open_pairs(strategy)
        self._evaluation = DevEvaluation(
            prepared,
            config.dev_train_answers,
            self._dev_vectors(),
            self._held_out,
            [(questions, text_vectors(retriever)) for questions in others],
        )
        # What the kept weights may be drawn back to; new weights have nothing to forget.
        self._start = _weights(retriever) if config.encoder_dir else None

    def _open_pairs(self, strategy: tf.distribute.Strategy) -> None:
        """Opens the pairs and their order."""
        config, retriever = self._config, self.retriever
        retriever.compile_for_many()
        rows_of_replica = config.settings.batch_size // strategy.num_replicas_in_sync
        encoded_together = min(rows_of_replica, config.chunk_size or rows_of_replica)
        self.num_groups = max(1, min(_MAX_GROUPS, encoded_together // _ROWS_OF_GROUP))
        if share := config.effective_reworded_share:
            self._rewording = Rewording(self._prepared, retriever, share, config.settings.seed, config.pad_to_multiple)
        has_own_order = config.cluster_size > 1 or share > 0
        if has_own_order or self._negatives:
            self._pairs = TokenPairs(self._prepared, retriever.tokenizer.pad_id, config.pad_to_multiple)
        if has_own_order:
            clustered = config.cluster_size > 1  # pairs in random order need no vectors
            self._order = self._cluster_order(
                _stored_vectors(strategy, retriever, self._prepared, "question") if clustered else None
            )

    def _dev_vectors(self) -> Vectors:
        """Returns a function that encodes rows of dev."""
        return text_vectors(self.retriever)

    def _cluster_order(self, question_vectors: np.ndarray | None) -> ClusterOrder:
        size = self._config.cluster_size
        held_out = self._held_out
        return ClusterOrder(self._prepared, self._pairs, question_vectors, size, self._batch_settings, held_out)

    def start(self) -> dict[str, Any]:
        """Returns fingerprints of the data and of the untrained model; a resumed run must have the same."""
        return {
            "prepared": self._prepared.fingerprint(),
            "negatives": self._negatives.fingerprint if self._negatives else None,
            "start": self.retriever.fingerprint(),  # the encoder's weights and the seed
            "dtype_policy": self.retriever.dtype_policy,  # chosen by precision=auto
            "dev_sets": dev_sets.fingerprint(self._config.dev_sets),
            "reworded_share": self._config.effective_reworded_share or None,  # earlier versions have no record of it
        }

    def batches(self, epoch: int, skip: int) -> Iterable[Batch]:
        """Returns the batches of an epoch without the first `skip`: both sides, groups, and hard negatives if any."""
        if self._order:
            made = in_order(self._pairs, self._order, epoch, skip, self._rewording)
            epoch_batches = GeneratedBatches(made, self._pairs.spec)
        else:
            pad_id = self.retriever.tokenizer.pad_id
            left_out = self._prepared.table(["pair_id"])["pair_id"].to_numpy()[self._held_out]
            epoch_batches = batches.training_batches(
                self._prepared, splits.TRAIN, self._batch_settings, pad_id, epoch, skip, left_out
            )
        if not self._negatives:
            return epoch_batches
        spec = epoch_batches.element_spec | self._pairs.spec_of_negatives(self._negatives.num_negatives)
        return GeneratedBatches(with_negatives(epoch_batches, self._pairs, self._negatives, epoch), spec)

    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in a batch, and the number of places with padding."""
        return batches.count_tokens(batch, self.retriever.tokenizer.pad_id)

    def gradients(self, batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the loss of a batch and its gradients; with a chunk_size, by gradient caching."""
        if self._config.chunk_size:
            return cached_gradients(
                self.encode, self.loss_of_vectors, self.modules, batch, gather, self._config.chunk_size
            )
        return whole_gradients(self.loss_of_batch, self.modules, batch, gather)

    def loss_of_batch(self, batch: Batch, gather: Gather) -> tf.Tensor:
        """Returns the sum of the losses of a batch's pairs."""
        return self.loss_of_vectors(self.encode(batch), batch, gather)

    def loss_of_vectors(self, vectors: Sequence[tf.Tensor], batch: Batch, gather: Gather) -> tf.Tensor:
        """Returns the sum of the losses of a batch's pairs from their vectors, as `encode` returns them."""
        questions, answers, *negatives = vectors
        negatives = negatives[0] if negatives else None
        return tf.reduce_sum(self.loss(questions, answers, negatives, batch=batch, gather=gather))

    def encode(self, batch: Batch) -> list[tf.Tensor]:
        """Encodes a batch of token ids, each side in groups of similar length.

        Args:
          batch: "question_ids" [B, T], "answer_ids" [B, T] and, with hard negatives, "negative_ids" [B, K, T].

        Returns:
          The vectors of questions [B, D], answers [B, D] and, with hard negatives, negatives [B, K, D].
        """
        sides = [batch["question_ids"], batch["answer_ids"]]
        if "negative_ids" in batch:
            sides.append(tf.reshape(batch["negative_ids"], [-1, tf.shape(batch["negative_ids"])[2]]))
        pad_id, multiple = self.retriever.tokenizer.pad_id, self._config.pad_to_multiple
        grouped = [batches.length_groups(ids, self.num_groups, pad_id, multiple) for ids in sides]
        answer_groups = [group for groups, _ in grouped[1:] for group in groups]
        questions, answers = self.retriever.model(grouped[0][0], answer_groups, training=True)
        num_answers = tf.shape(batch["answer_ids"])[0]
        vectors = [tf.gather(questions, grouped[0][1]), tf.gather(answers[:num_answers], grouped[1][1])]
        if "negative_ids" in batch:
            negatives = tf.gather(answers[num_answers:], grouped[2][1])
            vectors.append(tf.reshape(negatives, [-1, batch["negative_ids"].shape[1], answers.shape[-1]]))
        return vectors

    def evaluate(self) -> dict[str, float]:
        """Returns RR@10 and Success@1 on dev, RR@10 of each set, and the scale where it is learned."""
        return self._evaluation() | ({"scale": float(self.loss.scale)} if self._config.loss.learn_scale else {})

    def save(self) -> None:
        """Writes the weights."""
        self.retriever.save_weights(self._model_dir)

    def improve(self, history: dict[str, Any]) -> dict[str, float]:
        """Replaces the kept weights by the blend with the start's that dev chooses; see blend.py.

        Returns:
          The scores of the kept weights, and their "trained_share". The history gets "shares", the RR@10 of each share
          that was tried.
        """
        path = os.path.join(self._model_dir, WEIGHTS_FILE)
        end = checkpoints.read_safetensors(self._model_dir, WEIGHTS_FILE)
        done = checkpoints.read_metadata(path).get(_TRAINED_SHARE)  # by a run that was killed afterwards
        best, last = history["best"], history["epochs"][-1]
        unchanged = done is not None or self._start is None or best["epoch"] == 0
        share = 1.0 if unchanged else self._config.trained_share
        # The share whose weights the model has, with its scores: those of the last epoch, if that is the best.
        scored = {1.0: best} if done is None and best == last else {}

        def scores(share: float) -> dict[str, float]:
            if share not in scored:
                weights = end if self._start is None else blend.blended(self._start, end, share)
                checkpoints.assign(self.retriever.model, weights, path)
                scored.clear()
                scored[share] = self._evaluation()
            return scored[share]

        if share is None:
            start = history["epochs"][0][self.best_metric]
            share, tried = blend.choose(lambda share: scores(share)[self.best_metric], start)
            history["shares"] = {f"{of:g}": score for of, score in tried.items()}
        kept = scores(share)
        if share < 1:
            self.retriever.save_weights(self._model_dir, {_TRAINED_SHARE: f"{share:g}"})
        return kept | {_TRAINED_SHARE: share if done is None else float(done)}

    def report(self, history: dict[str, Any]) -> None:
        """Writes how BM25 is best joined, and the model card, both for the weights that were kept."""
        hybrid, scores = self._evaluation.choose_hybrid()
        files.write_json(os.path.join(self._model_dir, HYBRID_FILE), hybrid._asdict() | {"dev_RR@10": scores})
        misses = self._evaluation.hardest_misses(_SHOWN_MISSES)
        report.write(self._model_dir, self._config, self.retriever.config, self._prepared, history, scores, misses)


class HeadsTask(RetrieverTask):
    """Trains the heads alone, on vectors that the frozen encoder computed once."""

    def _open_pairs(self, strategy: tf.distribute.Strategy) -> None:
        self.retriever.model.freeze_encoder()
        self._vectors = {side: _stored_vectors(strategy, self.retriever, self._prepared, side) for side in SIDES}
        self._pairs = VectorPairs(self._prepared, self._vectors)
        self._order = self._cluster_order(self._vectors["question"])

    def _dev_vectors(self) -> Vectors:
        return stored_vectors(self.retriever.model, self._vectors)

    def encode(self, batch: Batch) -> list[tf.Tensor]:
        """Passes a batch of "question_vectors", "answer_vectors" and perhaps "negative_vectors" through the heads."""
        pooled, width = batch["answer_vectors"], self.retriever.config.width
        if "negative_vectors" in batch:
            pooled = tf.concat([pooled, tf.reshape(batch["negative_vectors"], [-1, width])], axis=0)
        questions, answers = self.retriever.model.heads(batch["question_vectors"], pooled, training=True)
        num_answers = tf.shape(batch["answer_vectors"])[0]
        vectors = [questions, answers[:num_answers]]
        if "negative_vectors" in batch:
            vectors.append(tf.reshape(answers[num_answers:], [-1, batch["negative_vectors"].shape[1], width]))
        return vectors


def _weights(retriever: TrainedRetriever) -> dict[str, np.ndarray]:
    return {name: v.numpy() for name, v in checkpoints.variables_by_name(retriever.model).items()}


def _stored_vectors(
    strategy: tf.distribute.Strategy, retriever: TrainedRetriever, prepared: PreparedFolder, side: Side
) -> np.ndarray:
    """Returns the encoder's vectors of one side; of several workers, one writes them, and all read the same."""
    if devices.is_chief(strategy):
        vectors = open_store(retriever, prepared, side)
        devices.wait_for_all(strategy, 0)
        return vectors
    devices.wait_for_all(strategy, 0)
    return open_store(retriever, prepared, side, make=False)
