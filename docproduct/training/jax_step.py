"""A training step with JAX: one compiled function over variables and batch, on all devices of the mesh (mesh.py).

What step.py does with TensorFlow: gradients over the chunks of a batch, clipped together, and a step of AdamW. JAX
compiles a function anew for each shape, so lengths are rounded up, and batches filled up with rows without weight.

    C chunks of a batch, R rows in each, T tokens, a multiple of 64 and one more: the last token predicts nothing
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import keras
import numpy as np

from docproduct.training import mesh
from docproduct.training.gradients import Batch
from docproduct.training.task import Task

Arrays = TypeVar("Arrays", bound=tuple)  # a NamedTuple of arrays [B, T], 0 where nothing is

_LENGTH = 64


def padded(arrays: Arrays, num_rows: int) -> Arrays:
    """Fills arrays [B, T] up with zeros to a number of rows, and to a length of which few are possible."""
    values = [np.asarray(array) for array in arrays]
    rows, length = values[0].shape
    room = ((0, num_rows - rows), (0, -(length - 1) % _LENGTH))
    return type(arrays)(*(np.pad(value, room) for value in values))


def compiled(modules: Iterable[keras.layers.Layer], function: Callable[..., Any]) -> Callable[[Arrays], Arrays]:
    """Returns a compiled function of arrays [B, T] -> [B, ...] that reads the variables of some layers."""
    variables = [variable for module in modules for variable in module.variables]

    @jax.jit
    def run(values: Sequence[Any], arrays: Arrays) -> Any:
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(arrays)

    def call(arrays: Arrays) -> Any:
        num_rows, parts = len(arrays[0]), mesh.data_parts()
        least = 1 << (num_rows - 1).bit_length()
        filled = padded(arrays, -(-least // parts) * parts)
        placed = type(arrays)(*(mesh.share_rows(array, 0) for array in filled))
        return run([variable.value for variable in variables], placed)[:num_rows]

    return call


def step_function(task: Task, optimizer: keras.optimizers.Optimizer, clip_norm: float) -> Callable[[Batch], Any]:
    """Returns a function that does one step and returns the mean loss of the batch's tokens.

    Args:
      task: a task with `chunk` (C and R), `tokens` (a batch as arrays, among them `weights`) and `weighted_loss` (the
        sum of the losses of such arrays, times their weights).
      optimizer: built for its variables.
      clip_norm: the largest global norm of a gradient.
    """
    trained = task.trainable_variables
    random = [variable for variable in task.variables if id(variable) not in set(map(id, trained))]
    changed = set(map(id, task.variables))
    fixed = [v for module in task.modules for v in module.variables if id(v) not in changed]
    state = [trained, random, optimizer.variables]
    places = [[variable.value.sharding for variable in variables] for variables in state]

    def mean_loss(values: Any, states: Any, others: Any, tokens: Arrays, total: Any) -> tuple[Any, Any]:
        pairs = zip([*trained, *random, *fixed], [*values, *states, *others], strict=True)
        with keras.StatelessScope(list(pairs)) as scope:
            loss = task.weighted_loss(tokens) / total
        return loss, [scope.get_current_value(variable) for variable in random]

    def step(before: Any, others: Any, tokens: Arrays) -> tuple[Any, Any]:
        values, states, moments = before
        total = jnp.maximum(jnp.sum(tokens.weights), 1.0)

        def add_chunk(carry: Any, chunk: Arrays) -> tuple[Any, None]:
            loss, gradients, states = carry
            add = jax.value_and_grad(mean_loss, has_aux=True)
            (part, states), new = add(values, states, others, chunk, total)
            return (loss + part, jax.tree.map(jnp.add, gradients, new), states), None

        begin = jnp.zeros(()), [jnp.zeros_like(value) for value in values], states
        (loss, gradients, states), _ = jax.lax.scan(add_chunk, begin, tokens)
        values, moments = optimizer.stateless_apply(moments, _clipped(gradients, clip_norm), values)
        return loss, [values, states, moments]

    # The new state takes the place of the old one in memory, on the same devices.
    run = jax.jit(step, donate_argnums=0, **({"out_shardings": (None, places)} if mesh.is_used() else {}))

    def call(batch: Batch) -> Any:
        num_chunks, rows = task.chunk
        arrays = padded(task.tokens(batch), num_chunks * rows)
        chunks = (array.reshape(num_chunks, rows, -1) for array in arrays)
        tokens = type(arrays)(*(mesh.share_rows(chunk, 1) for chunk in chunks))
        before = [[variable.value for variable in variables] for variables in state]
        loss, after = run(before, [variable.value for variable in fixed], tokens)
        for variables, values in zip(state, after, strict=True):
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        return loss

    return call


def _clipped(gradients: Sequence[Any], most: float) -> list[Any]:
    """Returns gradients whose global norm is `most` or less."""
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(gradient)) for gradient in gradients))
    return [gradient * (most / jnp.maximum(norm, most)) for gradient in gradients]
