"""Batches of token ids: shuffled and bucketed by length for training, sorted by length for inference."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline import records
from data_pipeline.prepared import PreparedFolder

_PARSED_TOGETHER = 1_024  # records whose length is read in one op
_SHUFFLED_BATCHES = 64
_MAX_SHUFFLED_RECORDS = 1_000_000  # about 1 GiB of records of 256 tokens


def training_batches(
    prepared: PreparedFolder,
    split: str,
    batch_size: int,
    pad_id: int,
    seed: int,
    epoch: int,
    skip: int = 0,
    num_buckets: int = 16,
) -> tf.data.Dataset:
    """One epoch of a split: every pair once, in batches of exactly `batch_size` pairs (only one is smaller).

    Args:
      prepared: the prepared folder.
      split: train, dev or test.
      batch_size: pairs in a batch, and so the number of candidates in the in-batch softmax.
      pad_id: fills each side up to its longest row in the batch.
      seed: with `epoch`, decides the order; equal ones give equal batches.
      epoch: 0, 1, ...: another order.
      skip: batches to leave out at the beginning, for resuming.
      num_buckets: classes of like length, at most.

    Returns:
      A dataset of {"question_ids": [B, Tq] int32, "answer_ids": [B, Ta] int32, "pair_id", "question_group",
      "answer_group": [B] int64}.
    """
    order_seed = int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
    boundaries = length_boundaries(prepared.manifest["train_lengths"], num_buckets, batch_size)
    pairs = prepared.num_pairs(split)
    # Records are shuffled before they are parsed: a record is several times smaller than its tensors, so that the
    # whole corpus fits into the buffer, and the shuffle is a full one.
    dataset = tf.data.TFRecordDataset(prepared.shards(split))
    dataset = dataset.shuffle(min(pairs, _MAX_SHUFFLED_RECORDS), seed=order_seed, reshuffle_each_iteration=False)
    # Records, not tensors, go through the buckets: a batch of strings needs no padding to be taken apart again.
    dataset = dataset.batch(_PARSED_TOGETHER)
    dataset = dataset.map(lambda batch: (batch, _bucket(batch, boundaries)), num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.unbatch().group_by_window(
        key_func=lambda _, bucket: bucket,
        reduce_func=lambda _, window: window.batch(batch_size),
        window_size=batch_size,
    )
    # All full batches come before what the buckets have left at the end. Rebatching passes the full ones as they are
    # and merges the leftovers, shortest first, so that every batch but the last has batch_size pairs.
    dataset = dataset.map(lambda batch, _: batch).rebatch(batch_size)
    # Buckets fill up in an order that depends on length, and leftovers are in order of length: shuffle again.
    dataset = dataset.shuffle(_SHUFFLED_BATCHES, seed=order_seed, reshuffle_each_iteration=False).skip(skip)
    dataset = dataset.map(lambda batch: _padded(batch, pad_id), num_parallel_calls=tf.data.AUTOTUNE)
    return dataset.prefetch(tf.data.AUTOTUNE)


def length_boundaries(histogram: Sequence[Sequence[int]], num_buckets: int, batch_size: int) -> list[int]:
    """Returns lengths that divide the pairs into buckets of equal size.

    Args:
      histogram: (length, pairs of this length), by length.
      num_buckets: at most so many; fewer where a bucket would hold less than four batches, which would leave most of
        the pairs to the merging at the end.
      batch_size: pairs in a batch.

    Returns:
      Increasing lengths; bucket i holds lengths below boundary i and not below boundary i - 1.
    """
    if not histogram:
        return []
    lengths, counts = np.asarray(histogram).T
    num_buckets = max(1, min(num_buckets, counts.sum() // (4 * batch_size)))
    wanted = np.arange(1, num_buckets) / num_buckets * counts.sum()
    return sorted(set(lengths[np.searchsorted(np.cumsum(counts), wanted, side="right")].tolist()))


def length_sorted(ids: tf.RaggedTensor, batch_size: int, pad_id: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields all rows in batches of like length, the longest first, so that a lack of memory shows at once.

    Args:
      ids: [N, (T)] int32.
      batch_size: rows in a batch; the last may have fewer.
      pad_id: fills the rows.

    Yields:
      rows [B] int, the positions in `ids`; and ids [B, T] int32. `out[rows] = ...` restores the order.
    """
    order = np.argsort(-ids.row_lengths().numpy(), kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        yield rows, tf.gather(ids, rows).to_tensor(pad_id).numpy()


def _bucket(batch: tf.Tensor, boundaries: list[int]) -> tf.Tensor:
    # A pair costs what both its sides cost: the bucket goes by their sum.
    parsed = records.parse(batch, records.PAIR)
    lengths = parsed["question_ids"].row_lengths() + parsed["answer_ids"].row_lengths()  # [B]
    return tf.searchsorted(tf.constant(boundaries, lengths.dtype), lengths, side="right", out_type=tf.int64)


def _padded(batch: tf.Tensor, pad_id: int) -> dict[str, tf.Tensor]:
    parsed = records.parse(batch, records.PAIR)
    return {
        name: value.to_tensor(pad_id) if isinstance(value, tf.RaggedTensor) else value for name, value in parsed.items()
    }
