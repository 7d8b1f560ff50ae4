"""Gradients of a loss over a batch that is too large to be encoded at once.

Source: Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup". The batch is encoded
chunk by chunk without keeping what a gradient needs; the loss of all vectors gives the gradient of each vector; then
every chunk is encoded again, and its vectors' gradient is passed back through the encoder. Memory is that of one chunk,
and the gradients are those of the plain loss: dropout is replayed from the saved random states.
"""

from collections.abc import Callable, Sequence

import keras
import tensorflow as tf

from docproduct.training.gradients import Batch, Gather, num_rows, trainable

Encode = Callable[[Batch], Sequence[tf.Tensor]]  # M rows -> vectors, a fixed number of tensors [M, ...]
VectorLoss = Callable[[Sequence[tf.Tensor], Batch, Gather], tf.Tensor]  # sum over the rows of the batch


def cached_gradients(
    encode: Encode,
    loss: VectorLoss,
    modules: Sequence[keras.layers.Layer],
    batch: Batch,
    gather: Gather,
    chunk_size: int,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """Returns the loss of a batch and its gradients with respect to the trainable variables of the modules.

    Args:
      encode: encodes a chunk of rows.
      loss: the loss from the vectors of all rows of this replica.
      modules: what is trained; besides their weights, they hold only random states.
      batch: the rows.
      gather: returns the rows of all replicas.
      chunk_size: rows that are encoded at once.
    """
    variables = [variable.value for variable in trainable(modules)]
    states = _random_states(modules)
    before = [tf.identity(state.value) for state in states]
    vectors = _encode_all(encode, batch, chunk_size)
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        total = loss(vectors, batch, gather)
    # The loss may have variables of its own, such as its scale.
    of_vectors, direct = tape.gradient(total, (vectors, variables), unconnected_gradients=tf.UnconnectedGradients.ZERO)
    for state, value in zip(states, before, strict=True):
        state.assign(value)
    start = [tf.convert_to_tensor(gradient) for gradient in direct]
    return total, _add_through_vectors(encode, batch, of_vectors, start, variables, chunk_size)


def _random_states(modules: Sequence[keras.layers.Layer]) -> list[keras.Variable]:
    weights = {id(weight) for module in modules for weight in module.weights}
    return [variable for module in modules for variable in module.variables if id(variable) not in weights]


def _chunk(values: Batch | Sequence[tf.Tensor], chunk: tf.Tensor, chunk_size: int) -> Batch | Sequence[tf.Tensor]:
    """Returns the rows of one chunk."""
    return tf.nest.map_structure(lambda value: value[chunk * chunk_size : (chunk + 1) * chunk_size], values)


def _encode_all(encode: Encode, batch: Batch, chunk_size: int) -> list[tf.Tensor]:
    """Returns the vectors of all rows."""
    num_chunks = -(-num_rows(batch) // chunk_size)

    def encode_chunk(chunk: tf.Tensor, arrays: list[tf.TensorArray]) -> tuple[tf.Tensor, list[tf.TensorArray]]:
        vectors = encode(_chunk(batch, chunk, chunk_size))
        return chunk + 1, [array.write(chunk, rows) for array, rows in zip(arrays, vectors, strict=True)]

    # The shapes of what `encode` returns, without running it.
    traced = tf.function(encode, autograph=False).get_concrete_function(tf.nest.map_structure(_unknown_rows, batch))
    arrays = [
        tf.TensorArray(rows.dtype, num_chunks, infer_shape=False, element_shape=[None, *rows.shape[1:]])
        for rows in traced.structured_outputs
    ]
    _, arrays = tf.while_loop(lambda chunk, _: chunk < num_chunks, encode_chunk, (0, arrays), parallel_iterations=1)
    return [array.concat() for array in arrays]


def _unknown_rows(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)


def _add_through_vectors(
    encode: Encode,
    batch: Batch,
    of_vectors: Sequence[tf.Tensor],
    start: list[tf.Tensor],
    variables: Sequence[tf.Variable],
    chunk_size: int,
) -> list[tf.Tensor]:
    """Adds to `start` the gradients that pass through the vectors, whose own gradients are `of_vectors`."""
    num_chunks = -(-num_rows(batch) // chunk_size)

    def add_chunk(chunk: tf.Tensor, sums: list[tf.Tensor]) -> tuple[tf.Tensor, list[tf.Tensor]]:
        with tf.GradientTape() as tape:
            vectors = encode(_chunk(batch, chunk, chunk_size))
        gradients = tape.gradient(
            vectors,
            variables,
            output_gradients=_chunk(of_vectors, chunk, chunk_size),
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        return chunk + 1, [total + tf.convert_to_tensor(part) for total, part in zip(sums, gradients, strict=True)]

    return tf.while_loop(lambda chunk, _: chunk < num_chunks, add_chunk, (0, start), parallel_iterations=1)[1]
