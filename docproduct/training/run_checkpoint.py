"""The checkpoint of an unfinished training: one file with all that a run needs to go on as if it had never stopped."""

import contextlib
import glob
import json
import os
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from data_pipeline.folders import files


class Checkpoint:
    """All variables (weights, optimizer, random states) and the history, in one file that is written whole."""

    def __init__(self, path: str, variables: list[Any]):
        self.path = path
        # By position: a name may depend on how many models this process has made.
        self._variables = {str(i): variable for i, variable in enumerate(variables)}

    def save(self, history: dict[str, Any]) -> None:
        """Writes variables and history."""
        self.remove_partial()
        tensors = {name: np.asarray(variable.numpy()) for name, variable in self._variables.items()}
        with files.whole_file(self.path) as partial, open(partial, "wb") as file:
            file.write(safetensors.numpy.save(tensors, {"history": json.dumps(history)}))

    def restore(self) -> dict[str, Any] | None:
        """Sets the variables and returns the history; None if there is no checkpoint."""
        if not os.path.exists(self.path):
            return None
        try:
            with safetensors.safe_open(self.path, "numpy") as file:
                tensors = {name: file.get_tensor(name) for name in self._variables}
                history = json.loads(file.metadata()["history"])
            for name, variable in self._variables.items():
                if tensors[name].shape != tuple(variable.shape):
                    raise ValueError(f"variable {name} has shape {tensors[name].shape}, expected {variable.shape}")
        except (safetensors.SafetensorError, TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{self.path} cannot be restored ({error}): it is damaged, or of another model. Start again with "
                "--overwrite."
            ) from error
        for name, variable in self._variables.items():
            variable.assign(tensors[name])
        return history

    def remove_partial(self) -> None:
        """Removes files that a killed process has half written."""
        for path in glob.glob(f"{glob.escape(self.path)}.*.partial"):
            os.remove(path)

    def remove(self) -> None:
        """Removes the file if it is there."""
        self.remove_partial()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.path)
