"""The TFRecord schemas: how a row becomes a record, and a record tensors.

A record holds ids without padding; masks and segments follow from the ids.
"""

import os
from collections.abc import Sequence

import tensorflow as tf

# Ragged: [T] token ids. Scalar: one 64-bit number.
PAIR = {
    "question_ids": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int32),
    "answer_ids": tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int32),
    "pair_id": tf.io.FixedLenFeature([], tf.int64),
    "question_group": tf.io.FixedLenFeature([], tf.int64),
    "answer_group": tf.io.FixedLenFeature([], tf.int64),
}


def serialize(row: dict[str, int | Sequence[int]]) -> bytes:
    """Returns the record of one row, the same bytes for the same row.

    Args:
      row: one value for each name of a schema, a number or token ids.
    """
    example = tf.train.Example()
    for name, value in row.items():
        values = [value] if isinstance(value, int) else value
        example.features.feature[name].int64_list.value.extend(values)
    return example.SerializeToString(deterministic=True)


def parse(records: tf.Tensor, schema: dict) -> dict[str, tf.Tensor | tf.RaggedTensor]:
    """Returns the tensors of a batch of records.

    Args:
      records: [B] serialized records.
      schema: e.g. PAIR.

    Returns:
      For each name [B] int64, or [B, (T)] int32 ragged for token ids.
    """
    features = tf.io.parse_example(records, schema)
    return {
        name: tf.cast(value, tf.int32) if isinstance(value, tf.RaggedTensor) else value
        for name, value in features.items()
    }


class ShardWriter:
    """Writes records to numbered shards, each under a temporary name until `close`.

    A record goes to the shard that its key names, so that the shards of a corpus do not depend on the order of rows
    elsewhere, and are of like size.
    """

    def __init__(self, folder: str, prefix: str, num_shards: int):
        names = [f"{prefix}-{i:05d}-of-{num_shards:05d}.tfrecord" for i in range(num_shards)]
        self._paths = {name: os.path.join(folder, name) for name in names}
        self._writers = [tf.io.TFRecordWriter(f"{path}.partial") for path in self._paths.values()]

    def write(self, record: bytes, key: int) -> None:
        """Writes one record to the shard `key` modulo the number of shards."""
        self._writers[key % len(self._writers)].write(record)

    def close(self) -> list[str]:
        """Gives the shards their names, and returns these."""
        for writer, path in zip(self._writers, self._paths.values(), strict=True):
            writer.close()
            os.replace(f"{path}.partial", path)
        return list(self._paths)
