"""The generator's loss: each target token given all that stands before it in its text.

B rows of one replica, P tokens of the longest prompt, G of the longest target, T = P + G, N tokens that count
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from keras import ops

from data_pipeline.prompts.chat_prompts import OPENING_TOKENS
from docproduct.layers.array_ops import USES_JAX
from docproduct.systems.generator.model import Decoder

PAD = -1  # no token has this id


class Tokens(NamedTuple):
    """The rows of a batch, prompts and targets put together.

    Attributes:
      ids: [B, T] int32; padding at the end, `PAD`.
      texts: [B, T] int32: the number of the text that a token belongs to, from 1; 0 for padding.
      weights: [B, T] float32, loss weight of each token: 1 for target tokens, `opening_weight` for the first of them,
        `prompt_weight` for prompt tokens, 0 for padding and for the first token of all.
    """

    ids: tf.Tensor
    texts: tf.Tensor
    weights: tf.Tensor


def joined(
    prompt_ids: tf.Tensor,
    target_ids: tf.Tensor,
    end_id: int | None,
    prompt_weight: float = 0.0,
    opening_weight: float = 1.0,
) -> Tokens:
    """Puts prompts and targets together.

    Args:
      prompt_ids: [B, P] int32, padded behind with `PAD`.
      target_ids: [B, G] int32, padded behind with `PAD`.
      end_id: the token that begins another text in rows of packed documents; None: a row is one text.
      prompt_weight: loss weight of a prompt token.
      opening_weight: loss weight of the first `OPENING_TOKENS` of a target.
    """
    ids = tf.concat([prompt_ids, target_ids], axis=1)
    opens = tf.range(tf.shape(target_ids)[1]) < OPENING_TOKENS  # [G]
    of_target = tf.where(opens, float(opening_weight), 1.0)
    weights = [tf.where(part != PAD, w, 0.0) for part, w in ((prompt_ids, prompt_weight), (target_ids, of_target))]
    # Both parts are padded behind: all padding is moved to the end, and columns that no row needs are cut.
    order = tf.argsort(tf.cast(ids == PAD, tf.int32), axis=1, stable=True)
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(ids != PAD, tf.int32), axis=1))
    order = order[:, : tf.maximum(longest, 2)]  # the maximum of no rows is very negative
    ids, weights = (tf.gather(x, order, batch_dims=1) for x in (ids, tf.concat(weights, axis=1)))
    texts = tf.cast(ids != PAD, tf.int32)
    if end_id is not None:
        texts *= 1 + tf.cumsum(tf.cast(ids == end_id, tf.int32), axis=1)
    return Tokens(ids, texts, tf.pad(weights[:, 1:], [[0, 0], [1, 0]]))


def next_token_losses(
    decoder: Decoder, tokens: Tokens, training: bool = False, recompute: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the negative log-likelihood of each token that counts, given all that stands before it in its text.

    An end token that begins a text ends the text before: it is predicted from that one.

    Args:
      decoder: the model.
      tokens: the rows.
      training: whether dropout acts.
      recompute: see recompute.py.

    Returns:
      [N] float32, nats, without weights; and [N, 2] int64, row and column of each token.
    """
    places = tf.where(tokens.weights > 0)  # [N, 2]
    # A token is predicted at the place before it. The last column predicts nothing.
    inputs, texts = tf.maximum(tokens.ids[:, :-1], 0), tokens.texts[:, :-1]
    states = decoder(inputs, segment_ids=texts, training=training, recompute=recompute)
    logits = decoder.logits(tf.gather_nd(states, places - [0, 1]))  # [N, V]: only where something is learned
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather_nd(tokens.ids, places), logits)
    return losses, places


def row_losses(decoder: Decoder, tokens: Tokens, training: bool = False, recompute: bool = False) -> Any:
    """Returns the negative log-likelihood of every token but the first of a row, [B, T - 1] float32, in nats.

    What `next_token_losses` computes for tokens that count, here for all: JAX must know the shapes beforehand.
    """
    ids = ops.maximum(tokens.ids, 0)
    states = decoder(ids[:, :-1], segment_ids=tokens.texts[:, :-1], training=training, recompute=recompute)
    return ops.sparse_categorical_crossentropy(ids[:, 1:], decoder.logits(states), from_logits=True)


def scorer(
    decoder: Decoder, tokens_of: Callable[..., Tokens], signature: Sequence[Any]
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Returns a function of batches that returns loss and id of each token that counts, [N] both.

    Args:
      decoder: the model.
      tokens_of: puts the tokens of a batch together.
      signature: specs of what `tokens_of` takes.
    """
    if USES_JAX:
        return _scorer_of_jax(decoder, tokens_of)

    @tf.function(input_signature=signature)
    def losses_and_ids(*batch: Any) -> tuple[tf.Tensor, tf.Tensor]:
        tokens = tokens_of(*batch)
        losses, places = next_token_losses(decoder, tokens)
        return losses, tf.gather_nd(tokens.ids, places)

    return lambda *batch: tuple(x.numpy() for x in losses_and_ids(*batch))


def _scorer_of_jax(decoder: Decoder, tokens_of: Callable[..., Tokens]) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    from docproduct.training import jax_step  # here, as JAX need not be installed

    losses_of = jax_step.compiled([decoder], lambda tokens: row_losses(decoder, tokens))

    def losses_and_ids(*batch: Any) -> tuple[np.ndarray, np.ndarray]:
        tokens = Tokens(*(x.numpy() for x in tokens_of(*batch)))
        counts = tokens.weights[:, 1:] > 0
        losses = np.asarray(losses_of(tokens))[:, : counts.shape[1]]
        return losses[counts], tokens.ids[:, 1:][counts]

    return losses_and_ids
