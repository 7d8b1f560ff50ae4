"""Texts without labels for the training of an encoder: files of plain text, and the texts of prepared rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE
from data_pipeline.folders.prepared import PreparedFolder, kind
from data_pipeline.rows import CHOICES, DIALOGUE, PAIR, PASSAGE, TRIAGE
from data_pipeline.schemas import TEXT
from data_pipeline.token_rows.masking import cut
from data_pipeline.token_rows.packing import read_documents, split_documents
from data_pipeline.tokenizers import Tokenizer
from data_pipeline.tokenizers.whole_words import WholeWords

_TOGETHER = 1_000  # texts that are tokenized in one call
_WHOLE = 2**31  # tokens: no text is longer
_SCHEMAS = (PAIR, TRIAGE, PASSAGE, DIALOGUE, CHOICES)


@dataclasses.dataclass(frozen=True)
class PlainTexts:
    """Clean texts; none is twice there.

    Attributes:
      train: to learn from.
      dev: to score with.
      sources: of each file or prepared folder, its name, hash and number of texts.
    """

    train: Sequence[str]
    dev: Sequence[str]
    sources: Sequence[dict[str, Any]]

    def fingerprint(self) -> str:
        """Returns a hash of the texts in their order."""
        return files.fingerprint([list(self.train), list(self.dev)])


def read_texts(text_files: Sequence[str], prepared_dir: str | None, dev_share: float, seed: int) -> PlainTexts:
    """Reads texts.

    Args:
      text_files: plain text, see `packing.read_documents`.
      prepared_dir: a folder of prepared rows, whose texts are in the splits of their rows; those of test stay unread.
        A text that train has, too, such as an answer to several questions, is left out of dev.
      dev_share: share of the text files' documents that goes to dev.
      seed: draws the documents of dev.

    Raises:
      ValueError: train or dev has no text.
    """
    splits.check_shares(dev_share, 0.0)
    if not text_files and not prepared_dir:
        raise ValueError("There is no text. Expected --text, plain text files, or --prepared_dir, a prepared folder.")
    sources: list[dict[str, Any]] = []
    documents: list[str] = []
    for path in text_files:
        of_file = list(read_documents(path))
        documents += of_file
        sources.append({"name": path, "sha256": files.sha256(path), "texts": len(of_file)})
    texts = split_documents(documents, seed, dev_share)
    if prepared_dir:
        prepared = _open(prepared_dir)
        added = {split: _texts_of(prepared, split) for split in texts}
        sources.append({"name": prepared_dir, "sha256": prepared.fingerprint(), "texts": sum(map(len, added.values()))})
        texts = {split: texts[split] + added[split] for split in texts}
    train = dict.fromkeys(texts[splits.TRAIN])
    dev = [text for text in dict.fromkeys(texts[splits.DEV]) if text not in train]
    for split, given in ((splits.TRAIN, train), (splits.DEV, dev)):
        if not given:
            raise ValueError(
                f"No text is in {split}. Give more texts or another --dev_share; prepared rows have their splits from "
                "data_pipeline.prepare."
            )
    return PlainTexts(list(train), dev, sources)


def _open(path: str) -> PreparedFolder:
    """Opens a prepared folder of any rows."""
    manifest = files.read_json(f"{path}/{MANIFEST_FILE}") or {}
    schema = next((schema for schema in _SCHEMAS if kind(schema) == manifest.get("kind")), PAIR)
    return PreparedFolder(path, schema)


def _texts_of(prepared: PreparedFolder, split: str) -> list[str]:
    """Returns all texts of a split's rows that are not empty."""
    texts: list[str] = []
    for field in prepared.schema.content:
        column = prepared.table([field.name], split)[field.name].to_pylist()
        texts += column if field.kind == TEXT else (text for row in column for text in row)
    return [text for text in texts if text]


def rows_of(texts: Sequence[str], tokenizer: Tokenizer, words: WholeWords, max_tokens: int) -> list[np.ndarray]:
    """Returns texts as rows of ids, [T] int32 each, T at most `max_tokens`, with the special tokens around each.

    A text that is longer than a row becomes several rows; one without any token becomes none.

    Raises:
      ValueError: `max_tokens` leaves no room for a token.
    """
    before, after = tokenizer.frame
    room = max_tokens - len(before) - len(after)
    if room < 1:
        raise ValueError(f"max_tokens is {max_tokens}; expected {max_tokens - room + 1} or more.")
    rows = []
    for start in range(0, len(texts), _TOGETHER):
        for framed in tokenizer.encode_few(texts[start : start + _TOGETHER], _WHOLE):
            ids = np.array(framed[len(before) : len(framed) - len(after)], np.int32)
            rows += [np.array([*before, *part, *after], np.int32) for part in cut(ids, words, room)]
    return rows
