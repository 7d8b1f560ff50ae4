"""Gradients of a loss over a batch, at once or added up over its chunks; see also gradient_cache.py."""

from collections.abc import Callable, Iterable

import keras
import tensorflow as tf

Batch = dict[str, tf.Tensor]
Gather = Callable[[tf.Tensor], tf.Tensor]
Gradients = Callable[[Batch, Gather], tuple[tf.Tensor, list[tf.Tensor]]]


def trainable(modules: Iterable[keras.layers.Layer]) -> list[keras.Variable]:
    """Returns the variables that are trained, in the order of `Task.gradients`."""
    return [variable for module in modules for variable in module.trainable_variables]


def differentiate(
    loss: Callable[[Batch, Gather], tf.Tensor], modules: tuple[keras.layers.Layer, ...], chunk_size: int = 0
) -> Gradients:
    """Returns `Task.gradients` of a loss (batch, gather) -> sum over rows.

    Args:
      loss: with a chunk_size, a row's part must not depend on other rows, and `gather` is not to be called.
      modules: what is trained.
      chunk_size: rows whose activations are in memory at once; the gradients of all chunks are added up. 0: all rows.
    """

    def gradients(batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        variables = trainable(modules)
        with tf.GradientTape() as tape:
            total = loss(batch, gather)
        # The gradient of an embedding is sparse; it is made dense to be clipped with the others.
        return total, [tf.convert_to_tensor(found) for found in tape.gradient(total, variables)]

    def accumulated(batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        num_chunks = -(-tf.shape(batch["pair_id"])[0] // chunk_size)

        def body(chunk: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
            rows = {name: value[chunk * chunk_size : (chunk + 1) * chunk_size] for name, value in batch.items()}
            total, parts = gradients(rows, gather)
            return chunk + 1, [before + part for before, part in zip(sums, [total, *parts], strict=True)]

        start = [tf.zeros([]), *(tf.zeros(variable.shape) for variable in trainable(modules))]
        _, sums = tf.while_loop(lambda chunk, _: chunk < num_chunks, body, (0, start), parallel_iterations=1)
        return sums[0], sums[1:]

    return accumulated if chunk_size else gradients
