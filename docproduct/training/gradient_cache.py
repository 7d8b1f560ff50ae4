"""Gradients of a loss over a batch that is too large to be encoded at once.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup". The batch is encoded
chunk by chunk without keeping what a gradient needs; the loss of all vectors gives the gradient of each vector; then
every chunk is encoded again, with its gradient passed on. Memory is that of one chunk, and the gradients are those of
the plain loss: dropout is replayed from the saved random states.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from docproduct.training.gradients import Batch, Gather, Gradients, trainable

Encode = Callable[[Batch], Sequence[tf.Tensor]]
LossOfVectors = Callable[[Sequence[tf.Tensor], Batch, Gather], tf.Tensor]


def differentiate(
    encode: Encode, loss: LossOfVectors, modules: tuple[keras.layers.Layer, ...], chunk_size: int
) -> Gradients:
    """Returns `training.Task.gradients`.

    Args:
      encode: batch of M rows -> vectors, a fixed number of tensors [M, ...].
      loss: (vectors of all rows of this replica, batch, gather) -> sum of the losses of the rows.
      modules: what is trained; besides their weights, they hold only random states.
      chunk_size: rows that are encoded at once.
    """

    def gradients(batch: Batch, gather: Gather) -> tuple[tf.Tensor, list[tf.Tensor]]:
        variables = [variable.value for variable in trainable(modules)]
        weights = {id(weight) for module in modules for weight in module.weights}
        states = [state for module in modules for state in module.variables if id(state) not in weights]
        before = [tf.identity(state.value) for state in states]
        vectors = _encode_all(encode, batch, chunk_size)
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            total = loss(vectors, batch, gather)
        # The loss may have variables of its own, such as its scale.
        upstream, direct = tape.gradient(
            total, (vectors, variables), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        for state, value in zip(states, before, strict=True):
            state.assign(value)
        return total, _back(
            encode, batch, upstream, [tf.convert_to_tensor(part) for part in direct], variables, chunk_size
        )

    return gradients


def _num_chunks(batch: Batch, chunk_size: int) -> tf.Tensor:
    return -(-tf.shape(batch["pair_id"])[0] // chunk_size)


def _rows(values: Batch | Sequence[tf.Tensor], chunk: tf.Tensor, chunk_size: int) -> Batch | Sequence[tf.Tensor]:
    return tf.nest.map_structure(lambda value: value[chunk * chunk_size : (chunk + 1) * chunk_size], values)


def _encode_all(encode: Encode, batch: Batch, chunk_size: int) -> list[tf.Tensor]:
    """Returns the vectors of all rows."""
    num_chunks = _num_chunks(batch, chunk_size)

    def body(chunk: tf.Tensor, arrays: list[tf.TensorArray]) -> tuple[tf.Tensor, list[tf.TensorArray]]:
        vectors = encode(_rows(batch, chunk, chunk_size))
        return chunk + 1, [array.write(chunk, rows) for array, rows in zip(arrays, vectors, strict=True)]

    # The shapes of what `encode` returns, without running it.
    shapes = tf.function(encode).get_concrete_function(tf.nest.map_structure(_unknown_rows, batch)).structured_outputs
    arrays = [
        tf.TensorArray(rows.dtype, num_chunks, infer_shape=False, element_shape=[None, *rows.shape[1:]])
        for rows in shapes
    ]
    _, arrays = tf.while_loop(lambda chunk, _: chunk < num_chunks, body, (0, arrays), parallel_iterations=1)
    return [array.concat() for array in arrays]


def _unknown_rows(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)


def _back(
    encode: Encode,
    batch: Batch,
    upstream: Sequence[tf.Tensor],
    start: list[tf.Tensor],
    variables: Sequence[tf.Variable],
    chunk_size: int,
) -> list[tf.Tensor]:
    """Returns the gradients that come through the vectors, added to `start`."""
    num_chunks = _num_chunks(batch, chunk_size)

    def body(chunk: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            vectors = encode(_rows(batch, chunk, chunk_size))
        parts = tape.gradient(
            vectors,
            variables,
            output_gradients=_rows(upstream, chunk, chunk_size),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return chunk + 1, [total + tf.convert_to_tensor(part) for total, part in zip(sums, parts, strict=True)]

    return tf.while_loop(lambda chunk, _: chunk < num_chunks, body, (0, start), parallel_iterations=1)[1]
