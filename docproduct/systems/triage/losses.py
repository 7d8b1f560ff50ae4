"""The losses of labels and replies, and how they are weighted.

B rows of one replica, L labels, R tokens of the longest reply
"""

import keras
import tensorflow as tf
from keras import ops

from docproduct.layers.gpt2 import GPT2

PAD = -1  # of replies: no token has this id
_SPEED = 200  # AdamW moves a variable by the learning rate a step: too little for a weight of a loss


class TaskWeights(keras.layers.Layer):
    """Learns how much each task counts, from how uncertain it is.

    Source: Kendall et al. 2018, "Multi-Task Learning Using Uncertainty to Weigh Losses", for classification: a loss
    counts exp(-s), and s / 2 is added, so that the weights do not collapse to 0.
    """

    def __init__(self, num_tasks: int):
        super().__init__(name="task_weights")
        self.scaled = self.add_weight(shape=(num_tasks,), initializer="zeros", name="scaled_log_variances")
        self.built = True

    @property
    def log_variances(self) -> tf.Tensor:
        """[tasks], s of each."""
        return self.scaled * _SPEED

    def call(self, losses: tf.Tensor) -> tf.Tensor:
        """[tasks] mean losses -> their weighted sum, a scalar."""
        return ops.sum(ops.exp(-self.log_variances) * losses + self.log_variances / 2)


def label_losses(logits: tf.Tensor, classes: tf.Tensor, label_smoothing: float) -> tf.Tensor:
    """Returns the cross-entropy of each row's label; 0 for a row without one.

    Args:
      logits: [B, L] float32.
      classes: [B] int; negative: the row has no label.
      label_smoothing: share of the target probability that is spread over all labels.
    """
    log_probs = tf.nn.log_softmax(logits)
    right = tf.gather(log_probs, tf.maximum(classes, 0), batch_dims=1)
    smoothed = (1 - label_smoothing) * right + label_smoothing * tf.reduce_mean(log_probs, axis=1)
    return tf.where(classes >= 0, -smoothed, 0.0)


def reply_losses(
    decoder: GPT2, reply_ids: tf.Tensor, states: tf.Tensor, mask: tf.Tensor, training: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the negative log-likelihood of each reply, given the text.

    Args:
      decoder: attends to the states.
      reply_ids: [B, R] int32, padded behind with `PAD`: the beginning mark, the reply, its end. A row of padding alone
        has no reply.
      states: [B, T, D], of the encoder.
      mask: [B, T], 1 for a real token.
      training: whether dropout acts.

    Returns:
      The sum over the tokens after the first, and their number, [B] float32 each.
    """
    inputs, targets = tf.maximum(reply_ids[:, :-1], 0), reply_ids[:, 1:]
    segments = tf.cast(reply_ids[:, :-1] != PAD, tf.int32)
    places = tf.where(targets != PAD)  # [N, 2]
    hidden = decoder(inputs, segments, encoder_states=states, encoder_mask=mask, training=training)
    logits = decoder.logits(tf.gather_nd(hidden, places))  # [N, V]: only where something is learned
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather_nd(targets, places), logits)
    rows, num_rows = tf.cast(places[:, 0], tf.int32), tf.shape(reply_ids)[0]
    sums = tf.math.unsorted_segment_sum(losses, rows, num_rows)
    return sums, tf.math.unsorted_segment_sum(tf.ones_like(losses), rows, num_rows)
