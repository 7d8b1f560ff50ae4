"""The rows of a prepared folder as token ids and classes, in memory, and the batches of an epoch.

B rows in a batch, N rows, T tokens of the longest text, R of the longest reply
"""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import tensorflow as tf
from absl import logging

from data_pipeline.batches import pad_rows, shuffled_batches
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.tokenizers import CausalTokenizer
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.folder import TrainedTriage, begin_id
from docproduct.systems.triage.labels import NO_CLASS, classes_of
from docproduct.systems.triage.losses import PAD
from docproduct.training.gradients import Batch

COLUMNS = ("text", "label", "reply")
SPEC = {
    "text_ids": tf.TensorSpec([None, None], tf.int32),
    "classes": tf.TensorSpec([None], tf.int32),
    "reply_ids": tf.TensorSpec([None, None], tf.int32),
}


@dataclasses.dataclass(frozen=True)
class TriageRows:
    """Rows of a split.

    Attributes:
      texts: N clean texts.
      text_ids: their token ids.
      classes: [N] int32; `NO_CLASS` for a row that has none.
      replies: N clean replies; an empty one is none.
      reply_ids: token ids with the beginning mark and the end; empty without a reply, or if replies are not learned.
      pad_id: fills text_ids in batches.
    """

    texts: Sequence[str]
    text_ids: Sequence[Sequence[int]]
    classes: np.ndarray
    replies: Sequence[str]
    reply_ids: Sequence[Sequence[int]]
    pad_id: int

    def __len__(self) -> int:
        return len(self.texts)

    def batch(self, rows: Sequence[int]) -> Batch:
        """Returns the batch of some rows; see `SPEC`."""
        return {
            "text_ids": tf.convert_to_tensor(pad_rows([self.text_ids[row] for row in rows], self.pad_id)),
            "classes": tf.convert_to_tensor(self.classes[rows]),
            "reply_ids": tf.convert_to_tensor(pad_rows([self.reply_ids[row] for row in rows], PAD, least=2)),
        }

    def batches(self, batch_size: int, seed: int, epoch: int, skip: int) -> Iterator[Batch]:
        """Yields the batches of an epoch without the first `skip`, in random order, rows of like length together."""
        lengths = np.array([len(ids) for ids in self.text_ids])
        for rows in shuffled_batches(lengths, batch_size, seed, epoch)[skip:]:
            yield self.batch(rows)


def read(config: TriageTraining, triage: TrainedTriage, prepared: PreparedFolder, split: str) -> TriageRows:
    """Returns the rows of a split that this variant can use; logs how many it cannot, and why.

    Args:
      config: what is trained.
      triage: tokenizers, labels and limits.
      prepared: the rows.
      split: train, dev or test.

    Raises:
      ValueError: no row has a label, or none has a reply, and this variant learns them.
    """
    table = prepared.table(COLUMNS, split)
    labels, replies = (table[name].to_pylist() for name in ("label", "reply"))
    classes = classes_of(labels, triage.labels, config.labels.other_label)
    if not config.has_labels:
        classes = np.full(len(labels), NO_CLASS, np.int32)
    has_reply = np.array([config.has_replies and bool(reply) for reply in replies], bool)
    _check_has(split, "label that is a class of train", config.has_labels, (classes != NO_CLASS).any())
    _check_has(split, "reply", config.has_replies, has_reply.any())
    kept = np.flatnonzero((classes != NO_CLASS) | has_reply)
    _tell(split, len(labels), len(kept), labels, classes)
    texts = table["text"].take(pa.array(kept)).to_pylist()
    text_ids = triage.token_ids(texts)
    cut = sum(len(ids) == triage.config.max_tokens for ids in text_ids)
    if cut:
        logging.info(
            "%d of %d %s texts fill --max_tokens=%d: longer ones are cut.",
            cut,
            len(texts),
            split,
            triage.config.max_tokens,
        )
    replies = [replies[row] if has_reply[row] else "" for row in kept.tolist()]
    reply_ids: list[list[int]] = [[] for _ in replies]
    if config.has_replies:
        reply_ids = ids_of_replies(replies, triage.generator.tokenizer, triage.config.max_reply_tokens)
    return TriageRows(texts, text_ids, classes[kept], replies, reply_ids, triage.tokenizer.pad_id)


def ids_of_replies(replies: Sequence[str], tokenizer: CausalTokenizer, max_tokens: int) -> list[list[int]]:
    """Returns the beginning mark, the tokens of each reply and its end; an empty list for an empty reply.

    A reply that is cut at `max_tokens`, its end counted and its beginning not, loses its end.
    """
    begin, end = begin_id(tokenizer), tokenizer.end_ids[0]
    encoded = tokenizer.encode(list(replies))
    return [[begin, *[*ids, end][:max_tokens]] if reply else [] for reply, ids in zip(replies, encoded, strict=True)]


def _check_has(split: str, what: str, needed: bool, there: bool) -> None:
    """Raises a ValueError if something is needed of a split's rows that none of them has."""
    if needed and not there:
        raise ValueError(
            f"No {split} row has a {what}. Prepare the rows again with another --dev_share, or give the --variant that "
            "learns what they have: encoder for labels, decoder for replies."
        )


def _tell(split: str, num_rows: int, num_kept: int, labels: Sequence[str], classes: np.ndarray) -> None:
    """Logs the rows that are left out, and labels of this split that are no classes."""
    if num_kept < num_rows:
        logging.info(
            "%d of %d %s rows have nothing that this variant learns; left out.", num_rows - num_kept, num_rows, split
        )
    unknown = {label for label, place in zip(labels, classes.tolist(), strict=True) if label and place == NO_CLASS}
    if unknown and (classes != NO_CLASS).any():
        logging.info("Labels of %s rows that are no classes: %s.", split, ", ".join(sorted(unknown)))
