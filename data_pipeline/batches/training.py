"""Makes the batches of a training epoch: shuffled, and bucketed by length."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from data_pipeline.batches.parsing import Element, ShardBatches, pad, parse
from data_pipeline.schemas import IDS
from data_pipeline.settings import Settings, setting

_PARSED_TOGETHER = 1_024  # records whose length is read in one op
_SHARDS_TOGETHER = 16  # files that are read in turn where the corpus does not fit into the buffer
_SHUFFLED_BATCHES = 64
_MAX_SHUFFLED_RECORDS = 1_000_000  # about 800 MiB of records of 200 tokens
_NO_IDS = np.empty(0, np.int64)


class Source(Protocol):
    """A folder whose shards are trained on.

    Attributes:
      features: the kind of each feature of its records, see `rows.Schema`.
      manifest: its entry "train_lengths" is a histogram, see `length_boundaries`.
    """

    features: dict[str, str]
    manifest: dict[str, Any]

    def num_rows(self, split: str) -> int:
        """Returns the number of records in a split."""

    def shards(self, split: str) -> list[str]:
        """Returns the paths of a split's shards."""


@dataclasses.dataclass(frozen=True)
class BatchSettings(Settings):
    """Settings of training batches; the help beside each field says what it does."""

    batch_size: int = setting(64, "Rows in a batch of all workers: the candidates of an in-batch softmax.", least=1)
    num_buckets: int = setting(16, "Number of length classes for batches; 1: any length.", least=1)
    boundaries: tuple[int, ...] | None = setting(
        None, "Lengths, of all texts of a row together, that divide the buckets; default: the data's quantiles."
    )
    # 8 for tensor cores; a large one for XLA, which compiles for each length.
    pad_to_multiple: int = setting(1, "Padded lengths are multiples of this number.", least=1)
    worker: int = setting(0, "Number of this worker, which gets the rows worker::num_workers of every batch.", least=0)
    num_workers: int = setting(1, "Number of workers that train together.", least=1)
    seed: int = setting(0, "Random seed of the order, together with the epoch.")

    def __post_init__(self) -> None:
        """Raises a ValueError for an impossible setting."""
        super().__post_init__()
        if self.worker >= self.num_workers:
            raise ValueError(f"worker is {self.worker}; expected 0 to {self.num_workers - 1}.")
        if self.boundaries is not None and list(self.boundaries) != sorted(set(self.boundaries)):
            raise ValueError(f"boundaries are {self.boundaries}; expected increasing lengths.")


def training_batches(
    source: Source,
    split: str,
    settings: BatchSettings,
    pad_id: int,
    epoch: int,
    skip: int = 0,
    left_out: np.ndarray = _NO_IDS,
) -> ShardBatches:
    """Returns one epoch of a split: every row once, in batches of `batch_size` rows; only one may be smaller.

    Args:
      source: a prepared folder, or a token folder.
      split: train, dev or test.
      settings: equal settings give equal batches.
      pad_id: fills the rows.
      epoch: 0, 1, ...; each has another order.
      skip: number of batches to leave out at the beginning, for resuming.
      left_out: the "pair_id" of rows of the split that are left out, [L] int64, each once.
    """
    seed = int(np.random.SeedSequence([settings.seed, epoch]).generate_state(1)[0])
    num_rows, shards, size = source.num_rows(split), source.shards(split), settings.batch_size
    dataset = _shuffled(shards, num_rows, seed)
    if len(left_out):
        dataset, num_rows = _without(dataset, source.features, left_out), num_rows - len(left_out)
    boundaries = settings.boundaries
    if IDS not in source.features.values():  # rows without texts have no length
        boundaries = ()
    elif boundaries is None:
        boundaries = length_boundaries(source.manifest["train_lengths"], settings.num_buckets, size)
    dataset = _bucketed(dataset, source.features, list(boundaries), size, seed) if boundaries else dataset.batch(size)
    dataset = dataset.skip(skip)
    if settings.num_workers > 1:
        # Every worker draws the same batches: files of its own for each would change the negatives.
        dataset = dataset.map(lambda batch: batch[settings.worker :: settings.num_workers])
    dataset = dataset.map(lambda batch: parse(batch, source.features), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(lambda batch: _padded(batch, pad_id, settings.pad_to_multiple))
    all_rows = num_rows if settings.num_workers == 1 and not skip else None
    num_batches = max(0, -(-num_rows // size) - skip)
    return ShardBatches(dataset.prefetch(tf.data.AUTOTUNE), shards, source.features, num_batches, all_rows)


def _shuffled(shards: Sequence[str], num_rows: int, seed: int) -> tf.data.Dataset:
    """Returns the records in random order: a full shuffle if the corpus fits into the buffer."""
    # Records are shuffled before they are parsed: a record is several times smaller than its tensors, so that the
    # whole corpus fits into the buffer.
    buffer = min(num_rows, _MAX_SHUFFLED_RECORDS)
    if buffer < num_rows:  # else the buffer mixes everything by itself
        files = tf.data.Dataset.from_tensor_slices(shards).shuffle(len(shards), seed, reshuffle_each_iteration=False)
        dataset = files.interleave(tf.data.TFRecordDataset, cycle_length=_SHARDS_TOGETHER)
    else:
        dataset = tf.data.TFRecordDataset(shards)
    return dataset.shuffle(max(buffer, 1), seed, reshuffle_each_iteration=False)


def _without(dataset: tf.data.Dataset, features: dict[str, str], left_out: np.ndarray) -> tf.data.Dataset:
    """Returns the records without those of some pairs."""
    ids = tf.constant(np.sort(left_out))

    def others(batch: tf.Tensor) -> tf.Tensor:
        pair_ids = parse(batch, {"pair_id": features["pair_id"]})["pair_id"]
        places = tf.minimum(tf.searchsorted(ids, pair_ids), len(left_out) - 1)
        return batch[tf.gather(ids, places) != pair_ids]

    return dataset.batch(_PARSED_TOGETHER).map(others).unbatch()


def _bucketed(
    dataset: tf.data.Dataset, features: dict[str, str], boundaries: list[int], batch_size: int, seed: int
) -> tf.data.Dataset:
    """Returns batches of records of similar length."""

    def bucket(batch: tf.Tensor) -> tf.Tensor:
        # A row costs what all its texts cost: the bucket goes by their sum.
        texts = parse(batch, {name: kind for name, kind in features.items() if kind == IDS})
        lengths = tf.add_n([ids.row_lengths() for ids in texts.values()])  # [B]
        return tf.searchsorted(tf.constant(boundaries, lengths.dtype), lengths, side="right", out_type=tf.int64)

    # Records, not tensors, go through the buckets: a batch of strings needs no padding to be taken apart again.
    dataset = dataset.batch(_PARSED_TOGETHER)
    dataset = dataset.map(lambda batch: (batch, bucket(batch)), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.unbatch().group_by_window(
        key_func=lambda _, bucket: bucket,
        reduce_func=lambda _, window: window.batch(batch_size),
        window_size=batch_size,
    )
    # All full batches come before what the buckets have left at the end. Rebatching passes the full ones as they are
    # and merges the leftovers, shortest first, so that every batch but the last has batch_size rows.
    dataset = dataset.map(lambda batch, _: batch).rebatch(batch_size)
    # Buckets fill up in an order that depends on length, and leftovers are in order of length: shuffle again.
    return dataset.shuffle(_SHUFFLED_BATCHES, seed, reshuffle_each_iteration=False)


def length_boundaries(histogram: Sequence[Sequence[int]], num_buckets: int, batch_size: int) -> list[int]:
    """Returns lengths that divide the rows into buckets of equal size.

    Args:
      histogram: (length, number of rows of this length), by length.
      num_buckets: largest number of buckets. There are fewer if a bucket would hold less than four batches, as the
        merging at the end would then get most of the rows.
      batch_size: rows in a batch.

    Returns:
      Increasing lengths; bucket i holds lengths below boundary i and not below boundary i - 1.
    """
    if not histogram:
        return []
    lengths, counts = np.asarray(histogram).T
    num_buckets = max(1, min(num_buckets, counts.sum() // (4 * batch_size)))
    quantiles = np.arange(1, num_buckets) / num_buckets * counts.sum()
    return sorted(set(lengths[np.searchsorted(np.cumsum(counts), quantiles, side="right")].tolist()))


def _padded(batch: Element, pad_id: int, multiple: int) -> Element:
    return {
        name: pad(value, pad_id, multiple) if isinstance(value, tf.RaggedTensor) else value
        for name, value in batch.items()
    }
