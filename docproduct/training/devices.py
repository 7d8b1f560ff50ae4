"""Devices and processes: seeds, GPU memory, one device or several GPUs or several machines."""

import contextlib
import json
import os
import random
import re
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
from absl import logging

STRATEGIES = ("default", "mirrored", "multi_worker")
_JOBS = ("chief", "worker")  # jobs that train; TensorFlow would wait for ever for a ps
_ADDRESS = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):([0-9]{1,5})")
_LARGEST_PORT = 65_535

# Raised by a collective operation when another worker is gone.
LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


class WorkerLostError(RuntimeError):
    """Another worker has ended, or cannot be reached."""


def set_up(seed: int = 0, deterministic: bool = False) -> None:
    """Sets the seeds of this process and lets GPU memory grow; a script's main() calls it before anything runs.

    Args:
      seed: seed of every random draw that has no seed of its own.
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


def make_strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy to train with; a script's main() calls it right after `set_up`.

    Args:
      name: default (one device), mirrored (all GPUs of this machine), or multi_worker (all workers that the environment
        variable TF_CONFIG names, each of them a process that was started with the same flags).

    Raises:
      ValueError: an unknown name, or multi_worker without TF_CONFIG.
    """
    given = os.environ.get("TF_CONFIG")
    if name == "multi_worker":
        if reason := _wrong_tf_config(given):
            raise ValueError(
                f"strategy is multi_worker, but TF_CONFIG {reason}. Expected, in each worker's environment, "
                '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}.'
            )
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "mirrored" and given:
        raise ValueError(
            "strategy is mirrored, of this machine alone, but TF_CONFIG names a cluster. Unset TF_CONFIG, or use "
            "multi_worker."
        )
    if name == "default" and given:
        logging.warning(
            "TF_CONFIG is set, but with --strategy=default this process trains alone. For all workers: multi_worker."
        )
    strategies = {"default": tf.distribute.get_strategy, "mirrored": tf.distribute.MirroredStrategy}
    if name not in strategies:
        raise ValueError(f"strategy is {name!r}; expected {', '.join(STRATEGIES)}.")
    return strategies[name]()


def _wrong_tf_config(text: str | None) -> str | None:
    """Returns what is wrong with the content of TF_CONFIG, in words, or None."""
    if not text:
        return "is not set"
    try:
        config = json.loads(text)
    except ValueError as error:
        return f"is no JSON ({error})"
    if not isinstance(config, dict):
        return "is no JSON object"
    cluster, task = config.get("cluster"), config.get("task")
    cluster = cluster if isinstance(cluster, dict) else {}
    if others := sorted(cluster.keys() - {*_JOBS}):
        return f"has the jobs {', '.join(others)} in its cluster; those that train are {' and '.join(_JOBS)}"
    jobs = {job: cluster[job] for job in _JOBS if job in cluster}
    if not jobs or not all(isinstance(of_job, list) and of_job for of_job in jobs.values()):
        return f"has no list of workers in its cluster: {cluster}"
    addresses = [address for of_job in jobs.values() for address in of_job]
    for address in addresses:
        match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
        if not match or not 1 <= int(match[1]) <= _LARGEST_PORT:
            return f"has the address {address!r}, without a port of 1 to {_LARGEST_PORT}, or with more than host:port"
    if twice := sorted({address for address in addresses if addresses.count(address) > 1}):
        return f"has the address {twice[0]!r} twice; each worker has its own"
    if len(jobs.get("chief", [])) > 1:
        return f"has {len(jobs['chief'])} chiefs; expected one at most"
    if not isinstance(task, dict):
        return f"has the task {task!r}, which is no object with type and index"
    kind, index = task.get("type"), task.get("index")
    if not isinstance(kind, str) or kind not in jobs:
        return f"has a task of the type {kind!r}; its cluster has {', '.join(jobs)}"
    if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(jobs[kind]):
        return f"has the task index {index!r}; its cluster has {len(jobs[kind])} of the type {kind}, from 0"
    return None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process writes files; of several workers, one does."""
    return strategy.extended.should_checkpoint


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together."""
    resolver = strategy.cluster_resolver
    return max(1, resolver.cluster_spec().num_tasks("worker")) if resolver and resolver.cluster_spec() else 1


@contextlib.contextmanager
def with_all_workers(action: str) -> Iterator[None]:
    """Raises a WorkerLostError that names the action if another worker ends while the block waits for it."""
    try:
        yield
    except LOST as error:
        reason = error.message.splitlines()[0][:200]
        raise WorkerLostError(
            f"{action} could not be done: another worker has ended or cannot be reached ({reason}). "
            "See its own message. Start all workers again with --resume; they go on from the last checkpoint."
        ) from error


def wait_for_all(strategy: tf.distribute.Strategy, step: int) -> None:
    """Waits until all workers have called this.

    Raises:
      ValueError: the workers are not at the same step.
    """
    if strategy.num_replicas_in_sync == 1:
        return

    @tf.function
    def sum_of_steps() -> tf.Tensor:
        steps = strategy.run(lambda: tf.constant(step, tf.int64))
        return strategy.reduce(tf.distribute.ReduceOp.SUM, steps, axis=None)

    with with_all_workers("Starting together"):
        total = int(sum_of_steps())
    if total != step * strategy.num_replicas_in_sync:
        raise ValueError(
            f"This worker would start at step {step}, another one elsewhere. Expected all of them to see the same "
            "model folder, and to be started with --resume, or all without."
        )
