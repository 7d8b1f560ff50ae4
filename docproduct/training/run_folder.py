"""The folder of a training: free for a new run, or with a run to resume, or with one that has ended."""

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

# For a resumed run; dtype_policy stands for the precision.
_MAY_CHANGE = ("_dir", ".precision", ".checkpoint_steps", ".patience")


class RunFolder:
    """The folder that a training writes.

    Attributes:
      path: the folder.
      resumed: whether it holds a run that is to be continued.
    """

    def __init__(
        self,
        path: str,
        kind: str,
        strategy: tf.distribute.Strategy,
        resume: bool = False,
        overwrite: bool = False,
        inputs: Iterable[str | None] = (),
    ):
        """Checks that the folder may be written; make it before anything is loaded.

        Args:
          path: the folder.
          kind: the "kind" in its config.json.
          strategy: where to train; of several workers, the chief writes.
          resume: continue a run that was interrupted; begin one if there is none.
          overwrite: replace the folder.
          inputs: folders that are trained from, which must not be replaced.

        Raises:
          FileExistsError: the folder is there, and neither `resume` nor `overwrite` is on.
          ValueError: both are.
        """
        if resume and overwrite:
            raise ValueError("resume and overwrite contradict each other. Give one of them.")
        self.path, self._kind, self._overwrite = path, kind, overwrite
        self._chief = devices.is_chief(strategy)
        self.resumed = resume and os.path.exists(os.path.join(path, CONFIG_FILE))
        if self._chief and not self.resumed:
            _check_free(path, kind, inputs, overwrite)
        if resume and not self.resumed:
            logging.info("There is no run in %s yet: it begins.", path)

    def begin(
        self, config: Any, start: dict[str, Any], save_config: Callable[[str, dict[str, Any]], None]
    ) -> dict[str, Any] | None:
        """Writes config.json, or checks that the run in it was begun with the same settings.

        Args:
          config: the settings, a dataclass.
          start: fingerprints of the data and of the model before its first step.
          save_config: writes everything but the weights into a folder, with a record of how they are made.

        Returns:
          None if there is something to train, else the content of metrics.json.

        Raises:
          ValueError: the run was begun with other settings, data or weights.
        """
        record = {"training": dataclasses.asdict(config)} | start
        if self.resumed:
            _check_same_run(self.path, record)
            return self._finished()
        if self._chief:
            with files.whole_folder(self.path, self._overwrite, self._kind, CONFIG_FILE) as folder:
                save_config(folder, record)
        return None

    def _finished(self) -> dict[str, Any] | None:
        """Returns the history of a run that has ended; removes what a killed process has half written."""
        if self._chief:
            files.remove_partial(self.path)
        if history := files.read_json(os.path.join(self.path, METRICS_FILE)):
            logging.info("The training in %s has ended before; nothing is left to do.", self.path)
        return history


def _check_free(path: str, kind: str, inputs: Iterable[str | None], overwrite: bool) -> None:
    """Raises a FileExistsError if a model folder at this place would take something away."""
    if not os.path.isdir(path) or not os.listdir(path):
        return
    if not overwrite:
        raise FileExistsError(
            f"{path} is not empty. Give another folder, --resume to continue an interrupted run, or --overwrite."
        )
    if os.path.realpath(path) in map(os.path.realpath, filter(None, inputs)):
        raise FileExistsError(f"{path} is what is trained from. Give another folder for the model.")
    files.check_free(path, overwrite, kind, CONFIG_FILE)


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
