"""Manifests: the file that a folder gets last, and without which nothing reads it."""

import os
from typing import Any

from data_pipeline.folders import files

MANIFEST_FILE = "manifest.json"


def read_manifest(folder: str, kind: str, version: int, remedy: str) -> dict[str, Any]:
    """Reads the manifest of a folder that was written whole.

    Raises:
      ValueError: there is none, or it is of another kind or format; the message ends with `remedy`.
    """
    path = os.path.join(folder, MANIFEST_FILE)
    if not os.path.isdir(folder):
        raise ValueError(f"There is no folder {folder}. {remedy}")
    manifest = files.read_json(path)
    if manifest is None:
        raise ValueError(f"{folder} has no {MANIFEST_FILE}: expected a finished folder of {kind}. {remedy}")
    received = (manifest.get("kind"), manifest.get("format")) if isinstance(manifest, dict) else None
    if received != (kind, version):
        raise ValueError(f"{path} is of kind and format {received}; expected {(kind, version)}. {remedy}")
    return manifest
