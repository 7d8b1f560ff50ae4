"""The folder of a training: free for a new run, or with a run to resume, or with one that has ended."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import tensorflow as tf
from absl import logging

from data_pipeline.folders import files
from data_pipeline.settings import Settings, decisive, from_json
from docproduct.layers.precision import POLICIES
from docproduct.model_folder import CONFIG_FILE, METRICS_FILE
from docproduct.training import devices

T = TypeVar("T")


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

    def with_recorded_precision(self, config: T) -> T:
        """Returns the config; where a run is resumed and its precision is auto, with the one that it was begun with.

        What `auto` chooses may have changed meanwhile; what a run computes must not.

        Args:
          config: with `settings`, a TrainingSettings.
        """
        stored = files.read_json(os.path.join(self.path, CONFIG_FILE)) if self.resumed else None
        recorded = [name for name, policy in POLICIES.items() if stored and stored.get("dtype_policy") == policy]
        if config.settings.precision != "auto" or not recorded:
            return config
        return dataclasses.replace(config, settings=dataclasses.replace(config.settings, precision=recorded[0]))

    def begin(
        self,
        config: Settings,
        start: dict[str, Any],
        save_config: Callable[[str, dict[str, Any]], None],
        former: Mapping[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Writes config.json, or checks that the run in it was begun with the same settings.

        Args:
          config: the settings.
          start: fingerprints of the data and of the model before its first step, text or None each.
          save_config: writes everything but the weights into a folder, with a record of how they are made.
          former: settings that earlier versions had, see `settings.from_json`.

        Returns:
          None if there is something to train, else the content of metrics.json.

        Raises:
          ValueError: the run was begun with other settings, data or weights.
        """
        record = {"training": dataclasses.asdict(config)} | start
        if self.resumed:
            self._check_same(config, start, former)
            return self._finished()
        if self._chief:
            with files.whole_folder(self.path, self._overwrite, self._kind, CONFIG_FILE) as folder:
                save_config(folder, record)
        return None

    def _check_same(self, config: Settings, start: dict[str, Any], former: Mapping[str, Any] | None) -> None:
        """Raises a ValueError unless the run was begun with the same data, weights and settings.

        A setting that its config.json lacks had its default: earlier versions did not have it.
        """
        path = os.path.join(self.path, CONFIG_FILE)
        stored = files.read_json(path)
        before = decisive(from_json(type(config), stored.get("training", {}), path, former))
        before |= {name: stored.get(name) for name in start}
        changed = [
            f"{name.removeprefix('settings.')} was {before[name]!r}, is {now!r}"
            for name, now in (decisive(config) | start).items()
            if before[name] != now
        ]
        if changed:
            raise ValueError(
                f"{self.path} cannot be resumed with other settings: {'; '.join(changed)}. Give the first ones. To "
                "train a finished model further, start from it, in another folder."
            )

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
        raise FileExistsError(f"{path} is an input of this training. Give another folder for the model.")
    files.check_free(path, overwrite, kind, CONFIG_FILE)
