"""The dialogues of a prepared folder as rows of token ids, in memory, and their batches.

B rows, T tokens of the longest row
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipeline import splits
from data_pipeline.batches import pad_rows, shuffled_batches
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import Dialogue
from data_pipeline.token_rows.dialogue_rows import DialogueRow, DialogueRows, packed
from data_pipeline.tokenizers import CausalTokenizer
from docproduct.systems.chat.config import ChatTraining
from docproduct.systems.generator.losses import PAD, Tokens
from docproduct.training.gradients import Batch

_COLUMNS = ("dialogue_id", "turns", "roles", "system")
SPEC = {name: tf.TensorSpec([None, None], tf.int32) for name in ("ids", "texts", "learned")}


@dataclasses.dataclass(frozen=True)
class SplitRows:
    """The rows of a split.

    Attributes:
      rows: of one dialogue each, or packed.
      num_dialogues: number of dialogues in them.
      counts: of what is left out, see `DialogueRows`.
      refused: {reason: {"rows": dialogues, "first": the first one, with the error}}.
    """

    rows: Sequence[DialogueRow]
    num_dialogues: int
    counts: Mapping[str, int]
    refused: Mapping[str, Mapping[str, Any]]

    @property
    def num_tokens(self) -> tuple[int, int]:
        """Number of all tokens, and of those that are learned."""
        return sum(len(row.ids) for row in self.rows), sum(int(row.learned.sum()) for row in self.rows)


def read(
    prepared: PreparedFolder, split: str, tokenizer: CausalTokenizer, window: int, config: ChatTraining
) -> SplitRows:
    """Reads the dialogues of a split; logs what is left out. Rows are packed for training only.

    Raises:
      ValueError: no dialogue is there, or none is left.
    """
    maker, rows = DialogueRows(tokenizer, window, config.system_prompt), []
    dialogues = prepared.table(_COLUMNS, split).to_pylist()
    if not dialogues:
        raise ValueError(
            f"{prepared.path} has no {split} dialogues. Prepare it again with another --dev_share, or with --dev_input."
        )
    for row in dialogues:
        where = f"dialogue {row.pop('dialogue_id')}"
        rows += maker.rows(Dialogue(tuple(row["turns"]), tuple(row["roles"]), row["system"]), where)
    refused = {
        reason: {"rows": entry["rows"], "first": entry["first"]} for reason, entry in maker.refused.report().items()
    }
    if not rows:
        raise ValueError(f"None of {len(dialogues)} {split} dialogues in {prepared.path} can be learned: {refused}.")
    for reason, entry in refused.items():
        logging.warning("%s: %d dialogues are left out: %s (%s).", split, entry["rows"], reason, entry["first"])
    if maker.counts:
        logging.info("%s: %s.", split, ", ".join(f"{name} {count}" for name, count in maker.counts.items()))
    num_dialogues = len(dialogues) - sum(entry["rows"] for entry in refused.values())
    rows = packed(rows, window) if config.packed and split == splits.TRAIN else rows
    return SplitRows(rows, num_dialogues, dict(maker.counts), refused)


def epoch_batches(rows: Sequence[DialogueRow], batch_size: int, seed: int, epoch: int, skip: int) -> Iterator[Batch]:
    """Yields the batches of an epoch without the first `skip`, in random order, rows of like length together."""
    lengths = np.array([len(row.ids) for row in rows])
    for places in shuffled_batches(lengths, batch_size, seed, epoch)[skip:]:
        yield batch_of([rows[place] for place in places])


def batch_of(rows: Sequence[DialogueRow]) -> Batch:
    """Returns the batch of some rows, see `SPEC`."""
    fills = {"ids": PAD, "texts": 0, "learned": 0}
    return {
        name: tf.convert_to_tensor(pad_rows([getattr(row, name) for row in rows], fill, least=2))
        for name, fill in fills.items()
    }


def tokens_of(batch: Batch) -> Tokens:
    """Returns the tokens of a batch; those of replies have the weight 1, others 0."""
    return Tokens(batch["ids"], batch["texts"], tf.cast(batch["learned"], tf.float32))
