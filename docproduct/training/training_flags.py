"""The flags that training scripts share, and how such a script runs and ends."""

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from docproduct.layers.precision import PRECISIONS
from docproduct.training import devices
from docproduct.training.loop import CHECKPOINT_FILE
from docproduct.training.settings import KEPT, TrainingSettings

flags.disclaim_key_flags()  # they are the script's own: its --help shows them

_HELP = {
    "epochs": "Passes over the training rows.",
    "batch_size": "Rows of a step, over all replicas.",
    "learning_rate": "Its peak.",
    "warmup_share": "Share of the steps in which the learning rate rises.",
    "weight_decay": "AdamW's weight decay.",
    "clip_norm": "Largest global norm of the gradients.",
    "checkpoint_steps": "Steps between two checkpoints.",
    "patience": "End after so many epochs in a row without a better one; 0: never.",
    "max_steps": "End after so many steps, if --epochs has as many, within an epoch, too; 0: after all epochs.",
    "seed": "Of weights, dropout, order and samples.",
}


def define(defaults: TrainingSettings, but: Sequence[str] = ()) -> None:
    """Defines a flag for each field of TrainingSettings `but` some, and those of folder, restart and devices."""
    flags.DEFINE_string("model_dir", None, "The model folder to write (required).", required=True)
    flags.DEFINE_bool("resume", False, "Continue the interrupted run in model_dir.")
    flags.DEFINE_bool("overwrite", False, "Replace model_dir.")
    flags.DEFINE_enum(
        "strategy", "default", devices.STRATEGIES, "One device, all GPUs (mirrored), or TF_CONFIG's workers."
    )
    flags.DEFINE_bool("deterministic", False, "Repeatable ops, which may be slower.")
    flags.DEFINE_string("tensorboard_dir", None, "Where to write curves for TensorBoard (extra tensorboard).")
    flags.DEFINE_enum("keep", defaults.keep, KEPT, "Which epoch: the best on dev, or the last.")
    flags.DEFINE_enum("precision", defaults.precision, PRECISIONS, "auto: bfloat16 where it is fast.")
    of_type = {int: flags.DEFINE_integer, float: flags.DEFINE_float}
    for name, text in _HELP.items():
        if name not in but:
            default = getattr(defaults, name)
            of_type[type(default)](name, default, text)


def settings(values: flags.FlagValues) -> TrainingSettings:
    """Returns what the flags say."""
    return TrainingSettings(**{field.name: values[field.name].value for field in dataclasses.fields(TrainingSettings)})


def run(values: flags.FlagValues, train: Callable[[tf.distribute.Strategy], dict[str, Any]]) -> None:
    """Sets the process up, trains, and prints the metrics of the epoch that was kept as a line of JSON.

    Args:
      values: the flags.
      train: trains with a strategy, and returns the history.
    """
    try:
        devices.set_up(values.seed, values.deterministic)
        history = train(devices.make_strategy(values.strategy))
    except (ValueError, OSError, devices.WorkerLostError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        there = os.path.exists(os.path.join(values.model_dir, CHECKPOINT_FILE))
        sys.exit(
            "interrupted: go on with the same flags and --resume, without --overwrite. "
            f"{values.model_dir} has {'a checkpoint' if there else 'no checkpoint yet, so that it begins anew'}; "
            f"there is one every {values.checkpoint_steps} steps and after each epoch."
        )
    print(json.dumps({"model_dir": values.model_dir, **history["best"]}))
