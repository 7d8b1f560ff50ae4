"""Evaluation of a masked language model on dev: always the same masks, whatever the seed.

B rows, T tokens, M masked tokens in all rows
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.batches import pad_rows
from data_pipeline.token_rows.masking import NO_TARGET, mask
from data_pipeline.tokenizers.whole_words import WholeWords
from docproduct.systems.masked_language_model.losses import logits_of_targets
from docproduct.systems.masked_language_model.model import MaskedLanguageModel

_BATCH_TOKENS = 4_096


class DevEvaluation:
    """Scores a model on dev rows.

    Attributes:
      num_targets: masked tokens in all rows.
    """

    def __init__(
        self, model: MaskedLanguageModel, rows: Sequence[np.ndarray], words: WholeWords, mask_share: float, pad_id: int
    ):
        """Draws the masks.

        Args:
          model: is scored.
          rows: [T] int32 each.
          words: where words begin.
          mask_share: share of the tokens that are masked.
          pad_id: id of padding.

        Raises:
          ValueError: no token can be masked.
        """
        masked = [mask(ids, words, np.random.default_rng([place]), mask_share) for place, ids in enumerate(rows)]
        self.num_targets = sum(int((targets != NO_TARGET).sum()) for _, targets in masked)
        if not self.num_targets:
            raise ValueError("No token of dev can be masked: all are unknown or special. Give more, or other, texts.")
        self._batches = [
            (
                pad_rows([masked[place][0] for place in places.tolist()], pad_id),
                pad_rows([masked[place][1] for place in places.tolist()], NO_TARGET),
            )
            for places in batches.length_order(np.array(list(map(len, rows))), _BATCH_TOKENS)
        ]
        signature = [tf.TensorSpec([None, None], tf.int32)] * 2

        @tf.function(input_signature=signature, autograph=False)
        def score(ids: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits, expected, _ = logits_of_targets(model, ids, targets, training=False)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(expected, logits)
            right = tf.argmax(logits, axis=1, output_type=tf.int32) == expected
            return tf.reduce_sum(losses), tf.reduce_sum(tf.cast(right, tf.int32))

        self._score = score

    def __call__(self) -> dict[str, float]:
        """Returns loss (nats), perplexity and accuracy of the masked tokens."""
        scores = [self._score(ids, targets) for ids, targets in self._batches]
        loss = sum(float(part) for part, _ in scores) / self.num_targets
        return {
            "perplexity": math.exp(min(loss, 100.0)),
            "dev_loss": loss,
            "masked_accuracy": sum(int(right) for _, right in scores) / self.num_targets,
        }
