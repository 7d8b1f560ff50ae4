"""Turns records into tensors: parses and pads them; errors of a dataset name the file."""

from collections.abc import Iterator, Sequence

import tensorflow as tf

from data_pipeline.schemas import IDS, NUMBER

_PARSED_TOGETHER = 1_024  # records, in the search for a damaged file

_FEATURES = {
    IDS: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int32),
    NUMBER: tf.io.FixedLenFeature([], tf.int64),
}

_READ_ERRORS = (tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError)

Element = dict[str, tf.Tensor | tf.RaggedTensor]


class ShardBatches:
    """The batches that a dataset reads from shards; a damaged or incomplete shard is an error that names the file.

    Attributes:
      element_spec: the shapes and dtypes of a batch. Of pairs: {"question_ids": [B, Tq] int32, "answer_ids": [B, Ta]
        int32, "pair_id", "question_group", "answer_group": [B] int64}.
    """

    def __init__(
        self,
        dataset: tf.data.Dataset,
        shards: Sequence[str],
        features: dict[str, str],
        num_batches: int,
        num_rows: int | None = None,
    ):
        self.element_spec = dataset.element_spec
        self._dataset, self._shards, self._features = dataset, shards, features
        self._expected = {"batches": num_batches} | ({"rows": num_rows} if num_rows is not None else {})

    def __iter__(self) -> Iterator[Element]:
        """Yields the batches.

        Raises:
          ValueError: a shard is damaged, or holds fewer rows than the manifest says.
        """
        seen = {"batches": 0, "rows": 0}
        try:
            for batch in self._dataset:
                seen["batches"] += 1
                seen["rows"] += next(iter(batch.values())).shape[0]
                yield batch
        except _READ_ERRORS as error:
            if (path := _damaged(self._shards, self._features)) is None:
                raise
            raise ValueError(
                f"{path} is missing or damaged ({error.message}). Remove its folder, and make it again."
            ) from error
        for unit, expected in self._expected.items():
            if seen[unit] != expected:
                raise ValueError(
                    f"The shards {self._shards[0]} ... hold {seen[unit]} {unit}; their manifest says {expected}. "
                    "Remove their folder, and make it again."
                )


def parse(batch: tf.Tensor, features: dict[str, str]) -> Element:
    """Returns the tensors of a batch of records.

    Args:
      batch: [B] serialized records.
      features: the kind of each feature, such as `rows.PAIR.features`.

    Returns:
      For each name [B] int64, or [B, (T)] int32 ragged for token ids.
    """
    parsed = tf.io.parse_example(batch, {name: _FEATURES[kind] for name, kind in features.items()})
    return {
        name: tf.cast(value, tf.int32) if isinstance(value, tf.RaggedTensor) else value
        for name, value in parsed.items()
    }


def pad(ids: tf.RaggedTensor, pad_id: int, multiple: int = 1) -> tf.Tensor:
    """Pads rows to the longest of them: [B, (T)] -> [B, T], T a multiple of `multiple`."""
    padded = ids.to_tensor(pad_id)
    missing = -tf.shape(padded)[1] % multiple
    return tf.pad(padded, [[0, 0], [0, missing]], constant_values=pad_id) if multiple > 1 else padded


def count_tokens(batch: Element, pad_id: int) -> tuple[int, int]:
    """Returns the number of real tokens in a padded batch, and the number of places."""
    texts = [value.numpy() for name, value in batch.items() if name.endswith("_ids")]
    return sum(int((ids != pad_id).sum()) for ids in texts), sum(ids.size for ids in texts)


def _damaged(shards: Sequence[str], features: dict[str, str]) -> str | None:
    """Returns a shard that cannot be read; None if all can."""
    for path in shards:
        try:
            for batch in tf.data.TFRecordDataset(path).batch(_PARSED_TOGETHER):
                parse(batch, features)
        except _READ_ERRORS:
            return path
    return None
