"""One training step: rows to replicas, their gradients summed and clipped, and a step of AdamW."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from docproduct.layers.array_ops import USES_JAX
from docproduct.training.gradients import Batch, num_rows
from docproduct.training.optimizer import WarmupDecay, adamw
from docproduct.training.settings import TrainingSettings
from docproduct.training.task import Task

Step = Callable[[Batch], tf.Tensor]  # a batch -> the mean loss of its rows

_WORTH_COMPILING = 1_000_000  # weights


def make_optimizer(
    task: Task, settings: TrainingSettings, strategy: tf.distribute.Strategy
) -> keras.optimizers.Optimizer:
    """Returns AdamW with the schedule of the settings, built for the task."""
    num_steps = settings.num_steps(task.steps_per_epoch(settings.batch_size))
    warmup_steps = round(settings.warmup_share * num_steps)
    rate = WarmupDecay(settings.learning_rate, warmup_steps, num_steps, settings.schedule)
    with strategy.scope():
        return adamw(task.trainable_variables, rate, settings.weight_decay)


def step_function(
    task: Task, optimizer: keras.optimizers.Optimizer, clip_norm: float, strategy: tf.distribute.Strategy
) -> Step:
    """Returns a graph function that does one step and returns the mean loss of the batch's rows.

    With JAX as Keras' backend, it is a function that JAX compiles; see jax_step.py.
    """
    if USES_JAX:
        from docproduct.training import jax_step  # here, as JAX need not be installed

        return jax_step.step_function(task, optimizer, clip_norm)
    n = strategy.num_replicas_in_sync
    update = _update_function(task, optimizer, clip_norm, strategy)

    def replica_step(batch: Batch) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        rows_of_all = tf.cast(num_rows(batch), tf.float32)
        gather = (lambda rows: replica.all_gather(rows, axis=0)) if n > 1 else tf.identity
        own = {name: rows[replica.replica_id_in_sync_group :: n] for name, rows in batch.items()} if n > 1 else batch
        total, gradients = task.gradients(own, gather)
        gradients = [gradient / rows_of_all for gradient in gradients]
        # Clipping needs the whole gradient.
        update(replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients) if n > 1 else gradients)
        return total / rows_of_all

    # One signature for all lengths: the step is traced once. Nothing in a step needs AutoGraph; without it, a debugger
    # stops in this code, not in code that is made from it.
    @tf.function(input_signature=[task.batches(0, 0).element_spec], autograph=False)
    def step(batch: Batch) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, args=(batch,)), axis=None)

    return step


def _update_function(
    task: Task, optimizer: keras.optimizers.Optimizer, clip_norm: float, strategy: tf.distribute.Strategy
) -> Callable[[list[tf.Tensor]], None]:
    """Returns a function that clips the gradients of all replicas and applies them."""
    variables, n = task.trainable_variables, strategy.num_replicas_in_sync

    def update(gradients: list[tf.Tensor]) -> None:
        gradients, _ = tf.clip_by_global_norm(gradients, clip_norm)
        # Keras' optimizer sums over the replicas itself: each gives it the n-th part of the whole gradient.
        optimizer.apply([gradient / n for gradient in gradients], variables)

    num_weights = sum(int(np.prod(variable.shape)) for variable in variables)
    # Under any other strategy Keras changes its context, which XLA cannot compile.
    plain = strategy is tf.distribute.get_strategy()
    if plain and num_weights >= _WORTH_COMPILING and not tf.config.list_physical_devices("GPU"):
        # AdamW makes some fifteen passes over all weights; compiled, it makes one. Its shapes never change.
        return tf.function(update, jit_compile=True, autograph=False)
    return update
