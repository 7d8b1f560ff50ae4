"""Prompt look-up: tokens that followed the same words before are proposed, and verified in one pass of the model.

Sources: Saxena 2023, "Prompt lookup decoding"; Leviathan et al. 2023 for the verification. A proposal is accepted as
far as the model would have written the same tokens: the text is the same, and the model runs less often.

    L slots
"""

from collections.abc import Sequence

import tensorflow as tf

NUM_PROPOSED = 7  # tokens that are verified together with the last token
_NGRAMS = (3, 2)  # numbers of last tokens to look up, the longest first


def propose(ids: tf.Tensor, last: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks for an earlier occurrence of the last tokens of a text.

    Args:
      ids: [L] int32; tokens after `last` are ignored.
      last: scalar int32, the slot of the last token.
      count: number of tokens to propose.

    Returns:
      [count] int32, the tokens that followed the latest occurrence of the last three tokens, or else of the last two;
      and a scalar bool, whether there is an occurrence.
    """
    slots = tf.range(tf.shape(ids)[0])
    best = tf.constant(-1)
    for length in reversed(_NGRAMS):
        same = slots < last
        for back in range(length):
            shifted = tf.gather(ids, tf.maximum(slots - back, 0))
            same &= tf.equal(shifted, tf.gather(ids, tf.maximum(last - back, 0))) & (slots >= back)
        end = tf.reduce_max(tf.where(same, slots, -1))  # the slot where the latest occurrence ends
        best = tf.where((end >= 0) & (last >= length - 1), end, best)
    follows = tf.clip_by_value(best + 1 + tf.range(count), 0, last)
    return tf.gather(ids, follows), best >= 0


def num_accepted(predicted_ids: tf.Tensor, proposal: tf.Tensor, end_ids: Sequence[int]) -> tf.Tensor:
    """Returns how many predicted tokens count: up to the first that differs from the proposal, or ends the text.

    Args:
      predicted_ids: [n + 1] int32, the model's tokens after the last token and after each proposed token.
      proposal: [n] int32.
      end_ids: tokens that end a text.

    Returns:
      scalar int32, 1 to n + 1.
    """
    right = tf.math.cumprod(tf.cast(tf.equal(predicted_ids[:-1], proposal), tf.int32))
    ends = tf.cast(is_any(predicted_ids, end_ids), tf.int32)
    before_end = tf.math.cumprod(1 - ends, exclusive=True)
    return tf.reduce_sum(tf.concat([[1], right], axis=0) * before_end)


def is_any(ids: tf.Tensor, of: Sequence[int]) -> tf.Tensor:
    """Returns which ids are among some others, a bool of the same shape."""
    return tf.reduce_any(tf.equal(ids[..., None], tf.constant(list(of), tf.int32)), axis=-1)


def placed(whole: tf.Tensor, part: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns [B, L] with [B, Q] in the slots from `start` on."""
    columns = tf.range(tf.shape(whole)[1]) - start  # [L], the column of the part that belongs to each slot
    inside = (columns >= 0) & (columns < tf.shape(part)[1])
    return tf.where(inside, tf.gather(part, tf.where(inside, columns, 0), axis=1), whole)
