"""The training loop that all systems share: epochs, evaluation, checkpoints, progress.

A system gives a `Task`: its model, loss and batches. The loop does a step with every batch (step.py), evaluates after
each epoch, keeps the best weights, and writes a checkpoint now and then, from which a killed run goes on.
"""

import dataclasses
import itertools
import os
import time
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from data_pipeline.folders import files
from docproduct.model_folder import METRICS_FILE
from docproduct.training import curves, devices
from docproduct.training.gradients import num_rows
from docproduct.training.run_checkpoint import Checkpoint
from docproduct.training.settings import TrainingSettings
from docproduct.training.step import Step, make_optimizer, step_function
from docproduct.training.task import Task

CHECKPOINT_FILE = "checkpoint.safetensors"
CURVE_FILE = "learning_curve.png"


@dataclasses.dataclass
class _Run:
    """A run in progress.

    Attributes:
      history: what metrics.json will hold.
      board: TensorBoard's files, if there are any.
      checkpoint: all variables and the history; None in a process that writes no files.
    """

    history: dict[str, Any]
    board: curves.Board
    checkpoint: Checkpoint | None


def fit(
    task: Task, settings: TrainingSettings, folder: str, strategy: tf.distribute.Strategy, resume: bool = True
) -> dict[str, Any]:
    """Trains, evaluates each epoch, keeps the best, and writes metrics and a learning curve.

    With `resume` it continues from the checkpoint in `folder`, if there is one, with the losses of a run that never
    stopped. Of several workers, the chief writes.

    Args:
      task: what to train.
      settings: how long and how fast.
      folder: the model folder, which must exist; the checkpoint stands there until training has ended.
      strategy: the one under which `task.modules` were built.
      resume: whether to look for a checkpoint.

    Returns:
      What metrics.json holds: {"best": metrics of the epoch whose weights were kept, "epochs": metrics of each,
      beginning with the untrained model, "losses": mean loss of each step, "seconds": spent in steps, over all
      restarts, "real_tokens", "places": in all batches, without padding and with it}.
    """
    optimizer = make_optimizer(task, settings, strategy)
    checkpoint = Checkpoint(os.path.join(folder, CHECKPOINT_FILE), [*task.variables, *optimizer.variables])
    history = (checkpoint.restore() if resume else None) or _empty_history()
    devices.wait_for_all(strategy, len(history["losses"]))
    chief = devices.is_chief(strategy)
    run = _Run(history, curves.Board(settings.tensorboard_dir if chief else None), checkpoint if chief else None)
    if not history["epochs"]:
        _evaluate(task, settings, run, {"epoch": 0, "step": 0})
    step = step_function(task, optimizer, settings.clip_norm, strategy)
    num_epochs = settings.num_epochs(task.steps_per_epoch(settings.batch_size))
    for epoch in range(len(history["epochs"]) - 1, num_epochs):
        if 0 < settings.patience <= history["epochs"][-1]["epoch"] - history["best"]["epoch"]:
            logging.info("No better epoch in %d: the training ends here.", settings.patience)
            break
        _train_epoch(task, settings, step, epoch, run)
        _evaluate(task, settings, run, _summary(task, settings, epoch, history))
        if run.checkpoint:
            run.checkpoint.save(history)
    if run.checkpoint:
        _finish(task, folder, run)
    return history


def _empty_history() -> dict[str, Any]:
    return {"best": {}, "epochs": [], "losses": [], "seconds": 0.0, "real_tokens": 0, "places": 0}


def _train_epoch(task: Task, settings: TrainingSettings, step: Step, epoch: int, run: _Run) -> None:
    """Does the steps that are left of an epoch; appends the loss of each to the history and adds up the time."""
    history, losses = run.history, run.history["losses"]
    steps_per_epoch = task.steps_per_epoch(settings.batch_size)
    steps_done = len(losses) - epoch * steps_per_epoch  # in this epoch, before a restart
    steps_left = settings.num_steps(steps_per_epoch) - len(losses)  # in this epoch and the next ones
    title = f"epoch {epoch + 1}/{settings.num_epochs(steps_per_epoch)}"
    with tqdm(desc=title, total=task.num_rows, initial=steps_done * settings.batch_size, unit=" rows") as bar:
        start = time.perf_counter()
        for batch in itertools.islice(task.batches(epoch, steps_done), steps_left):
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
            bar.update(int(num_rows(batch)))
            now = time.perf_counter()
            history["seconds"], start = history["seconds"] + now - start, now
            run.board.add("train", {"loss": losses[-1]}, len(losses))
            if run.checkpoint and len(losses) % settings.checkpoint_steps == 0:
                run.checkpoint.save(history)
    _check_steps(task, settings, epoch, len(losses))


def _check_steps(task: Task, settings: TrainingSettings, epoch: int, steps_done: int) -> None:
    """Raises a ValueError if the task's batches were not those that the learning rate was planned for."""
    steps_per_epoch = task.steps_per_epoch(settings.batch_size)
    expected = min((epoch + 1) * steps_per_epoch, settings.num_steps(steps_per_epoch))
    if steps_done != expected:
        raise ValueError(
            f"After epoch {epoch + 1}, {steps_done} steps are done; expected {expected}, with {task.num_rows} rows an "
            f"epoch and {settings.batch_size} a batch. {type(task).__name__}.batches makes other batches: make them of "
            "the settings' batch_size."
        )


def _summary(task: Task, settings: TrainingSettings, epoch: int, history: dict[str, Any]) -> dict[str, float]:
    """Returns what is known of an epoch before it is evaluated."""
    losses, first = history["losses"], epoch * task.steps_per_epoch(settings.batch_size)
    summary = {
        "epoch": epoch + 1,
        "step": len(losses),
        "loss": float(np.mean(losses[first:])),
        "seconds": history["seconds"],
    }
    if history["places"]:
        summary["padding_share"] = 1 - history["real_tokens"] / history["places"]
    return summary


def _evaluate(task: Task, settings: TrainingSettings, run: _Run, entry: dict[str, float]) -> None:
    """Appends an epoch's metrics to the history; saves the model if it is the best so far.

    The untrained model is evaluated first, so that an error of the task costs no training time.

    Raises:
      ValueError: a weight is not finite, which the last step's loss alone cannot show; or the task's best_metric is not
        among its metrics.
    """
    if broken := [v.path for v in task.trainable_variables if not np.all(np.isfinite(v.numpy()))]:
        raise ValueError(
            f"After step {entry['step']}, {len(broken)} variables are not finite ({broken[0]}, ...); the best model so "
            "far is kept. Start again with a lower --learning_rate, or with --precision=float32."
        )
    metrics = task.evaluate()
    if task.best_metric not in metrics:
        kind = type(task).__name__
        raise ValueError(
            f"{kind}.best_metric is {task.best_metric!r}. Expected a metric that {kind}.evaluate returns: "
            f"{', '.join(metrics) or 'none'}. Set best_metric to one of these, or let evaluate return this metric."
        )
    run.board.add("dev", metrics, entry["step"])
    entry |= metrics
    run.history["epochs"].append(entry)
    logging.info("%s", "  ".join(f"{name} {value:.4g}" for name, value in entry.items()))
    score = metrics[task.best_metric]
    best = run.history["best"].get(task.best_metric, score)
    if settings.keep == "last" or (score <= best if task.lowest_is_best else score >= best):
        run.history["best"] = entry
        if run.checkpoint:
            task.save()


def _finish(task: Task, folder: str, run: _Run) -> None:
    """Lets the task improve the kept weights; writes the learning curve, the report and, last, the metrics."""
    if run.history["best"]["epoch"] == 0:
        logging.warning(
            "No epoch had a better %s on dev than the model that training started from: its weights were kept. Try "
            "another --learning_rate, or more --epochs.",
            task.best_metric,
        )
    run.history["best"] = run.history["best"] | task.improve(run.history)
    curves.draw(run.history, task.best_metric, os.path.join(folder, CURVE_FILE))
    task.report(run.history)
    files.write_json(os.path.join(folder, METRICS_FILE), run.history)
    run.checkpoint.remove()  # no longer needed
