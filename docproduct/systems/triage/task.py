"""The triage model's task for the training loop: batches, both losses, evaluation on dev, report.

B rows of one replica, T tokens of the longest text, R of the longest reply
"""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.retriever.batches import GeneratedBatches
from docproduct.systems.triage import fit_calibration, report
from docproduct.systems.triage.config import UNCERTAINTY, TriageTraining
from docproduct.systems.triage.dev import DevEvaluation
from docproduct.systems.triage.folder import TrainedTriage
from docproduct.systems.triage.labels import weights_of
from docproduct.systems.triage.losses import PAD, TaskWeights, label_losses, reply_losses
from docproduct.systems.triage.rows import SPEC, TriageRows
from docproduct.training.gradients import Batch, Gather, chunked_gradients, whole_gradients
from docproduct.training.task import Task


class TriageTask(Task):
    """Trains a triage model on labels, on replies, or on both.

    Attributes:
      triage: what is trained.
      class_weights: [L] float32, the loss weight of each class.
    """

    def __init__(
        self,
        config: TriageTraining,
        prepared: PreparedFolder,
        triage: TrainedTriage,
        train: TriageRows,
        dev: TriageRows,
        model_dir: str,
    ):
        """Takes the parts of a training.

        Args:
          config: what to train.
          prepared: the folder of the rows.
          triage: the model before its first step, made under the strategy's scope.
          train: the rows to train on.
          dev: the rows to evaluate with.
          model_dir: the folder of weights and report.
        """
        self.triage, self.num_rows = triage, len(train)
        self._config, self._prepared, self._rows, self._model_dir = config, prepared, train, model_dir
        learns_weights = config.weighting == UNCERTAINTY and config.has_labels and config.has_replies
        self._task_weights = TaskWeights(2) if learns_weights else None
        decoder = triage.generator and triage.generator.decoder
        self.modules = tuple(part for part in (triage.model, decoder, self._task_weights) if part is not None)
        self.class_weights = weights_of(train.classes, len(triage.labels), config.labels.class_weights)
        self.best_metric, self.lowest_is_best = config.metric, config.lowest_is_best
        self._evaluation = DevEvaluation(config, triage, dev)

    def start(self) -> dict[str, Any]:
        """Returns fingerprints of the data and of the untrained model; a resumed run must have the same."""
        return {
            "prepared": self._prepared.fingerprint(),
            "start": self.triage.fingerprint(),
            "dtype_policy": self.triage.model.bert.dtype_policy.name,  # chosen by precision=auto
        }

    def batches(self, epoch: int, skip: int) -> GeneratedBatches:
        """Returns the batches of an epoch without the first `skip`: "text_ids", "classes" and "reply_ids"."""
        settings = self._config.settings
        return GeneratedBatches(self._rows.batches(settings.batch_size, settings.seed, epoch, skip), SPEC)

    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in the texts of a batch, and the number of places with padding."""
        ids = batch["text_ids"].numpy()
        return int(np.sum(ids != self._rows.pad_id)), ids.size

    def gradients(self, batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the loss of a batch and its gradients.

        Every labeled row counts by the weight of its class, and every token of a reply alike, whatever its row.
        """
        # Of a row without a label, the weight is 0.
        weights = tf.constant([0.0, *self.class_weights], tf.float32)
        label_weights = tf.gather(weights, batch["classes"] + 1)  # [B]
        tokens = tf.reduce_sum(tf.cast(batch["reply_ids"][:, 1:] != PAD, tf.float32), axis=1)  # [B]
        rows = batch | {
            "label_weights": label_weights * _factor(label_weights, gather),
            "reply_weights": tf.ones_like(tokens) * _factor(tokens, gather),
            # The loop divides by the number of all rows: what is added once is added in every row.
            "ones": tf.ones_like(tokens),
        }
        if self._config.chunk_size:
            return chunked_gradients(self.loss, self.modules, rows, gather, self._config.chunk_size)
        return whole_gradients(self.loss, self.modules, rows, gather)

    def loss(self, batch: Batch, gather: Gather) -> tf.Tensor:
        """Returns the sum over the rows of their weighted losses."""
        del gather  # the loss of a row does not depend on other rows
        config, triage = self._config, self.triage
        logits, states = triage.model(batch["text_ids"], training=True)
        labels = replies = tf.zeros([])
        if config.has_labels:
            losses = label_losses(logits, batch["classes"], config.labels.label_smoothing)
            labels = tf.reduce_sum(losses * batch["label_weights"])
        if config.has_replies:
            mask = tf.cast(batch["text_ids"] != self._rows.pad_id, tf.int32)
            decoder = triage.generator.decoder
            sums, _ = reply_losses(decoder, batch["reply_ids"], tf.cast(states, tf.float32), mask, training=True)
            replies = tf.reduce_sum(sums * batch["reply_weights"])
        if self._task_weights:
            count = tf.maximum(tf.reduce_sum(batch["ones"]), 1.0)
            return self._task_weights(tf.stack([labels, replies]) / count) * count
        return labels + replies * (config.reply_weight if config.has_labels else 1.0)

    def evaluate(self) -> dict[str, float]:
        """Returns the metrics on dev."""
        return self._evaluation()

    def save(self) -> None:
        """Writes the weights, with the calibration that suits them."""
        if self._config.has_labels:
            logits, classes = self._evaluation.logits, self._evaluation.classes
            self.triage.calibration = fit_calibration.fit(
                logits, classes, self._config.sure_accuracy, self._config.sure_prob
            )
        self.triage.save_weights(self._model_dir)

    def improve(self, history: dict[str, Any]) -> dict[str, float]:
        """Stores vectors of train texts with the kept weights, by which the model tells texts of another kind."""
        # A run that was killed here, and resumed, has not evaluated anything yet.
        if history["best"] != history["epochs"][-1] or not self._evaluation.done:
            self.triage.load_weights(self._model_dir)
            self._evaluation()
        if self.triage.model.known is not None:
            random = np.random.default_rng(self._config.settings.seed)
            # Fewer rows than texts in the prepared folder may be trained on: some are then known twice.
            rows = np.resize(random.permutation(self.num_rows), self.triage.config.num_known)
            vectors = self.triage.vectors([self._rows.text_ids[row] for row in rows.tolist()])
            self.triage.model.known.assign(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
            known_from = float(np.quantile(self._evaluation.familiarity(), 1 - self._config.known_share))
            self.triage.calibration = dataclasses.replace(self.triage.calibration, known_from=known_from)
            self.triage.save_weights(self._model_dir)
        return {}

    def report(self, history: dict[str, Any]) -> None:
        """Writes the model card of the weights that were kept, after `improve`."""
        report.write(self._model_dir, self._config, self.triage, self._prepared, history, self._evaluation)


def _factor(weights: tf.Tensor, gather: Gather) -> tf.Tensor:
    """Returns the factor that turns the loop's mean over all rows into a mean over weights, [B] of all replicas."""
    of_all = gather(weights)
    return tf.cast(tf.size(of_all), tf.float32) / tf.maximum(tf.reduce_sum(of_all), 1e-6)
