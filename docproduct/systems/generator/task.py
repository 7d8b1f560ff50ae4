"""Loss, gradients and batches of the generator, for the training loop.

B rows of one replica, P tokens of the longest prompt, G of the longest target, T = P + G, N targets in a batch
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from data_pipeline import batches, splits
from data_pipeline.batches import BatchSettings
from data_pipeline.folders.token_folder import TokenFolder
from docproduct.layers.attention import read_before
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.pointer import Pointer, log_mixture
from docproduct.training.gradients import Batch, Gather, chunked_gradients, whole_gradients

PAD = -1  # no token has this id


def token_batches(folder: TokenFolder, how: BatchSettings) -> Callable[[int, int], batches.Batches]:
    """Returns `training.Task.batches` of a token folder: "prompt_ids" [B, P], "target_ids" [B, G], "pair_id" [B]."""
    return lambda epoch, skip: batches.training_batches(folder, splits.TRAIN, how, PAD, epoch, skip)


class Tokens(NamedTuple):
    """Rows of a batch, put together.

    Attributes:
      ids: [B, T] int32; padding at the end, `PAD`.
      texts: [B, T] int32: the number of the text that a token belongs to, above 0; 0 for padding.
      weights: [B, T] float32, in the loss: 1 for targets, less for what is given; 0 for padding, and for the first.
    """

    ids: tf.Tensor
    texts: tf.Tensor
    weights: tf.Tensor


def joined(prompt_ids: tf.Tensor, target_ids: tf.Tensor, end_id: int | None, prompt_weight: float = 0.0) -> Tokens:
    """Puts prompts and targets together.

    Args:
      prompt_ids: [B, P] int32, padded behind with `PAD`.
      target_ids: [B, G] int32, padded behind with `PAD`.
      end_id: of packed documents: with it another text begins; None: a row is one text.
      prompt_weight: what a token of a prompt counts.
    """
    ids = tf.concat([prompt_ids, target_ids], axis=1)
    weights = [tf.where(part != PAD, weight, 0.0) for part, weight in ((prompt_ids, prompt_weight), (target_ids, 1.0))]
    # Padding stands behind both parts: all of it goes to the end, and what no row needs is cut.
    order = tf.argsort(tf.cast(ids == PAD, tf.int32), axis=1, stable=True)
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(ids != PAD, tf.int32), axis=1))
    order = order[:, : tf.maximum(longest, 2)]  # the maximum of no rows is very negative
    ids, weights = (tf.gather(x, order, batch_dims=1) for x in (ids, tf.concat(weights, axis=1)))
    texts = tf.cast(ids != PAD, tf.int32)
    if end_id is not None:
        texts *= 1 + tf.cumsum(tf.cast(ids == end_id, tf.int32), axis=1)
    return Tokens(ids, texts, tf.pad(weights[:, 1:], [[0, 0], [1, 0]]))


def next_token_losses(
    gpt2: GPT2, tokens: Tokens, training: bool = False, recompute: bool = False
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the negative log-likelihood of each token that counts, given all that stands before it in its text.

    An end token that begins a text ends the one before: it is predicted from that one.

    Args:
      gpt2: the model.
      tokens: the rows.
      training: whether dropout acts.
      recompute: see `GPT2.call`.

    Returns:
      [N] float32, nats, whatever its weight; and [N, 2] int64, row and column of each.
    """
    places = tf.where(tokens.weights > 0)  # [N, 2]
    # A token is predicted at the place before it. The last column predicts nothing.
    inputs, texts = tf.maximum(tokens.ids[:, :-1], 0), tokens.texts[:, :-1]
    states = gpt2(inputs, texts=texts, training=training, recompute=recompute)
    logits = gpt2.logits(tf.gather_nd(states, places - [0, 1]))  # [N, V]: only where something is learned
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather_nd(tokens.ids, places), logits)
    if gpt2.pointer is not None:
        log_gate, copied = (tf.gather_nd(x, places - [0, 1]) for x in _pointed(gpt2.pointer, states, tokens))
        losses = -log_mixture(log_gate, -losses, copied)
    return losses, places


def _pointed(pointer: Pointer, states: tf.Tensor, tokens: Tokens) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns, at each place, the logarithm of the gate, and how likely the right token is copied; [B, T - 1] each."""
    inputs, following, texts = tokens.ids[:, :-1], tokens.ids[:, 1:], tokens.texts[:, :-1]
    slots = tf.range(tf.shape(inputs)[1])
    log_gate, copied = pointer(states, slots, pointer.keys(states), inputs, read_before(texts))
    same = tf.equal(following[:, None, :], following[:, :, None])  # [B, T - 1, T - 1]
    return log_gate, tf.reduce_sum(tf.where(same, copied, 0.0), axis=-1)


def gradients(
    gpt2: GPT2, end_id: int | None, chunk_size: int = 0, recompute: bool = False, prompt_weight: float = 0.0
) -> Callable[[Batch, Gather], tuple[tf.Tensor, list[tf.Tensor]]]:
    """Returns `training.Task.gradients`: every target token of a batch counts alike, whatever row it stands in.

    Args:
      gpt2: the model.
      end_id: see `joined`.
      chunk_size: rows that are read at once; 0: all.
      recompute: see `GPT2.call`.
      prompt_weight: see `joined`. Prompts are learned, too: there is more to learn from, for little more time. Source:
        Shi et al. 2024, "Instruction Tuning With Loss Over Instructions".
    """

    def tokens_of(batch: Batch) -> Tokens:
        return joined(batch["prompt_ids"], batch["target_ids"], end_id, prompt_weight)

    def loss(batch: Batch, gather: Gather) -> tf.Tensor:
        del gather
        tokens = tokens_of(batch)
        losses, places = next_token_losses(gpt2, tokens, training=True, recompute=recompute)
        weights = tf.gather_nd(tokens.weights, places) * tf.gather(batch["weight"], places[:, 0])
        return tf.reduce_sum(losses * weights)

    def of_batch(batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        counted = tf.reduce_sum(tokens_of(batch).weights, axis=1)  # [B]
        everywhere = gather(counted)  # of all replicas
        # The loop divides by the rows: what a token weighs makes the mean over tokens of it.
        weight = tf.cast(tf.size(everywhere), tf.float32) / tf.maximum(tf.reduce_sum(everywhere), 1.0)
        rows = batch | {"weight": tf.fill(tf.shape(counted), weight)}
        if chunk_size:
            return chunked_gradients(loss, (gpt2,), rows, gather, chunk_size)
        return whole_gradients(loss, (gpt2,), rows, gather)

    return of_batch
