"""A training and its folder: begun anew, resumed, or found to have ended before."""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import tensorflow as tf
from absl import logging

from data_pipeline.folders import files
from docproduct.model_folder import CONFIG_FILE, METRICS_FILE
from docproduct.training import devices
from docproduct.training import loop as training
from docproduct.training.settings import TrainingSettings

# For a resumed run; dtype_policy stands for the precision.
_MAY_CHANGE = ("_dir", ".precision", ".checkpoint_steps", ".patience")


@dataclasses.dataclass(frozen=True)
class Run:
    """A training, ready to start.

    Attributes:
      task: for the training loop.
      record: what must be equal for a run to be resumed; stands in config.json.
      save_config: writes everything but the weights into a folder.
    """

    task: training.Task
    record: dict[str, Any]
    save_config: Callable[[str], None]


def train(
    make_run: Callable[[], Run],
    settings: TrainingSettings,
    model_dir: str,
    kind: str,
    inputs: Iterable[str | None],
    strategy: tf.distribute.Strategy,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Trains in a folder.

    Args:
      make_run: makes model and task; is called once it is known that the folder is free, or holds a run to resume.
      settings: the loop's.
      model_dir: the folder.
      kind: what its config.json says it is.
      inputs: folders that are trained from, which it must not be.
      strategy: where to train.
      resume: continue a run that was interrupted, with the same record.
      overwrite: replace `model_dir`.

    Returns:
      What metrics.json holds, see `training.fit`.

    Raises:
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
      ValueError: both are, or a run was begun with another record.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite contradict each other. Give one of them.")
    resumed = resume and os.path.exists(os.path.join(model_dir, CONFIG_FILE))
    if not resumed and devices.is_chief(strategy):
        _check_free(model_dir, kind, inputs, overwrite)
    run = make_run()
    if resumed:
        _check_same_run(model_dir, run.record)
        if devices.is_chief(strategy):
            files.remove_partial(model_dir)
        if finished := files.read_json(os.path.join(model_dir, METRICS_FILE)):
            logging.info("The training in %s has ended before; nothing is left to do.", model_dir)
            return finished
    else:
        if resume:
            logging.info("There is no run in %s yet: it begins.", model_dir)
        if devices.is_chief(strategy):
            with files.whole_folder(model_dir, overwrite, kind, CONFIG_FILE) as folder:
                run.save_config(folder)
    return training.fit(run.task, settings, model_dir, strategy, resume)


def _check_free(model_dir: str, kind: str, inputs: Iterable[str | None], overwrite: bool) -> None:
    """Raises a FileExistsError if a model folder at this place would take something away."""
    if not os.path.isdir(model_dir) or not os.listdir(model_dir):
        return
    if not overwrite:
        raise FileExistsError(
            f"{model_dir} is not empty. Give another folder, --resume to continue an interrupted run, or --overwrite."
        )
    if os.path.realpath(model_dir) in map(os.path.realpath, filter(None, inputs)):
        raise FileExistsError(f"{model_dir} is what is trained from. Give another folder for the model.")
    files.check_free(model_dir, overwrite, kind, CONFIG_FILE)


def _check_same_run(model_dir: str, record: dict[str, Any]) -> None:
    """Raises a ValueError unless the folder's training was begun with the same data and settings."""
    stored = _flat(files.read_json(os.path.join(model_dir, CONFIG_FILE)))
    # Folders may have moved; what is in them counts.
    record = json.loads(json.dumps(record))  # tuples become lists, as in the file
    current = {name: value for name, value in _flat(record).items() if not name.endswith(_MAY_CHANGE)}
    changed = [
        f"{name.removeprefix('training.').removeprefix('settings.')} was {stored.get(name)!r}, is {now!r}"
        for name, now in current.items()
        if stored.get(name) != now
    ]
    if changed:
        raise ValueError(
            f"{model_dir} cannot be resumed with other settings: {'; '.join(changed)}. Give the first ones. To train a "
            "finished model further, start from it, in another folder."
        )


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat = {}
    for name, value in nested.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat
