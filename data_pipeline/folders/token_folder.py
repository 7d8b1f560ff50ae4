"""A token folder: rows of token ids to train on, each a prompt, which may be empty, and its target.

    manifest.json   written last: kind of rows, tokenizer fingerprint, counts, settings, fingerprints of the sources
    train-00000-of-00004.tfrecord ...   token ids, some shards for each split
    vocab.json merges.txt tokenizer_config.json     the tokenizer that made the ids; not a GPT-2's: tokenizer.json

There are three kinds of rows: context_answer (the prompt holds retrieved pairs), closed_book (the question alone) and
language_model (no prompt; whole documents packed into windows).
"""

import collections
import dataclasses
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import records, splits
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE, read_manifest
from data_pipeline.schemas import IDS, NUMBER
from data_pipeline.tokenizers import BytePairs, CausalTokenizer, DecoderTokenizer
from data_pipeline.tokenizers.decoder_files import JSON_FILE
from data_pipeline.varints import varints

KIND = "docproduct token rows"
FORMAT = 1
ROWS = CONTEXT_ANSWER, CLOSED_BOOK, LANGUAGE_MODEL = ("context_answer", "closed_book", "language_model")
_SHARD_ROWS = 2**14
# A prompt, perhaps empty, and what a model learns to write after it.
FEATURES = {"prompt_ids": IDS, "target_ids": IDS, "pair_id": NUMBER}
# Words for what the manifest knows by its hash alone.
_WORDS = {
    "made_of": "other texts",
    "texts": "other texts",
    "prepared": "other pairs",
    "encoder": "pairs that another encoder retrieved",
    "tokenizer": "another vocabulary",
    "vocabulary": "another vocabulary",
}


class TokenRow(NamedTuple):
    """A row.

    Attributes:
      prompt_ids: token ids that the model reads; may be empty.
      target_ids: token ids that it learns to write, each after all tokens before it.
      pair_id: the pair that the row was made of; of a window its number.
    """

    prompt_ids: Sequence[int]
    target_ids: Sequence[int]
    pair_id: int


@dataclasses.dataclass(frozen=True)
class Origin:
    """How the rows of a token folder came about; its manifest stores it.

    Attributes:
      rows: kind of rows, one of `ROWS`.
      settings: what they were made with.
      made_of: fingerprints of what they were made of.
    """

    rows: str
    settings: dict[str, Any]
    made_of: Any


class TokenFolder:
    """Reads a token folder.

    Attributes:
      path: the folder.
      manifest: the content of manifest.json.
      rows: kind of rows, one of `ROWS`.
      features: the kind of each feature of the records in its shards.
    """

    features = FEATURES

    def __init__(self, path: str):
        """Opens the folder.

        Raises:
          ValueError: it has no manifest, as its writing did not end, or one of another kind or format.
        """
        self.path = path
        self.manifest: dict[str, Any] = read_manifest(
            path, KIND, FORMAT, "Make one with: python -m docproduct.contexts, or train_gpt2.py."
        )
        self.rows: str = self.manifest["rows"]

    def fingerprint(self) -> str:
        """Returns a hash of what the folder holds."""
        return files.fingerprint(
            [self.manifest[name] for name in ("rows", "tokenizer", "counts", "settings", "made_of")]
        )

    def tokenizer(self) -> CausalTokenizer:
        """Loads the tokenizer that made the ids.

        Raises:
          ValueError: the vocabulary in the folder is another one.
        """
        kind = DecoderTokenizer if os.path.isfile(os.path.join(self.path, JSON_FILE)) else BytePairs
        tokenizer = kind.load(self.path)
        if tokenizer.fingerprint != self.manifest["tokenizer"]:
            raise ValueError(f"The vocabulary in {self.path} is not the one that made its ids. Make the folder again.")
        return tokenizer

    def num_rows(self, split: str) -> int:
        """Returns the number of rows in a split."""
        return self.manifest["counts"][split]["rows"]

    def window(self) -> int:
        """Returns the largest number of tokens of a row, by the settings."""
        settings = self.manifest["settings"]
        return settings.get("prompt", settings)["window"]

    def shards(self, split: str) -> list[str]:
        """Returns the paths of a split's TFRecord shards."""
        return [os.path.join(self.path, name) for name in self.manifest["shards"][split]]


def write(
    path: str,
    origin: Origin,
    tokenizer: CausalTokenizer,
    of_split: Mapping[str, Iterable[TokenRow]],
    overwrite: bool = False,
    shortened: Mapping[str, int] | None = None,
    tables: Mapping[str, pa.Table] | None = None,
) -> dict[str, Any]:
    """Writes a token folder, whole or not at all.

    Args:
      path: the folder.
      origin: how the rows came about.
      tokenizer: made the ids.
      of_split: the rows of each split.
      overwrite: replace `path`.
      shortened: counts of what the rows lack. The generators in `of_split` may fill it: it is read after them.
      tables: further files, by name.

    Returns:
      The manifest.
    """
    with files.whole_folder(path, overwrite, KIND) as folder:
        manifest: dict[str, Any] = {"kind": KIND, "format": FORMAT, "rows": origin.rows}
        manifest |= {"tokenizer": tokenizer.fingerprint, "settings": origin.settings, "made_of": origin.made_of}
        manifest |= {"counts": {}, "shards": {}}
        for split in splits.SPLITS:
            columns: dict[str, list[bytes]] = {name: [] for name in FEATURES}
            sizes = []
            for row in of_split.get(split, []):
                sizes.append((len(row.prompt_ids), len(row.target_ids)))
                for name, packed in columns.items():
                    packed.append(varints(np.asarray(getattr(row, name), np.int64).reshape(-1)).tobytes())
            prompt, target = map(sum, zip(*sizes, strict=True)) if sizes else (0, 0)
            counts = {"rows": len(sizes), "prompt_tokens": prompt, "target_tokens": target}
            manifest["counts"][split] = counts | {"longest": max(map(sum, sizes), default=0)}
            manifest["shards"][split] = _write_shards(folder, split, columns)
            if split == splits.TRAIN:
                manifest["train_lengths"] = sorted(collections.Counter(map(sum, sizes)).items())
        manifest["shortened"] = dict(shortened or {})
        for name, table in (tables or {}).items():
            pq.write_table(table, os.path.join(folder, name))
        tokenizer.save(folder)
        files.write_json(os.path.join(folder, MANIFEST_FILE), manifest)
    return manifest


def same_folder(path: str, origin: Origin, tokenizer: CausalTokenizer | None = None) -> dict[str, Any] | None:
    """Returns the manifest of the token folder at `path` if it has this origin; None if there is no such folder.

    Raises:
      ValueError: a token folder of another origin is there.
    """
    if not os.path.exists(os.path.join(path, MANIFEST_FILE)):
        return None
    manifest = TokenFolder(path).manifest
    expected = json.loads(json.dumps(dataclasses.asdict(origin)))
    expected |= {"tokenizer": tokenizer.fingerprint} if tokenizer else {}
    if changed := _changes({name: manifest[name] for name in expected}, expected):
        raise ValueError(f"{path} was made differently: {'; '.join(changed)}. Give another folder, or remove that one.")
    return manifest


def _changes(stored: Any, expected: Any, name: str = "") -> list[str]:
    """Returns the differences between nested settings, in words."""
    if stored == expected:
        return []
    if isinstance(stored, dict) and isinstance(expected, dict):
        keys = dict.fromkeys([*stored, *expected])
        return [text for key in keys for text in _changes(stored.get(key), expected.get(key), _WORDS.get(key, key))]
    if name in _WORDS.values():
        return [f"of {name}"]
    return [f"{name} was {stored}, is {expected}"]


def _write_shards(folder: str, split: str, columns: dict[str, list[bytes]]) -> list[str]:
    num_shards = -(-len(columns["pair_id"]) // _SHARD_ROWS)
    names = [f"{split}-{shard:05d}-of-{num_shards:05d}.tfrecord" for shard in range(num_shards)]
    for shard, name in enumerate(names):
        part = {column: packed[shard::num_shards] for column, packed in columns.items()}
        records.write_shard(os.path.join(folder, name), records.serialize(part))
    return names
