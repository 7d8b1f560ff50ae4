"""The files of a trained model's folder, and what its config.json says of the code that made it."""

import importlib.metadata
import os
import subprocess
from typing import Any

CONFIG_FILE = "config.json"  # written first
WEIGHTS_FILE = "weights.safetensors"  # of the best epoch so far
METRICS_FILE = "metrics.json"  # written last: without it, the training has not ended


def provenance() -> dict[str, Any]:
    """Returns {"versions": of the packages that decide the numbers, "git_commit": of this code, None outside git}."""
    packages = ("tensorflow", "keras", "tensorflow-text", "numpy")
    return {"versions": {name: importlib.metadata.version(name) for name in packages}, "git_commit": _commit()}


def _commit() -> str | None:
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
