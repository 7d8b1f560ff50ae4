"""The loss of ranked choices: a softmax where one is right, a decision for each where several may be.

B questions, C choices of the one with most
"""

import tensorflow as tf


def choice_losses(scores: tf.Tensor, right: tf.Tensor, exists: tf.Tensor, several: tf.Tensor) -> tf.Tensor:
    """Returns the loss of each question, [B] float32 nats.

    Args:
      scores: [B, C] float32.
      right: [B, C] float32, 1 for a right choice.
      exists: [B, C] bool, false where a question has fewer choices.
      several: [B] bool, whether several choices may be right. If not, the loss is the cross-entropy of the softmax
        over the choices, else the mean binary cross-entropy of the choices.
    """
    masked = tf.where(exists, scores, -1e9)
    one = tf.reduce_logsumexp(masked, axis=1) - tf.reduce_sum(right * tf.where(exists, scores, 0.0), axis=1)
    each = tf.nn.sigmoid_cross_entropy_with_logits(labels=right, logits=tf.where(exists, scores, 0.0))
    real = tf.cast(exists, tf.float32)
    many = tf.reduce_sum(each * real, axis=1) / tf.maximum(tf.reduce_sum(real, axis=1), 1.0)
    return tf.where(several, many, one)
