"""Gradients of a loss over a batch: of the whole batch, or added up over its chunks; see also gradient_cache.py."""

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

Batch = dict[str, tf.Tensor]  # every feature has the rows of the batch as its first dimension
Gather = Callable[[tf.Tensor], tf.Tensor]  # a tensor's rows on this replica -> its rows on all replicas
Loss = Callable[[Batch, Gather], tf.Tensor]  # sum over the rows of the batch


def num_rows(batch: Batch) -> tf.Tensor:
    """Returns the number of rows of a batch, a scalar int32."""
    return tf.shape(next(iter(batch.values())))[0]


def trainable(modules: Iterable[keras.layers.Layer]) -> list[keras.Variable]:
    """Returns the variables that are trained, in the order of `Task.gradients`."""
    return [variable for module in modules for variable in module.trainable_variables]


def whole_gradients(
    loss: Loss, modules: Iterable[keras.layers.Layer], batch: Batch, gather: Gather
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the loss of a batch and its gradients with respect to the trainable variables of the modules."""
    with tf.GradientTape() as tape:
        total = loss(batch, gather)
    # The gradient of an embedding is sparse; it is made dense to be clipped with the others.
    return total, [tf.convert_to_tensor(gradient) for gradient in tape.gradient(total, trainable(modules))]


def chunked_gradients(
    loss: Loss, modules: Iterable[keras.layers.Layer], batch: Batch, gather: Gather, chunk_size: int
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns what `whole_gradients` returns, with the activations of one chunk of rows in memory at a time.

    Args:
      loss: the loss of a row must not depend on other rows, and must not call `gather`.
      modules: what is trained.
      batch: the rows.
      gather: is passed on to the loss.
      chunk_size: rows of a chunk.
    """
    num_chunks = -(-num_rows(batch) // chunk_size)

    def add_chunk(chunk: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        rows = {name: value[chunk * chunk_size : (chunk + 1) * chunk_size] for name, value in batch.items()}
        total, gradients = whole_gradients(loss, modules, rows, gather)
        return chunk + 1, [before + part for before, part in zip(sums, [total, *gradients], strict=True)]

    zeros = [tf.zeros([]), *(tf.zeros(variable.shape) for variable in trainable(modules))]
    _, sums = tf.while_loop(lambda chunk, _: chunk < num_chunks, add_chunk, (0, zeros), parallel_iterations=1)
    return sums[0], sums[1:]
