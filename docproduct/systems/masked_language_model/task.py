"""The task of masked-language-model training for the loop: batches with masks, loss, evaluation on dev, report.

B rows of one replica, T tokens
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipeline.batches import pad_rows, shuffled_batches
from data_pipeline.token_rows.masking import NO_TARGET, mask
from data_pipeline.token_rows.plain_texts import PlainTexts, rows_of
from data_pipeline.tokenizers.whole_words import WholeWords
from docproduct.systems.masked_language_model import report
from docproduct.systems.masked_language_model.config import MaskedTraining
from docproduct.systems.masked_language_model.dev import DevEvaluation
from docproduct.systems.masked_language_model.folder import TrainedMaskedModel
from docproduct.systems.masked_language_model.losses import logits_of_targets
from docproduct.systems.masked_language_model.start import Vocabulary
from docproduct.systems.retriever.batches import GeneratedBatches
from docproduct.training.gradients import Batch, Gather, chunked_gradients, num_rows, whole_gradients
from docproduct.training.task import Task


class MaskedTask(Task):
    """Trains an encoder and its head to predict masked tokens."""

    best_metric, lowest_is_best = "perplexity", True

    def __init__(
        self,
        config: MaskedTraining,
        texts: PlainTexts,
        trained: TrainedMaskedModel,
        vocabulary: Vocabulary,
        model_dir: str,
    ):
        """Cuts the texts into rows, and writes nothing.

        Args:
          config: what to train.
          texts: the texts.
          trained: the model before its first step, made under the strategy's scope.
          vocabulary: what its vocabulary knows of the texts.
          model_dir: the folder of weights and report.

        Raises:
          ValueError: the tokenizer has no mask token, or there is nothing to learn or to score.
        """
        self.trained, self.modules = trained, (trained.model,)
        self._config, self._texts, self._vocabulary, self._model_dir = config, texts, vocabulary, model_dir
        self._words = WholeWords.of(trained.tokenizer)
        self.rows = rows_of(texts.train, trained.tokenizer, self._words, config.max_tokens)
        self.dev_rows = rows_of(texts.dev, trained.tokenizer, self._words, config.max_tokens)
        self.num_rows = len(self.rows)
        if not self.rows or not self.dev_rows:
            raise ValueError("The texts have no tokens. Give other texts.")
        logging.info("%d train rows, %d dev rows.", len(self.rows), len(self.dev_rows))
        every = -(-len(self.dev_rows) // config.dev_rows)
        pad_id, share = trained.tokenizer.pad_id, config.mask_share
        self._evaluation = DevEvaluation(trained.model, self.dev_rows[::every], self._words, share, pad_id)

    def start(self) -> dict[str, Any]:
        """Returns fingerprints of the data and of the untrained model; a resumed run must have the same."""
        return {
            "texts": self._texts.fingerprint(),
            "start": self.trained.fingerprint(),
            "dtype_policy": self.trained.model.bert.dtype_policy.name,  # chosen by precision=auto
        }

    def batches(self, epoch: int, skip: int) -> GeneratedBatches:
        """Returns the batches of an epoch without the first `skip`: "masked_ids" and "target_ids", [B, T] int32."""
        spec = dict.fromkeys(("masked_ids", "target_ids"), tf.TensorSpec([None, None], tf.int32))
        return GeneratedBatches(self._batches(epoch, skip), spec)

    def _batches(self, epoch: int, skip: int) -> Iterator[Batch]:
        settings = self._config.settings
        order = shuffled_batches(np.array(list(map(len, self.rows))), settings.batch_size, settings.seed, epoch)
        for places in order[skip:]:
            masked = [self.mask(place, epoch) for place in places.tolist()]
            yield {
                "masked_ids": tf.convert_to_tensor(pad_rows([ids for ids, _ in masked], self.trained.tokenizer.pad_id)),
                "target_ids": tf.convert_to_tensor(pad_rows([targets for _, targets in masked], NO_TARGET)),
            }

    def mask(self, row: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns what the model reads of a train row and what it is to predict; each epoch has masks of its own."""
        random = np.random.default_rng([self._config.settings.seed, epoch, row])
        return mask(self.rows[row], self._words, random, self._config.mask_share)

    def count_tokens(self, batch: Batch) -> tuple[int, int]:
        """Returns the number of real tokens in a batch, and the number of places with padding."""
        ids = batch["masked_ids"].numpy()
        return int((ids != self.trained.tokenizer.pad_id).sum()), ids.size

    def gradients(self, batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Returns the loss of a batch and its gradients; every masked token counts alike, whatever its row."""
        targets_of_rows = tf.reduce_sum(tf.cast(batch["target_ids"] != NO_TARGET, tf.float32), axis=1)  # [B]
        targets_of_all = gather(targets_of_rows)  # of all replicas
        # The loop divides by the number of rows: with this factor the mean over rows is the mean over masked tokens.
        factor = tf.cast(tf.size(targets_of_all), tf.float32) / tf.maximum(tf.reduce_sum(targets_of_all), 1.0)
        rows = batch | {"factor": tf.fill([num_rows(batch)], factor)}
        if self._config.chunk_size:
            return chunked_gradients(self.loss, self.modules, rows, gather, self._config.chunk_size)
        return whole_gradients(self.loss, self.modules, rows, gather)

    def loss(self, batch: Batch, gather: Gather) -> tf.Tensor:
        """Returns the sum of the cross-entropies of a batch's masked tokens, each with its row's factor."""
        del gather  # the loss of a row does not depend on other rows
        ids, targets = batch["masked_ids"], batch["target_ids"]
        logits, expected, rows = logits_of_targets(self.trained.model, ids, targets, training=True)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(expected, logits)  # [M]
        return tf.reduce_sum(losses * tf.gather(batch["factor"], rows))

    def evaluate(self) -> dict[str, float]:
        """Returns perplexity, loss and accuracy of the masked tokens of dev."""
        return self._evaluation()

    def save(self) -> None:
        """Writes the weights."""
        self.trained.save_weights(self._model_dir)

    def report(self, history: dict[str, Any]) -> None:
        """Writes the model card."""
        rows = (len(self.rows), len(self.dev_rows))
        report.write(self._model_dir, self._config, self._texts, self._vocabulary, rows, history)
