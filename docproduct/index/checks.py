"""Checks of an index folder when it is opened."""

import os
from typing import Any

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.index.folder import FAISS_FILES, REMEDY
from docproduct.systems.retriever import Side


def sides_of(manifest: dict[str, Any]) -> list[Side]:
    """Returns the sides that the index has vectors of; precomputed vectors may be of one side."""
    names = manifest.get("sha256", FAISS_FILES.values())
    return [side for side, name in FAISS_FILES.items() if name in names]


def check_files(index_dir: str, manifest: dict[str, Any]) -> None:
    """Raises a ValueError if a file is not as it was written."""
    for name, sha256 in manifest.get("sha256", {}).items():
        path = os.path.join(index_dir, name)
        if not os.path.isfile(path) or files.sha256(path) != sha256:
            raise ValueError(f"{path} is missing or damaged (its bytes are not those that were written). {REMEDY}")


def check_prepared(manifest: dict[str, Any], prepared: PreparedFolder) -> None:
    """Raises a ValueError unless an index was built from a prepared folder, alone or beside others."""
    if prepared.fingerprint() not in manifest.get("folders", [manifest["prepared"]]):
        raise ValueError(
            f"The index was built from other pairs than {prepared.path}. Build it from them, or from them and others."
        )


def check_encoder(index_dir: str, encoder: dict[str, str], fingerprint: str) -> None:
    """Raises a ValueError unless a retriever with this fingerprint built the index."""
    if not encoder["fingerprint"]:
        raise ValueError(
            f"{index_dir} holds precomputed vectors without an encoder, so that no text can be asked. Search it with "
            "vectors in Python: Index.open_vectors(index_dir).search(vector, k). Or build it again with --model_dir, "
            "the encoder that made them."
        )
    if encoder["fingerprint"] != fingerprint:
        raise ValueError(
            f"{index_dir} was built with the encoder {encoder['name']!r} (fingerprint "
            f"{encoder['fingerprint'][:12]}); received an encoder with fingerprint {fingerprint[:12]}. Their vectors "
            "cannot be compared: give that encoder, or build the index again with this one."
        )
