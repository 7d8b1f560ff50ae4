"""Batches of pairs that are in memory: as token ids or as a frozen encoder's vectors, with or without hard negatives.

B pairs in a batch, N pairs in pairs.parquet, K hard negatives a pair, T tokens, D width
"""

import abc
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from data_pipeline import batches, splits
from data_pipeline.batches import BatchSettings
from data_pipeline.batches.hard_negatives import HardNegatives
from data_pipeline.batches.neighbors import nearest_of_all, neighbor_batches
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.schemas import SIDES
from docproduct.systems.retriever.losses import PAIR_FEATURES
from docproduct.systems.retriever.model import unit
from docproduct.systems.retriever.rewording import Rewording
from docproduct.training.gradients import Batch

_NEGATIVE_GROUPS = ("question_group", "answer_group")


class Pairs(abc.ABC):
    """The pairs of a prepared folder in memory, in the order of pairs.parquet; subclasses hold their two sides.

    Attributes:
      groups: "pair_id", "question_group" and "answer_group", [N] int64 each.
      lengths: [N] int, by which batches are sorted.
      spec: {name: spec} of a batch's features.
    """

    kind: str  # ids or vectors: question_ids, answer_vectors, negative_ids ...

    def __init__(self, prepared: PreparedFolder, lengths: np.ndarray, side_spec: tf.TensorSpec):
        table = prepared.table(list(PAIR_FEATURES))
        self.groups = {name: table[name].to_numpy() for name in PAIR_FEATURES}
        self.lengths = lengths
        self.spec = {name: tf.TensorSpec([None], tf.int64) for name in PAIR_FEATURES}
        self.spec |= {f"{side}_{self.kind}": side_spec for side in SIDES}

    @abc.abstractmethod
    def side(self, side: str, rows: np.ndarray) -> tf.Tensor:
        """Returns one side of some rows, [B, ...]."""

    def batch(self, rows: np.ndarray) -> Batch:
        """Returns the batch of some rows, [B] int."""
        features = {name: tf.convert_to_tensor(values[rows]) for name, values in self.groups.items()}
        return features | {f"{side}_{self.kind}": self.side(side, rows) for side in SIDES}

    def negatives(self, rows: np.ndarray, teacher_scores: np.ndarray) -> Batch:
        """Returns what hard negatives add to a batch.

        Args:
          rows: [B, K] int, the pairs whose answers are the negatives.
          teacher_scores: [B, 1 + K] float32, of the own answer and of the negatives.
        """
        features = {f"negative_{name}": tf.convert_to_tensor(self.groups[name][rows]) for name in _NEGATIVE_GROUPS}
        answers = self.side("answer", rows.reshape(-1))  # [B * K, ...]
        answers = tf.reshape(answers, [-1, rows.shape[1], tf.shape(answers)[1]])
        return features | {"teacher_scores": tf.convert_to_tensor(teacher_scores), f"negative_{self.kind}": answers}

    def spec_of_negatives(self, k: int) -> dict[str, tf.TensorSpec]:
        """Returns the specs of `negatives`."""
        spec = {f"negative_{name}": tf.TensorSpec([None, k], tf.int64) for name in _NEGATIVE_GROUPS}
        answers = self.spec[f"answer_{self.kind}"]
        spec[f"negative_{self.kind}"] = tf.TensorSpec([None, k, answers.shape[1]], answers.dtype)
        return spec | {"teacher_scores": tf.TensorSpec([None, 1 + k], tf.float32)}


class TokenPairs(Pairs):
    """Pairs as token ids: "question_ids" and "answer_ids" [B, T] int32."""

    kind = "ids"

    def __init__(self, prepared: PreparedFolder, pad_id: int, pad_to_multiple: int = 1):
        self._ids = {side: batches.side_ids(prepared, side) for side in SIDES}
        self._pad_id, self._multiple = pad_id, pad_to_multiple
        lengths = sum(ids.row_lengths().numpy() for ids in self._ids.values())
        super().__init__(prepared, lengths, tf.TensorSpec([None, None], tf.int32))

    def side(self, side: str, rows: np.ndarray) -> tf.Tensor:
        """Returns the padded ids of one side of some rows, [B, T]."""
        return batches.pad(tf.gather(self._ids[side], rows), self._pad_id, self._multiple)


class VectorPairs(Pairs):
    """Pairs as the vectors of a frozen encoder: "question_vectors" and "answer_vectors" [B, D] float32."""

    kind = "vectors"

    def __init__(self, prepared: PreparedFolder, vectors: dict[str, np.ndarray]):
        self._vectors = vectors  # of each side, [N, D]
        num_pairs, width = vectors["answer"].shape
        super().__init__(prepared, np.ones(num_pairs, int), tf.TensorSpec([None, width], tf.float32))

    def side(self, side: str, rows: np.ndarray) -> tf.Tensor:
        """Returns the vectors of one side of some rows, [B, D]."""
        return tf.convert_to_tensor(self._vectors[side][rows])


class ClusterOrder:
    """The rows of each batch of an epoch: pairs with similar questions share a batch."""

    def __init__(
        self,
        prepared: PreparedFolder,
        pairs: Pairs,
        question_vectors: np.ndarray | None,
        cluster_size: int,
        settings: BatchSettings,
        held_out: np.ndarray,
    ):
        """Looks for the nearest questions of each.

        Args:
          prepared: the pairs; those of train are put in order.
          pairs: the same, in memory.
          question_vectors: [N, D] float32, which decide what questions are alike; None if `cluster_size` is 1.
          cluster_size: pairs that stand together; 1: all pairs in random order.
          settings: batch size, buckets and seed.
          held_out: rows of train that are left out, [H] int.
        """
        train = np.flatnonzero(prepared.table(["split"])["split"].to_numpy() == splits.TRAIN)
        self._train = np.setdiff1d(train, held_out)
        if question_vectors is None:
            self._vectors = np.empty((len(self._train), 0), np.float32)  # only their number counts
        else:
            self._vectors = unit(question_vectors[self._train]).numpy()
        self._keys = [pairs.groups[name][self._train] for name in _NEGATIVE_GROUPS]
        self._lengths = pairs.lengths[self._train]
        self._nearest = nearest_of_all(self._vectors, cluster_size)
        self._cluster_size, self._settings = cluster_size, settings

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Returns the rows of pairs.parquet in each batch of an epoch."""
        rows = neighbor_batches(
            self._vectors, self._keys, self._lengths, self._cluster_size, self._settings, epoch, self._nearest
        )
        return [self._train[batch] for batch in rows]


class GeneratedBatches:
    """Batches that a generator makes from pairs in memory, to be iterated once; `ShardBatches` are read from files.

    Attributes:
      element_spec: {name: spec} of a batch's features, which a generator cannot tell.
    """

    def __init__(self, batches: Iterator[Batch], element_spec: dict[str, tf.TensorSpec]):
        self._batches, self.element_spec = batches, element_spec

    def __iter__(self) -> Iterator[Batch]:
        return self._batches


def in_order(
    pairs: Pairs, order: ClusterOrder, epoch: int, skip: int, rewording: Rewording | None = None
) -> Iterator[Batch]:
    """Yields the batches of an epoch without the first `skip`; `rewording` asks some questions in other words."""
    for rows in order.batches(epoch)[skip:]:
        batch = pairs.batch(rows)
        if rewording:
            batch["question_ids"] = rewording.ids(batch["question_ids"], rows, epoch)
        yield batch


def with_negatives(
    epoch_batches: Iterable[Batch], pairs: Pairs, negatives: HardNegatives, epoch: int
) -> Iterator[Batch]:
    """Yields batches with the hard negatives that are drawn for them in this epoch."""
    for batch in epoch_batches:
        rows, scores = negatives.draw(batch["pair_id"].numpy(), epoch)
        yield batch | pairs.negatives(rows, scores)
