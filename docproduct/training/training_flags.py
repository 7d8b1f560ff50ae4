"""The flags that training scripts share, and how such a script begins and ends."""

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags, logging

from data_pipeline.settings import define_flags, flag_values
from docproduct.training import devices
from docproduct.training.loop import CHECKPOINT_FILE
from docproduct.training.settings import TrainingSettings

flags.disclaim_key_flags()  # they are the script's own: its --help shows them


def define(defaults: TrainingSettings, learning_rate: str) -> None:
    """Defines the flags of TrainingSettings, and those of the model folder, restarts and devices.

    Args:
      defaults: defaults of the flags, but for --learning_rate, whose default depends on other flags.
      learning_rate: what its default is, in words.
    """
    flags.DEFINE_string("model_dir", None, "The model folder to write (required).", required=True)
    flags.DEFINE_bool("resume", False, "Continue the interrupted run in model_dir.")
    flags.DEFINE_bool("overwrite", False, "Replace model_dir.")
    flags.DEFINE_enum(
        "strategy", "default", devices.STRATEGIES, "One device, all GPUs (mirrored), or TF_CONFIG's workers."
    )
    flags.DEFINE_bool("deterministic", False, "Repeatable ops, which may be slower.")
    flags.DEFINE_float("learning_rate", None, f"Peak learning rate; default: {learning_rate}.")
    define_flags(TrainingSettings, but=("learning_rate",), **dataclasses.asdict(defaults))


def settings(default_learning_rate: float) -> TrainingSettings:
    """Returns the settings that the flags give."""
    given = flags.FLAGS.learning_rate
    rate = default_learning_rate if given is None else given
    return TrainingSettings(learning_rate=rate, **flag_values(TrainingSettings, but=("learning_rate",)))


def set_up(argv: Sequence[str]) -> tf.distribute.Strategy:
    """Sets this process up as the flags say, and returns the strategy to train with.

    Raises:
      app.UsageError: there is an argument that is no flag.
      ValueError: the strategy does not fit the environment.
    """
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    devices.set_up(flags.FLAGS.seed, flags.FLAGS.deterministic)
    return devices.make_strategy(flags.FLAGS.strategy)


def check_task(but: Iterable[str]) -> None:
    """Raises a ValueError if a flag is given that this task does not have."""
    if given := sorted(name for name in but if flags.FLAGS[name].present):
        raise ValueError(f"--{given[0]} is not a flag of --task={flags.FLAGS.task}. Leave it out.")


@contextlib.contextmanager
def errors_on_one_line() -> Iterator[None]:
    """Ends the script with one line about what went wrong and what to do."""
    values = flags.FLAGS
    try:
        yield
    except (ValueError, OSError, devices.WorkerLostError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        has_checkpoint = os.path.exists(os.path.join(values.model_dir, CHECKPOINT_FILE))
        sys.exit(
            "interrupted: continue with the same flags and --resume, without --overwrite. "
            f"{values.model_dir} has {'a checkpoint' if has_checkpoint else 'no checkpoint yet, so it starts anew'}; "
            f"one is written every {values.checkpoint_steps} steps and after each epoch."
        )


def show(history: dict[str, Any]) -> None:
    """Prints the metrics of the epoch whose weights were kept as a line of JSON."""
    print(json.dumps({"model_dir": flags.FLAGS.model_dir, **history["best"]}))
