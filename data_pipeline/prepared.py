"""A prepared folder: what `data_pipeline.prepare` writes and everything else reads.

manifest.json   written last: tokenizer fingerprint, counts, settings, input files with their hashes
pairs.parquet   one row a pair: ids, texts, groups, split, source, focus
train-00000-of-00008.tfrecord ...   token ids, some shards for each split
vocab.txt tokenizer_config.json     the tokenizer that made the ids
"""

import json
import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import files

MANIFEST_FILE = "manifest.json"
PAIRS_FILE = "pairs.parquet"
KIND = "docproduct prepared pairs"
FORMAT = 1

PAIRS_SCHEMA = pa.schema(
    [
        ("pair_id", pa.int64()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("question_group", pa.int64()),
        ("answer_group", pa.int64()),
        ("split", pa.string()),
        ("source", pa.string()),
        ("focus", pa.string()),
    ]
)


class PreparedFolder:
    """Reads a prepared folder.

    Attributes:
      path: the folder.
      manifest: the content of manifest.json.
    """

    def __init__(self, path: str):
        """Opens the folder.

        Raises:
          ValueError: it has no manifest (preparing did not end), or one of another kind or format.
        """
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(
            path, KIND, FORMAT, "Make one with: python -m data_pipeline.prepare --input=... --output_dir=..."
        )

    def fingerprint(self) -> str:
        """Returns the hash of the manifest, which holds the hashes of the inputs and all settings."""
        return files.sha256(os.path.join(self.path, MANIFEST_FILE))

    def num_pairs(self, split: str) -> int:
        """Returns the number of pairs in a split."""
        return self.manifest["counts"][split]["pairs"]

    def shards(self, split: str) -> list[str]:
        """Returns the paths of a split's TFRecord shards."""
        return [os.path.join(self.path, name) for name in self.manifest["shards"][split]]

    def pairs(self, columns: Sequence[str], split: str | None = None) -> pa.Table:
        """Returns columns of pairs.parquet, of one split or of all."""
        filters = None if split is None else [("split", "=", split)]
        return pq.read_table(os.path.join(self.path, PAIRS_FILE), columns=list(columns), filters=filters)


def read_manifest(folder: str, kind: str, version: int, remedy: str) -> dict[str, Any]:
    """Reads the manifest of a folder that was written whole.

    Raises:
      ValueError: there is none, or it is of another kind or format; the message ends with `remedy`.
    """
    path = os.path.join(folder, MANIFEST_FILE)
    if not os.path.isfile(path):
        raise ValueError(f"{folder} has no {MANIFEST_FILE}: expected a finished folder of {kind}. {remedy}")
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read ({error}). {remedy}") from error
    received = (manifest.get("kind"), manifest.get("format"))
    if received != (kind, version):
        raise ValueError(f"{path} is of kind and format {received}; expected {(kind, version)}. {remedy}")
    return manifest
