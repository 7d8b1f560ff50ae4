"""The multiple-choice model's task for the training loop: batches, loss, evaluation on dev, report.

B questions of one replica, C choices of the one with most
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from scipy.special import expit

from data_pipeline.batches import shuffled_batches
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.multiple_choice import questions, report
from docproduct.systems.multiple_choice.config import ChoiceTraining
from docproduct.systems.multiple_choice.folder import SPEC, TrainedChooser, inputs
from docproduct.systems.multiple_choice.losses import choice_losses
from docproduct.systems.multiple_choice.metrics import choose, fit_threshold, metrics
from docproduct.systems.multiple_choice.model import scores
from docproduct.systems.multiple_choice.questions import NO_CHOICE, Asked, Encoded, tell_cut
from docproduct.systems.retriever.batches import GeneratedBatches
from docproduct.training.gradients import Batch, Gather, chunked_gradients, whole_gradients
from docproduct.training.task import Task

_TARGETS = {"right": tf.TensorSpec([None, None], tf.float32), "several": tf.TensorSpec([None], tf.bool)}


class ChoiceTask(Task):
    """Trains a language model and its head to choose."""

    def __init__(
        self,
        config: ChoiceTraining,
        prepared: PreparedFolder,
        chooser: TrainedChooser,
        train: Sequence[Asked],
        dev: Sequence[Asked],
        model_dir: str,
    ):
        """Takes the parts of a training.

        Args:
          config: what to train.
          prepared: the folder of the questions.
          chooser: the model before its first step, made under the strategy's scope.
          train: the questions to train on.
          dev: the questions to evaluate with.
          model_dir: the folder of weights and report.
        """
        self.chooser, self.num_rows = chooser, len(train)
        self.modules = (chooser.generator.decoder, chooser.head)
        self._config, self._prepared, self._model_dir = config, prepared, model_dir
        self._train, self._dev = train, dev
        self._encoded, self._dev_encoded = chooser.encode(train), chooser.encode(dev)
        tell_cut(self._encoded)
        self.best_metric = _metric(config.choice_metric, dev)
        self.lowest_is_best = self.best_metric == "loss"

    def start(self) -> dict[str, Any]:
        """Returns fingerprints of the data and of the untrained model; a resumed run must have the same."""
        return {
            "prepared": self._prepared.fingerprint(),
            "start": self.chooser.fingerprint(),
            "dtype_policy": self.chooser.generator.decoder.dtype_policy.name,  # chosen by precision=auto
        }

    def batches(self, epoch: int, skip: int) -> GeneratedBatches:
        """Returns the batches of an epoch without the first `skip`; see `model.scores` and `choice_losses`."""
        return GeneratedBatches(self._batches(epoch, skip), SPEC | _TARGETS)

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        settings, lengths = self._config.settings, np.array([len(row) for row in self._encoded])
        for places in shuffled_batches(lengths, settings.batch_size, settings.seed, epoch)[skip:]:
            yield self.batch(places.tolist())

    def batch(self, places: Sequence[int]) -> Batch:
        """Returns the batch of some train questions."""
        return inputs_and_targets([self._encoded[i] for i in places], [self._train[i] for i in places])

    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in a batch, and the number of places with padding."""
        segments = batch["segment_ids"].numpy()
        return int(segments.sum()), segments.size

    def gradients(self, batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the loss of a batch and its gradients; every question counts alike."""
        if self._config.chunk_size:
            return chunked_gradients(self.loss, self.modules, batch, gather, self._config.chunk_size)
        return whole_gradients(self.loss, self.modules, batch, gather)

    def loss(self, batch: Batch, gather: Gather) -> tf.Tensor:
        """Returns the sum of the losses of a batch's questions."""
        del gather  # the loss of a question does not depend on others
        chooser = self.chooser
        values = scores(chooser.generator.decoder, chooser.head, batch, True, self._config.recompute)
        return tf.reduce_sum(choice_losses(values, batch["right"], batch["ends"] != NO_CHOICE, batch["several"]))

    def evaluate(self) -> dict[str, float]:
        """Returns loss and metrics on dev, with the threshold that is best on train questions.

        Without questions in train where several may be right, the threshold stays one half.
        """
        chooser = self.chooser
        some = [i for i, asked in enumerate(self._train) if asked.row.several][: len(self._dev)]
        if some:
            values = [expit(row) for row in chooser.scores([self._encoded[i] for i in some])]
            chooser.threshold = fit_threshold(values, [self._train[i] for i in some])
        values = chooser.scores(self._dev_encoded)
        losses = [_loss(row, asked) for row, asked in zip(values, self._dev, strict=True)]
        chosen = choose([expit(row) for row in values], self._dev, chooser.threshold)
        return {"loss": float(np.mean(losses))} | metrics(chosen, self._dev)

    def save(self) -> None:
        """Writes the weights, with the threshold that suits them."""
        self.chooser.save_weights(self._model_dir)

    def report(self, history: dict[str, Any]) -> None:
        """Writes the model card of the weights that were kept."""
        self.chooser.load_weights(self._model_dir)  # with their threshold, which a resumed run has not fitted
        report.write(self._model_dir, self._config, self.chooser, self._prepared, history, self._train, self._dev)


def _metric(asked: str, dev: Sequence[Asked]) -> str:
    """Returns the metric that selects the epoch: the one asked for, if questions of dev have it."""
    kinds = {bool(question.row.several) for question in dev}
    there = {"loss"} | ({"accuracy"} if False in kinds else set())
    there |= {"exact_match", "hamming"} if True in kinds else set()
    if asked in there:
        return asked
    chosen = "exact_match" if True in kinds else "accuracy"
    logging.info("Dev has no %s; the %s selects the epoch.", asked.replace("_", " "), chosen.replace("_", " "))
    return chosen


def inputs_and_targets(encoded: Sequence[Encoded], asked: Sequence[Asked]) -> Batch:
    """Returns the batch of some questions, with what is right."""
    batch = inputs(questions.batch(encoded, np.arange(len(encoded))))
    right = np.zeros(batch["ends"].shape, np.float32)
    for row, question in enumerate(asked):
        right[row, list(question.row.correct)] = 1
    several = np.array([bool(question.row.several) for question in asked])
    return batch | {"right": tf.convert_to_tensor(right), "several": tf.convert_to_tensor(several)}


def _loss(scores: np.ndarray, asked: Asked) -> float:
    right = np.zeros((1, len(scores)), np.float32)
    right[0, list(asked.row.correct)] = 1
    several = tf.constant([bool(asked.row.several)])
    return float(choice_losses(scores[None], right, tf.ones_like(right, tf.bool), several)[0])
