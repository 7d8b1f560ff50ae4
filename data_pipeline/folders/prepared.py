"""A prepared folder: what `data_pipeline.prepare` writes and everything else reads.

manifest.json   written last: tokenizer fingerprint, counts, settings, input files with their hashes
pairs.parquet   one row a pair: ids, texts, groups, split, source, focus
train-00000-of-00008.tfrecord ...   token ids, some shards for each split
vocab.txt (or tokenizer.json) tokenizer_config.json     the tokenizer that made the ids
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import records
from data_pipeline.folders import files
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.tokenizers import Tokenizer, load_tokenizer

MANIFEST_FILE = "manifest.json"
PAIRS_FILE = "pairs.parquet"
KIND = "docproduct prepared pairs"
FORMAT = 3

SIDES = ("question", "answer")

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


class RowFinder:
    """Finds the rows of pairs by their pair_id."""

    def __init__(self, pair_ids: np.ndarray):
        """Takes the pair_id of every row, [N]."""
        self._pair_ids, self._by_id = pair_ids, np.argsort(pair_ids)

    def __call__(self, pair_ids: np.ndarray) -> np.ndarray:
        """Returns the row of each of these pairs, of any shape.

        Raises:
          KeyError: one of them is not there.
        """
        places = np.searchsorted(self._pair_ids, pair_ids, sorter=self._by_id).clip(max=len(self._by_id) - 1)
        rows = self._by_id[places]
        if not np.array_equal(self._pair_ids[rows], pair_ids):
            raise KeyError("There are pairs of another folder among these.")
        return rows


class PreparedFolder:
    """Reads a prepared folder.

    Attributes:
      path: the folder.
      manifest: the content of manifest.json.
      schema: of the records in its shards.
    """

    schema = records.PAIR

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
        """Returns a hash of what the folder holds: inputs by their content, tokenizer and settings; never of paths."""
        settings = content_settings(self.manifest["settings"])
        inputs = [entry["sha256"] for entry in self.manifest["inputs"]]
        names = ("tokenizer", "counts", "boilerplate_sha256")
        content = [*(self.manifest[name] for name in names), settings, inputs]
        return files.fingerprint(content)

    def tokenizer(self) -> Tokenizer:
        """Loads the tokenizer that made the ids.

        Raises:
          ValueError: the vocabulary in the folder is another one.
        """
        tokenizer = load_tokenizer(self.path)
        expected = self.manifest["tokenizer"]["fingerprint"]
        if tokenizer.fingerprint != expected:
            raise ValueError(
                f"The vocabulary in {self.path} has fingerprint {tokenizer.fingerprint[:12]}; its ids were made with "
                f"{expected[:12]}. The folder was changed: prepare it again."
            )
        return tokenizer

    def prompts(self) -> EncoderPrompts:
        """Returns what stands before every question and answer in the ids."""
        settings = self.manifest["settings"]
        return EncoderPrompts(settings.get("question_prompt") or "", settings.get("answer_prompt") or "")

    def longest(self, *sides: str) -> int:
        """Returns the number of tokens of the longest text of the given sides, or of both."""
        return max(count[f"longest_{side}"] for count in self.manifest["counts"].values() for side in sides or SIDES)

    def cut_at(self) -> int:
        """Returns the number of tokens that texts were cut at, of the side with the longer limit."""
        return max(self.manifest["settings"][f"max_{side}_tokens"] for side in SIDES)

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


def content_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the settings that say what is in a folder, without those that say where it came from.

    How many of the inputs were given to which split counts, not their names.
    """
    given = {name: len(settings[name]) for name in ("inputs", "dev_inputs", "test_inputs")}
    scrub = {name: value for name, value in settings["scrub"].items() if name != "boilerplate"}
    return {name: value for name, value in settings.items() if name != "tokenizer"} | given | {"scrub": scrub}


def find_manifest(path: str) -> dict[str, Any] | None:
    """Returns the manifest of a prepared folder; None where there is none, or another kind of folder."""
    try:
        return PreparedFolder(path).manifest
    except ValueError:
        return None


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
