"""The files of a trained model's folder, and what its config.json says of the code that made it."""

import importlib.metadata
import os
import subprocess
from typing import Any

from absl import logging

from data_pipeline.folders import files
from data_pipeline.tokenizers import Tokenizer, load_tokenizer
from docproduct.layers.array_ops import USES_JAX

CONFIG_FILE = "config.json"  # written first
WEIGHTS_FILE = "weights.safetensors"  # of the best epoch so far
METRICS_FILE = "metrics.json"  # written last: without it, the training has not ended


def read_config(folder: str, kind: str, file_format: int, remedy: str) -> dict[str, Any]:
    """Returns the content of config.json of a model that was trained here; warns if its training has not ended.

    Args:
      folder: the model folder.
      kind: the "kind" that it must have, such as "docproduct reranker".
      file_format: the "format" that it must have.
      remedy: what was expected, for errors.

    Raises:
      ValueError: it is of another kind or format, or there is none.
    """
    stored = files.read_json(os.path.join(folder, CONFIG_FILE))
    if stored is None or stored.get("kind") != kind:
        found = f"no {CONFIG_FILE}" if stored is None else f"a {CONFIG_FILE} of {stored.get('kind')!r}"
        raise ValueError(f"{folder} holds no {kind.removeprefix('docproduct ')}: it has {found}. {remedy}")
    if stored.get("format") != file_format:
        raise ValueError(f"{folder} has format {stored.get('format')}; expected {file_format}. Train the model again.")
    if not os.path.isfile(os.path.join(folder, METRICS_FILE)):
        logging.warning("The training in %s has not ended: its weights are those of the best epoch so far.", folder)
    return stored


def read_tokenizer(folder: str, fingerprint: str) -> Tokenizer:
    """Returns the tokenizer of a model that was trained here.

    Args:
      folder: the model folder.
      fingerprint: of the tokenizer that the model was trained with.

    Raises:
      ValueError: it is another one, or cannot be read.
    """
    tokenizer = load_tokenizer(folder)
    if tokenizer.fingerprint != fingerprint:
        raise ValueError(
            f"The tokenizer in {folder} has fingerprint {tokenizer.fingerprint[:12]}; the model was trained with "
            f"{fingerprint[:12]}. The folder was changed: copy the tokenizer's files into it again."
        )
    return tokenizer


def provenance() -> dict[str, Any]:
    """Returns {"versions": of the packages that decide the numbers, "git_commit": of this code, None outside git}."""
    packages = ("tensorflow", "keras", "tensorflow-text", "numpy", *(("jax",) if USES_JAX else ()))
    return {"versions": {name: importlib.metadata.version(name) for name in packages}, "git_commit": _commit()}


def _commit() -> str | None:
    command = ["git", "-C", os.path.dirname(os.path.abspath(__file__)), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
