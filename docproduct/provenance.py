"""What made a model: stands in its config.json."""

import importlib.metadata
import os
import subprocess
from typing import Any


def here() -> dict[str, Any]:
    """Returns {"versions": of the packages that decide the numbers, "git_commit": of this code, None outside git}."""
    packages = ("tensorflow", "keras", "tensorflow-text", "numpy")
    return {"versions": {name: importlib.metadata.version(name) for name in packages}, "git_commit": _commit()}


def _commit() -> str | None:
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
