"""The loss of masked tokens.

B rows, T tokens, M masked tokens in all rows, V token ids
"""

import tensorflow as tf

from data_pipeline.token_rows.masking import NO_TARGET
from docproduct.systems.masked_language_model.model import MaskedLanguageModel


def logits_of_targets(
    model: MaskedLanguageModel, ids: tf.Tensor, targets: tf.Tensor, training: bool
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns what a model says of the masked tokens.

    Args:
      model: the model.
      ids: [B, T] int32, padded, with mask tokens.
      targets: [B, T] int32, NO_TARGET where nothing is to be predicted.
      training: whether dropout acts.

    Returns:
      Logits [M, V] float32, the right ids [M] int32, and the row of each masked token [M] int64.
    """
    flat = tf.reshape(targets, [-1])
    places = tf.where(flat != NO_TARGET)[:, 0]  # [M] int64
    logits = model(ids, tf.cast(places, tf.int32), training=training)
    return logits, tf.gather(flat, places), places // tf.cast(tf.shape(targets)[1], tf.int64)
