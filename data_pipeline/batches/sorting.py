"""Puts rows of similar length together: in batches for inference, in groups inside a training step."""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline import splits
from data_pipeline.batches.parsing import ShardBatches, pad, parse
from data_pipeline.folders.prepared import PreparedFolder, RowFinder

_WINDOW = 2**15  # texts that are sorted by length together
_ALL_TOGETHER = 2**62  # tokens
_SORTED_BATCHES = 16  # of rows that are sorted by length together


def length_groups(ids: tf.Tensor, num_groups: int, pad_id: int, multiple: int = 1) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Cuts a padded batch into groups of similar length, inside a graph.

    Args:
      ids: [B, T] int, padded at the end.
      num_groups: number of groups; with fewer rows, some are empty.
      pad_id: fills the rows.
      multiple: widths are multiples of it; `ids` must be padded to one, see `BatchSettings.pad_to_multiple`.

    Returns:
      The groups, each [B_g, T_g] with T_g the length of its longest row, or the next multiple; and [B] int32, the place
      of each row of `ids` in the concatenated groups: `tf.gather(result, places)` restores the order.
    """
    lengths = tf.reduce_sum(tf.cast(ids != pad_id, tf.int32), axis=1)  # [B]
    order = tf.argsort(lengths, stable=True)
    num_rows = tf.shape(ids)[0]
    groups = []
    for group in range(num_groups):
        rows = order[group * num_rows // num_groups : (group + 1) * num_rows // num_groups]
        longest = tf.maximum(tf.reduce_max(tf.gather(lengths, rows)), 2)  # the maximum of no rows is very negative
        groups.append(tf.gather(ids[:, : longest - longest % -multiple], rows))
    return groups, tf.argsort(order)


def length_order(lengths: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    """Yields the positions of all rows in batches of similar length, the longest first.

    Args:
      lengths: [N] int.
      batch_tokens: largest number of places in a batch, padding included; a longer row is a batch of its own.

    Yields:
      [B] int.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        size = max(1, batch_tokens // max(1, int(lengths[order[start]])))
        yield order[start : start + size]
        start += size


def shuffled_batches(lengths: np.ndarray, batch_size: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Returns the batches of an epoch of rows that are in memory: in random order, rows of like length together.

    Args:
      lengths: [N] int.
      batch_size: rows in a batch; the last one may be smaller.
      seed: decides the order, together with the epoch.
      epoch: 0, 1, ...; each has another order.

    Returns:
      The positions of the rows of each batch, [B] int each.
    """
    random = np.random.default_rng([seed, epoch])
    order, pool = random.permutation(len(lengths)), batch_size * _SORTED_BATCHES
    pools = [order[start : start + pool] for start in range(0, len(order), pool)]
    order = np.concatenate([part[np.argsort(lengths[part], kind="stable")] for part in pools])
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return [*(batches[place] for place in random.permutation(len(batches) - 1).tolist()), batches[-1]]


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int, least: int = 1) -> np.ndarray:
    """Returns rows of ids as one array, [N, T] int32, padded to the longest; T is at least `least`."""
    ids = np.full((len(rows), max([least, *map(len, rows)])), pad_id, np.int32)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
    return ids


def length_sorted(ids: tf.RaggedTensor, batch_tokens: int, pad_id: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields all rows in batches of similar length, the longest first, so that a lack of memory shows at once.

    Args:
      ids: [N, (T)] int32.
      batch_tokens: largest number of places in a batch, padding included; a longer row is a batch of its own.
      pad_id: fills the rows.

    Yields:
      rows [B] int, the positions in `ids`; and ids [B, T] int32. `out[rows] = ...` restores the order.
    """
    for rows in length_order(ids.row_lengths().numpy(), batch_tokens):
        yield rows, pad(tf.gather(ids, rows), pad_id).numpy()


def inference_batches(
    prepared: PreparedFolder, side: str, batch_tokens: int, pad_id: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields one text of all rows of a prepared folder in batches of similar length, as `length_sorted` does.

    The ids are those of the shards, read with training's parser; a window of rows at a time is in memory.

    Args:
      prepared: the folder.
      side: the name of a tokenized field, such as question or answer.
      batch_tokens: largest number of places in a batch, padding included; a longer row is a batch of its own.
      pad_id: fills the rows.

    Yields:
      rows [B] int, the positions in the Parquet file; and ids [B, T] int32.

    Raises:
      ValueError: `side` is no tokenized field, or shards and Parquet file do not belong together.
    """
    schema = prepared.schema
    row_of = RowFinder(prepared.table([schema.id_name])[schema.id_name].to_numpy())
    feature = schema.tokenized_field(side).feature
    for split in filter(prepared.num_rows, splits.SPLITS):
        shards, num_rows = prepared.shards(split), prepared.num_rows(split)
        dataset = tf.data.TFRecordDataset(shards).batch(_WINDOW)
        dataset = dataset.map(lambda batch: parse(batch, schema.features)).prefetch(1)
        for window in ShardBatches(dataset, shards, schema.features, -(-num_rows // _WINDOW), num_rows):
            try:
                positions = row_of(window[schema.id_name].numpy())
            except KeyError as error:
                raise ValueError(
                    f"{prepared.path}: shards and Parquet file are not of one run. Prepare it again."
                ) from error
            for rows, ids in length_sorted(window[feature], batch_tokens, pad_id):
                yield positions[rows], ids


def side_ids(prepared: PreparedFolder, side: str) -> tf.RaggedTensor:
    """Returns one text of all rows, [N, (T)] int32, in the order of the Parquet file; all of it is in memory."""
    rows, values, lengths = [], [], []
    for positions, ids in inference_batches(prepared, side, _ALL_TOGETHER, pad_id=-1):
        rows.append(positions)
        lengths.append((ids >= 0).sum(axis=1))
        values.append(ids[ids >= 0])
    ids = tf.RaggedTensor.from_row_lengths(np.concatenate(values), np.concatenate(lengths))
    return tf.gather(ids, np.argsort(np.concatenate(rows)))
