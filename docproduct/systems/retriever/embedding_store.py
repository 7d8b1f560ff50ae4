"""An encoder's own vectors of the pairs in a prepared folder, computed once and stored in it.

    PREPARED/embeddings/FINGERPRINT-SIDE/vectors.npy     [N, D] float32, in the order of pairs.parquet
                                         manifest.json   written last

The fingerprint is that of the encoder with its tokenizer: another encoder has a store of its own. Preparing the folder
again removes all stores.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator

import numpy as np

from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE, read_manifest
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.layers import checkpoints
from docproduct.systems.retriever.folder import Side, TrainedRetriever

KIND = "docproduct embedding store"
FORMAT = 2
VECTORS_FILE = "vectors.npy"


def open_store(retriever: TrainedRetriever, prepared: PreparedFolder, side: Side, make: bool = True) -> np.ndarray:
    """Returns the vectors of one side before the heads, [N, D] float32, mapped from the file into memory.

    Args:
      retriever: the encoder.
      prepared: the pairs.
      side: question or answer.
      make: whether to compute a missing store.

    Raises:
      FileNotFoundError: there is no store, and `make` is off.
      ValueError: the store is damaged, or holds other pairs.
    """
    folder = os.path.join(prepared.path, "embeddings", f"{_fingerprint(retriever)[:16]}-{side}")
    manifest = os.path.join(folder, MANIFEST_FILE)
    if not os.path.isfile(manifest):
        if not make:
            raise FileNotFoundError(
                f"{folder} is not there, where the first worker has written it. Give all workers the same "
                "--prepared_dir, in a file system that they share."
            )
        with files.taking_turns(folder):
            if not os.path.isfile(manifest):  # no other process has made it meanwhile
                _write(folder, retriever, prepared, side)
    remedy = f"Remove {folder}; it is made again."
    if read_manifest(folder, KIND, FORMAT, remedy)["prepared"] != prepared.fingerprint():
        raise ValueError(f"{folder} holds vectors of other pairs. {remedy}")
    try:
        return np.load(os.path.join(folder, VECTORS_FILE), mmap_mode="r")
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder} is damaged ({error}). {remedy}") from error


def _write(folder: str, retriever: TrainedRetriever, prepared: PreparedFolder, side: Side) -> None:
    with files.whole_folder(folder, overwrite=True) as partial:
        vectors = retriever.embed_prepared(
            prepared, side, progress=f"encoding {side}s, stored in {os.path.dirname(folder)}"
        ).encoder
        np.save(os.path.join(partial, VECTORS_FILE), vectors)
        manifest = {"kind": KIND, "format": FORMAT, "prepared": prepared.fingerprint()}
        files.write_json(os.path.join(partial, MANIFEST_FILE), manifest)


def _fingerprint(retriever: TrainedRetriever) -> str:
    """Returns a hash of what decides the vectors: encoder, pooling, longest text, tokenizer, prompts, precision."""
    config = retriever.config
    settings = [
        dataclasses.asdict(config.bert.with_dropout(0.0)),
        config.pooling,
        config.max_tokens,
        retriever.tokenizer.fingerprint,
    ]
    # Encoders without these keep the stores that were made before there were any.
    if config.dense:
        settings.append([dataclasses.asdict(layer) for layer in config.dense])
    if retriever.prompts:
        settings.append(dataclasses.asdict(retriever.prompts))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(retriever.dtype_policy.encode())
    for part in _weights(retriever):
        digest.update(part)
    return digest.hexdigest()


def _weights(retriever: TrainedRetriever) -> Iterator[bytes]:
    for layer in (retriever.model.bert, *retriever.model.dense):
        for name, variable in sorted(checkpoints.variables_by_name(layer).items()):
            yield name.encode()
            yield np.ascontiguousarray(variable.numpy()).tobytes()
