"""The loop that all systems share: strategy, precision, schedule, checkpoints, progress.

A system supplies the model, its loss and its batches. The loop reads a batch, gives replica i of N the rows i::N, sums
gradients over the replicas, clips their global norm, and steps AdamW with warm-up and linear decay.
"""

import dataclasses
import itertools
import os
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from data_pipeline.folders import files
from docproduct.model_folder import METRICS_FILE
from docproduct.training import curves, devices
from docproduct.training.gradients import Batch, Gradients, trainable
from docproduct.training.optimizer import adamw
from docproduct.training.run_checkpoint import Checkpoint
from docproduct.training.settings import TrainingSettings

CHECKPOINT_FILE = "checkpoint.safetensors"
CURVE_FILE = "learning_curve.png"
_WORTH_COMPILING = 1_000_000  # weights


@dataclasses.dataclass(frozen=True)
class Task:
    """What a system supplies to the loop.

    Attributes:
      modules: what is trained, built under the strategy's scope; all their variables are in a checkpoint.
      gradients: (batch, gather) -> the sum of the losses of the batch's rows, and its gradients with respect to
        `trainable_variables`; see `differentiate`. The rows are those of one replica; `gather` returns a tensor's rows
        of all replicas.
      batches: (epoch, skip) -> one epoch of batches, without the first `skip`; has an `element_spec`.
      num_rows: rows of one epoch.
      count_tokens: batch -> (real tokens, places with padding).
      evaluate: returns metrics on dev.
      best_metric: which of these decides the epoch that is kept.
      lowest_is_best: whether a lower one is better.
      save: writes the weights of the best epoch.
      report: writes what a reader wants to know of the run, of what metrics.json will hold.
    """

    modules: tuple[keras.layers.Layer, ...]
    gradients: Gradients
    batches: Callable[[int, int], Iterable[Batch]]
    num_rows: int
    count_tokens: Callable[[Batch], tuple[int, int]]
    evaluate: Callable[[], dict[str, float]]
    best_metric: str
    save: Callable[[], None]
    lowest_is_best: bool = False
    report: Callable[[dict[str, Any]], None] = lambda history: None

    @property
    def variables(self) -> list[keras.Variable]:
        """All variables, random states among them."""
        return [variable for module in self.modules for variable in module.variables]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The variables that are trained."""
        return trainable(self.modules)

    def steps_per_epoch(self, batch_size: int) -> int:
        """Returns the number of batches of one epoch; the last may be smaller."""
        return -(-self.num_rows // batch_size)


def set_up(seed: int = 0, deterministic: bool = False) -> None:
    """Sets the seeds of this process and lets GPU memory grow; a script's main() calls it before anything runs.

    Args:
      seed: of everything random that has no seed of its own.
      deterministic: repeatable ops, which may be slower; the process cannot go back.
    """
    if seed < 0:
        raise ValueError(f"seed is {seed}; expected 0 or more.")
    random.seed(seed)
    np.random.seed(seed)
    tf.random.set_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)


def fit(
    task: Task, settings: TrainingSettings, folder: str, strategy: tf.distribute.Strategy, resume: bool = True
) -> dict[str, Any]:
    """Trains, evaluates each epoch, keeps the best, and writes metrics and a learning curve.

    It continues from the checkpoint in `folder`, if there is one: same losses as if it had never stopped. Of several
    workers the chief writes.

    Args:
      task: what to train.
      settings: how.
      folder: the model folder; the checkpoint stands there until training has ended.
      strategy: the one under which `task.modules` were built.
      resume: whether to look for a checkpoint.

    Returns:
      What metrics.json holds: {"best": metrics of the epoch that was kept, "epochs": metrics of each, beginning with
      the untrained model, "losses": mean loss of each step, "seconds": spent in steps, over all restarts,
      "real_tokens", "places": in all batches, without padding and with it}.
    """
    steps_per_epoch = task.steps_per_epoch(settings.batch_size)
    optimizer = make_optimizer(task, settings, strategy)
    checkpoint = Checkpoint(os.path.join(folder, CHECKPOINT_FILE), [*task.variables, *optimizer.variables])
    history = (checkpoint.restore() if resume else None) or {
        "best": {},
        "epochs": [],
        "losses": [],
        "seconds": 0.0,
        "real_tokens": 0,
        "places": 0,
    }
    chief = devices.is_chief(strategy)
    devices.wait_for_all(strategy, len(history["losses"]))
    board = curves.Board(settings.tensorboard_dir if chief else None)
    if not history["epochs"]:
        _evaluate(task, settings, history, {"epoch": 0, "step": 0}, chief, board)
    step = step_function(task, optimizer, settings.clip_norm, strategy)
    for epoch in range(len(history["epochs"]) - 1, settings.num_epochs(steps_per_epoch)):
        if 0 < settings.patience <= history["epochs"][-1]["epoch"] - history["best"]["epoch"]:
            logging.info("No better epoch in %d: the training ends here.", settings.patience)
            break
        save_checkpoint = (lambda: checkpoint.save(history)) if chief else None
        _train_epoch(task, settings, step, epoch, history, save_checkpoint, board)
        losses = history["losses"]
        mean = float(np.mean(losses[epoch * steps_per_epoch :]))
        entry = {"epoch": epoch + 1, "step": len(losses), "loss": mean, "seconds": history["seconds"]}
        if history["places"]:
            entry["padding_share"] = 1 - history["real_tokens"] / history["places"]
        _evaluate(task, settings, history, entry, chief, board)
        if chief:
            checkpoint.save(history)
    if not chief:
        return history
    if history["best"]["epoch"] == 0:
        logging.warning(
            "No epoch had a better %s on dev than what training started from: those weights were kept. Try another "
            "--learning_rate, or more --epochs.",
            task.best_metric,
        )
    curves.draw(history, task.best_metric, os.path.join(folder, CURVE_FILE))
    task.report(history)
    files.write_json(os.path.join(folder, METRICS_FILE), history)
    checkpoint.remove()
    return history


def _train_epoch(
    task: Task,
    settings: TrainingSettings,
    step: Callable[[Batch], tf.Tensor],
    epoch: int,
    history: dict[str, Any],
    save_checkpoint: Callable[[], None] | None,
    board: curves.Board,
) -> None:
    """Does what is left of an epoch; appends the loss of each step and adds up the time."""
    losses, steps_per_epoch = history["losses"], task.steps_per_epoch(settings.batch_size)
    done = len(losses) - epoch * steps_per_epoch  # steps of this epoch before a restart
    left = settings.num_steps(steps_per_epoch) - len(losses)  # of this epoch and the next ones
    title = f"epoch {epoch + 1}/{settings.num_epochs(steps_per_epoch)}"
    with tqdm(desc=title, total=task.num_rows, initial=done * settings.batch_size, unit=" pairs") as bar:
        start = time.perf_counter()
        for batch in itertools.islice(task.batches(epoch, done), left):
            with devices.with_all_workers(f"Step {len(losses) + 1}"):
                losses.append(float(step(batch)))
            if not np.isfinite(losses[-1]):
                raise ValueError(
                    f"The loss of step {len(losses)} is {losses[-1]}; the best model so far is kept. "
                    "Start again with a lower --learning_rate, or with --precision=float32."
                )
            real_tokens, places = task.count_tokens(batch)
            history["real_tokens"] += real_tokens
            history["places"] += places
            bar.set_postfix(loss=f"{losses[-1]:.3f}", refresh=False)
            bar.update(len(batch["pair_id"]))
            now = time.perf_counter()
            history["seconds"], start = history["seconds"] + now - start, now
            board.add("train", {"loss": losses[-1]}, len(losses))
            if save_checkpoint and len(losses) % settings.checkpoint_steps == 0:
                save_checkpoint()


def make_optimizer(
    task: Task, settings: TrainingSettings, strategy: tf.distribute.Strategy
) -> keras.optimizers.Optimizer:
    """Returns AdamW with warm-up and linear decay, built for the task."""
    num_steps = settings.num_steps(task.steps_per_epoch(settings.batch_size))
    warmup_steps = round(settings.warmup_share * num_steps)
    with strategy.scope():
        return adamw(task.trainable_variables, settings.learning_rate, warmup_steps, num_steps, settings.weight_decay)


def step_function(
    task: Task, optimizer: keras.optimizers.Optimizer, clip_norm: float, strategy: tf.distribute.Strategy
) -> Callable[[Batch], tf.Tensor]:
    """Returns a graph function: one batch in, one step done, the mean loss of the batch's rows out."""
    variables = task.trainable_variables
    n = strategy.num_replicas_in_sync

    def update(gradients: list[tf.Tensor]) -> None:
        gradients, _ = tf.clip_by_global_norm(gradients, clip_norm)
        # Keras' optimizer sums over replicas by itself: it is given the n-th part of the whole gradient.
        optimizer.apply([gradient / n for gradient in gradients], variables)

    num_weights = sum(int(np.prod(variable.shape)) for variable in variables)
    plain = strategy is tf.distribute.get_strategy()  # any other one has Keras change its context, which XLA cannot
    if plain and num_weights >= _WORTH_COMPILING and not tf.config.list_physical_devices("GPU"):
        # AdamW is some fifteen passes over all weights; compiled, it is one. Its shapes never change.
        update = tf.function(update, jit_compile=True)

    def replica_step(batch: Batch) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        num_rows = tf.cast(tf.shape(batch["pair_id"])[0], tf.float32)
        gather = (lambda rows: replica.all_gather(rows, axis=0)) if n > 1 else tf.identity
        own = {name: rows[replica.replica_id_in_sync_group :: n] for name, rows in batch.items()} if n > 1 else batch
        total, gradients = task.gradients(own, gather)
        gradients = [gradient / num_rows for gradient in gradients]
        # Clipping needs the whole gradient.
        update(replica.all_reduce(tf.distribute.ReduceOp.SUM, gradients) if n > 1 else gradients)
        return total / num_rows

    # One signature for all lengths: the step is traced once.
    @tf.function(input_signature=[task.batches(0, 0).element_spec])
    def step(batch: Batch) -> tf.Tensor:
        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(replica_step, args=(batch,)), axis=None)

    return step


def _evaluate(
    task: Task,
    settings: TrainingSettings,
    history: dict[str, Any],
    entry: dict[str, float],
    chief: bool,
    board: curves.Board,
) -> None:
    """Appends an epoch's metrics; the chief saves the model if it is to be kept so far.

    Raises:
      ValueError: a weight is not finite; the last step's loss alone cannot show that.
    """
    if broken := [v.path for v in task.trainable_variables if not np.all(np.isfinite(v.numpy()))]:
        raise ValueError(
            f"After step {entry['step']}, {len(broken)} variables are not finite ({broken[0]}, ...); the best model so "
            "far is kept. Start again with a lower --learning_rate, or with --precision=float32."
        )
    metrics = task.evaluate()
    board.add("dev", metrics, entry["step"])
    entry |= metrics
    history["epochs"].append(entry)
    logging.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in entry.items()))
    found, best = entry[task.best_metric], history["best"].get(task.best_metric, entry[task.best_metric])
    if settings.keep == "last" or (found <= best if task.lowest_is_best else found >= best):
        history["best"] = entry
        if chief:
            task.save()
