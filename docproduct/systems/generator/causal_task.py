"""What all trainings of a causal language model share: loss, gradients and weights, whatever their rows are."""

import abc
from typing import Any

import tensorflow as tf
from keras import ops

from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.losses import Tokens, next_token_losses, row_losses
from docproduct.training import mesh
from docproduct.training.gradients import Batch, Gather, chunked_gradients, num_rows, whole_gradients
from docproduct.training.task import Task


class CausalTask(Task):
    """Trains a causal language model on the tokens of its batches.

    Attributes:
      generator: what is trained.
      chunk: number of chunks of a batch, and of rows in each.
    """

    best_metric, lowest_is_best = "perplexity", True

    def __init__(self, generator: TrainedGenerator, model_dir: str, config: Any):
        """Takes the model.

        Args:
          generator: the model before its first step, made under the strategy's scope.
          model_dir: the folder of its weights.
          config: of the training, with `chunk_size`, `recompute` and `settings`.
        """
        self.generator, self.modules = generator, (generator.decoder,)
        self._model_dir, self._chunk_size, self._recompute = model_dir, config.chunk_size, config.recompute
        rows = config.chunk_size or config.settings.batch_size
        mesh.check_rows(rows)
        self.chunk = -(-config.settings.batch_size // rows), rows

    @abc.abstractmethod
    def tokens(self, batch: Batch) -> Tokens:
        """Returns the tokens of a batch, with their loss weights."""

    def start_of_model(self) -> dict[str, Any]:
        """Returns the fingerprint of the untrained model, and its dtype policy."""
        return {
            "start": self.generator.fingerprint(),
            "dtype_policy": self.generator.decoder.dtype_policy.name,  # chosen by precision=auto
        }

    def gradients(self, batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the loss of a batch and its gradients; every target token counts alike, whatever its row."""
        weights_of_rows = tf.reduce_sum(self.tokens(batch).weights, axis=1)  # [B]
        weights_of_all = gather(weights_of_rows)  # of all replicas
        # The loop divides by the number of rows: with this factor the mean over rows is the mean over tokens.
        factor = tf.cast(tf.size(weights_of_all), tf.float32) / tf.maximum(tf.reduce_sum(weights_of_all), 1.0)
        rows = batch | {"factor": tf.fill([num_rows(batch)], factor)}
        if self._chunk_size:
            return chunked_gradients(self.loss, self.modules, rows, gather, self._chunk_size)
        return whole_gradients(self.loss, self.modules, rows, gather)

    def loss(self, batch: Batch, gather: Gather) -> tf.Tensor:
        """Returns the weighted sum of the losses of a batch's tokens."""
        del gather  # the loss of a row does not depend on other rows
        tokens = self.tokens(batch)
        losses, places = next_token_losses(self.generator.decoder, tokens, True, self._recompute)
        weights = tf.gather_nd(tokens.weights, places) * tf.gather(batch["factor"], places[:, 0])
        return tf.reduce_sum(losses * weights)

    def weighted_loss(self, tokens: Tokens) -> Any:
        """Returns the weighted sum of the losses of the tokens in JAX's arrays; their ids are 0 or more."""
        losses = row_losses(self.generator.decoder, tokens, True, self._recompute)
        return ops.sum(losses * tokens.weights[:, 1:])

    def save(self) -> None:
        """Writes the weights."""
        self.generator.save_weights(self._model_dir)
