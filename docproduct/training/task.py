"""What a system gives to the training loop."""

import abc
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from docproduct.training.gradients import Batch, Gather, trainable


class Task(abc.ABC):
    """A model with its loss, its batches and its evaluation; each system has a subclass.

    The loop makes neither batches nor modules: who makes these applies `batch_size`, `seed` and `precision` of the
    TrainingSettings.

    Attributes:
      modules: what is trained, built under the strategy's scope.
      num_rows: rows of one epoch.
      best_metric: the metric among those that `evaluate` returns which decides which epoch's weights stay.
      lowest_is_best: whether a lower value of it is better.
    """

    modules: tuple[keras.layers.Layer, ...]
    num_rows: int
    best_metric: str
    lowest_is_best = False

    @abc.abstractmethod
    def gradients(self, batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the sum of the losses of a batch's rows, and its gradients with respect to `trainable_variables`.

        Args:
          batch: the rows of one replica, perhaps none.
          gather: returns a tensor's rows of all replicas.
        """

    @abc.abstractmethod
    def batches(self, epoch: int, skip: int) -> Iterable[Batch]:
        """Returns the batches of an epoch (0, 1, ...) without the first `skip`, with an `element_spec`.

        A tf.data.Dataset of dicts is one. An epoch has each of the `num_rows` rows once, in batches of the settings'
        `batch_size`; one batch may be smaller.
        """

    @abc.abstractmethod
    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in a batch, and that with padding; 0, 0 for rows that are not tokens."""

    @abc.abstractmethod
    def evaluate(self) -> dict[str, float]:
        """Returns metrics on dev."""

    @abc.abstractmethod
    def save(self) -> None:
        """Writes the weights of the best epoch so far."""

    def improve(self, history: dict[str, Any]) -> dict[str, float]:
        """Changes the kept weights after the last epoch, if that is better on dev; by default it does not.

        Returns:
          What is then new of "best" in the history. A run that was killed afterwards calls this again.
        """
        del history
        return {}

    @abc.abstractmethod
    def report(self, history: dict[str, Any]) -> None:
        """Writes the model card of the finished run, if it has one; `history` is the future content of metrics.json."""

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables that a step changes: those that are trained, and random states."""
        frozen = {id(v) for module in self.modules for v in module.weights if not v.trainable}
        return [v for module in self.modules for v in module.variables if id(v) not in frozen]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The variables that are trained."""
        return trainable(self.modules)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of batches of one epoch; the last may be smaller."""
        return -(-self.num_rows // batch_size)
