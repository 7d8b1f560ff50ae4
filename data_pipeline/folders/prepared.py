"""A prepared folder, which `data_pipeline.prepare` writes and everything else reads.

manifest.json   written last: tokenizer fingerprint, counts, settings, input files with their hashes
pairs.parquet   one row a pair, with the columns of its schema: id, texts, groups, split, labels
train-00000-of-00008.tfrecord ...   the features of the schema, some shards for each split
vocab.txt (or tokenizer.json) tokenizer_config.json     the tokenizer that made the ids

For another row type, the Parquet file, the kind in the manifest and the counts are called after it.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE, read_manifest
from data_pipeline.folders.prepared_settings import PrepareSettings
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.rows import PAIR
from data_pipeline.schemas import ANSWER, QUESTION, Schema
from data_pipeline.tokenizers import Tokenizer, load_tokenizer

FORMAT = 3


class RowFinder:
    """Finds rows of the table by their id."""

    def __init__(self, ids: np.ndarray):
        """Takes the id of every row, [N]."""
        self._ids, self._by_id = ids, np.argsort(ids)

    def __call__(self, ids: np.ndarray) -> np.ndarray:
        """Returns the row of each of these ids, of any shape.

        Raises:
          KeyError: one of them is not there.
        """
        places = np.searchsorted(self._ids, ids, sorter=self._by_id).clip(max=len(self._by_id) - 1)
        rows = self._by_id[places]
        if not np.array_equal(self._ids[rows], ids):
            raise KeyError("Some of these ids are of another folder.")
        return rows


class PreparedFolder:
    """Reads a prepared folder.

    Attributes:
      path: the folder.
      schema: of its rows.
      manifest: the content of manifest.json.
      settings: the settings of preparing; a setting that is newer than the folder has its default.
    """

    def __init__(self, path: str, schema: Schema = PAIR):
        """Opens the folder.

        Raises:
          ValueError: it has no manifest (preparing did not end), one of another kind or format, or one with settings
            that this version does not know.
        """
        self.path, self.schema = path, schema
        self.manifest: dict[str, Any] = read_manifest(
            path,
            kind(schema),
            FORMAT,
            "Make one with: python -m data_pipeline.prepare --input=... --output_dir=... (with --rows=... for rows "
            "other than pairs). From Python, such a folder is opened with its schema: PreparedFolder(path, schema).",
        )
        self.settings = PrepareSettings.from_stored(
            self.manifest["settings"], schema, os.path.join(path, MANIFEST_FILE)
        )

    @property
    def features(self) -> dict[str, str]:
        """The features of the records in its shards."""
        return self.schema.features

    def fingerprint(self) -> str:
        """Returns a hash of the content: of input files, tokenizer and settings, never of paths."""
        settings = content_settings(self.manifest["settings"])
        inputs = [entry["sha256"] for entry in self.manifest["inputs"]]
        names = ("tokenizer", "counts", "boilerplate_sha256")
        content = [*(self.manifest[name] for name in names), settings, inputs]
        return files.fingerprint(content)

    def tokenizer(self) -> Tokenizer:
        """Loads the tokenizer that made the ids.

        Raises:
          ValueError: the folder holds no token ids, or the vocabulary in it is another one.
        """
        self._check_tokenized()
        tokenizer = load_tokenizer(self.path)
        expected = self.manifest["tokenizer"]["fingerprint"]
        if tokenizer.fingerprint != expected:
            raise ValueError(
                f"The vocabulary in {self.path} has fingerprint {tokenizer.fingerprint[:12]}; its ids were made with "
                f"{expected[:12]}. The folder was changed: prepare it again."
            )
        return tokenizer

    def prompts(self) -> EncoderPrompts:
        """Returns the prompts that stand before every question and answer in the ids."""
        return EncoderPrompts(*(self.settings.prompts.get(side, "") for side in (QUESTION, ANSWER)))

    def longest(self, *names: str) -> int:
        """Returns the number of tokens of the longest text in the given, or all, tokenized fields; 0 without any.

        Raises:
          ValueError: a given field is not tokenized.
        """
        fields = [self.schema.tokenized_field(name) for name in names] or self.schema.tokenized
        counts = self.manifest["counts"].values()
        return max((count[f"longest_{field.name}"] for count in counts for field in fields), default=0)

    def cut_at(self) -> int:
        """Returns the largest number of tokens to which a field's texts were cut.

        Raises:
          ValueError: the folder holds no token ids.
        """
        self._check_tokenized()
        return max(self.settings.max_tokens[field.name] for field in self.schema.tokenized)

    def _check_tokenized(self) -> None:
        if not self.schema.tokenized:
            raise ValueError(
                f"{self.path} holds {self.schema.plural} without token ids. Expected rows with a tokenized field. "
                "Read their texts with `table`."
            )

    def num_rows(self, split: str) -> int:
        """Returns the number of rows in a split."""
        return self.manifest["counts"][split][self.schema.plural]

    def shards(self, split: str) -> list[str]:
        """Returns the paths of a split's TFRecord shards."""
        return [os.path.join(self.path, name) for name in self.manifest["shards"][split]]

    def table(self, columns: Sequence[str], split: str | None = None) -> pa.Table:
        """Returns columns of the Parquet file, of one split or of all."""
        filters = None if split is None else [("split", "=", split)]
        return pq.read_table(os.path.join(self.path, table_file(self.schema)), columns=list(columns), filters=filters)

    def optional_column(self, name: str) -> pa.ChunkedArray | None:
        """Returns a column of the Parquet file; None if the folder was made before rows had it."""
        names = pq.read_schema(os.path.join(self.path, table_file(self.schema))).names
        return self.table([name])[name] if name in names else None


def open_prepared(path: str, schemas: Sequence[Schema]) -> PreparedFolder:
    """Opens a prepared folder whose rows are of any of these types.

    Raises:
      ValueError: it holds rows of another type, or see `PreparedFolder`.
    """
    stored = files.read_json(os.path.join(path, MANIFEST_FILE))
    of_kind = {kind(schema): schema for schema in schemas}
    received = stored.get("kind") if isinstance(stored, dict) else None
    if received is not None and received not in of_kind:
        expected = " or ".join(schema.plural for schema in schemas)
        raise ValueError(f"{path} is a folder of kind {received!r}; expected prepared {expected}.")
    return PreparedFolder(path, of_kind.get(received, schemas[0]))


def kind(schema: Schema) -> str:
    """Returns the kind of a prepared folder in its manifest."""
    return f"docproduct prepared {schema.plural}"


def table_file(schema: Schema) -> str:
    """Returns the name of the Parquet file."""
    return f"{schema.plural}.parquet"


def content_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns the stored settings that decide the content of a folder, without paths.

    Of the inputs, the number of files for each split counts, not their names.
    """
    numbers = {name: len(settings[name]) for name in ("inputs", "dev_inputs", "test_inputs")}
    scrub = {name: value for name, value in settings["scrub"].items() if name != "boilerplate"}
    return {name: value for name, value in settings.items() if name != "tokenizer"} | numbers | {"scrub": scrub}


def find_manifest(path: str, schema: Schema) -> dict[str, Any] | None:
    """Returns the manifest of a prepared folder; None if the folder is missing or of another kind."""
    try:
        return PreparedFolder(path, schema).manifest
    except ValueError:
        return None
