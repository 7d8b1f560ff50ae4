"""Batches, vectors and loss of the retriever, for the training loop.

There are two kinds: the whole model on token ids, and the heads alone on vectors that a frozen encoder computed once.

    B pairs of one replica, K hard negatives a pair, T tokens, D width
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data_pipeline import batches, splits
from data_pipeline.batches import BatchSettings
from data_pipeline.batches.hard_negatives import HardNegatives
from data_pipeline.batches.neighbors import nearest_of_all, neighbor_batches
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import SIDES
from docproduct.systems.retriever.folder import TrainedRetriever
from docproduct.systems.retriever.losses import PAIR_FEATURES, RetrievalLoss
from docproduct.systems.retriever.model import unit
from docproduct.training import gradient_cache
from docproduct.training.gradients import Batch, Gather, Gradients, differentiate

_PAIR_SPEC = {name: tf.TensorSpec([None], tf.int64) for name in PAIR_FEATURES}


class Epoch:
    """One epoch of batches, with hard negatives added.

    Attributes:
      element_spec: what `training.Task.batches` asks for.
    """

    def __init__(self, make: Callable[[], Iterator[Batch]], element_spec: dict[str, tf.TensorSpec]):
        self._make, self.element_spec = make, element_spec

    def __iter__(self) -> Iterator[Batch]:
        return self._make()


def gradients(
    encode: gradient_cache.Encode,
    loss: RetrievalLoss,
    modules: tuple[keras.layers.Layer, ...],
    chunk_size: int,
) -> Gradients:
    """Returns `training.Task.gradients`: of the whole batch, or with a chunk_size by gradient caching."""

    def of_vectors(vectors: Any, batch: Batch, gather: Gather) -> tf.Tensor:
        questions, answers, *negatives = vectors
        found = loss(questions, answers, negatives[0] if negatives else None, batch=batch, gather=gather)
        return tf.reduce_sum(found)

    if chunk_size:
        return gradient_cache.differentiate(encode, of_vectors, modules, chunk_size)
    return differentiate(lambda batch, gather: of_vectors(encode(batch), batch, gather), modules)


def encode_ids(retriever: TrainedRetriever, num_groups: int, multiple: int = 1) -> gradient_cache.Encode:
    """Returns a function that encodes a batch of token ids, each side in groups of like length.

    Their lengths are multiples of `multiple`, if those of the batch are.

    It maps "question_ids" [B, T], "answer_ids" [B, T] and, if there are, "negative_ids" [B, K, T] to vectors [B, D],
    [B, D] and [B, K, D].
    """
    model, pad_id = retriever.model, retriever.tokenizer.pad_id

    def encode(batch: Batch) -> list[tf.Tensor]:
        sides = [batch["question_ids"], batch["answer_ids"]]
        if "negative_ids" in batch:
            sides.append(tf.reshape(batch["negative_ids"], [-1, tf.shape(batch["negative_ids"])[2]]))
        grouped = [batches.length_groups(ids, num_groups, pad_id, multiple) for ids in sides]
        answer_groups = [group for groups, _ in grouped[1:] for group in groups]
        questions, answers = model(grouped[0][0], answer_groups, training=True)
        num_answers = tf.shape(batch["answer_ids"])[0]
        vectors = [tf.gather(questions, grouped[0][1]), tf.gather(answers[:num_answers], grouped[1][1])]
        if "negative_ids" in batch:
            negatives = tf.gather(answers[num_answers:], grouped[2][1])
            vectors.append(tf.reshape(negatives, [-1, batch["negative_ids"].shape[1], answers.shape[-1]]))
        return vectors

    return encode


def encode_vectors(retriever: TrainedRetriever) -> gradient_cache.Encode:
    """Returns a function that passes "question_vectors", "answer_vectors" and "negative_vectors" through the heads."""
    model, width = retriever.model, retriever.config.width

    def encode(batch: Batch) -> list[tf.Tensor]:
        pooled = batch["answer_vectors"]
        if "negative_vectors" in batch:
            pooled = tf.concat([pooled, tf.reshape(batch["negative_vectors"], [-1, width])], axis=0)
        questions, answers = model.heads(batch["question_vectors"], pooled, training=True)
        num_answers = tf.shape(batch["answer_vectors"])[0]
        vectors = [questions, answers[:num_answers]]
        if "negative_vectors" in batch:
            vectors.append(tf.reshape(answers[num_answers:], [-1, batch["negative_vectors"].shape[1], width]))
        return vectors

    return encode


@dataclasses.dataclass(frozen=True)
class _Groups:
    """What is known of each row of pairs.parquet, [N] each."""

    pair_id: np.ndarray
    question_group: np.ndarray
    answer_group: np.ndarray

    @classmethod
    def of(cls, prepared: PreparedFolder) -> "_Groups":
        table = prepared.pairs(list(PAIR_FEATURES))
        return cls(*(table[name].to_numpy() for name in PAIR_FEATURES))

    def of_rows(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what a batch holds of them."""
        return {name: getattr(self, name)[rows] for name in PAIR_FEATURES}


def _order(
    prepared: PreparedFolder,
    groups: _Groups,
    question_vectors: np.ndarray,
    lengths: np.ndarray,
    cluster_size: int,
    how: BatchSettings,
) -> Callable[[int], list[np.ndarray]]:
    """Returns a function of the epoch: the rows of pairs.parquet in each batch."""
    train = np.flatnonzero(prepared.pairs(["split"])["split"].to_numpy() == splits.TRAIN)
    vectors = unit(question_vectors[train]).numpy()
    keys = [groups.question_group[train], groups.answer_group[train]]
    nearest = nearest_of_all(vectors, cluster_size)

    def order(epoch: int) -> list[np.ndarray]:
        found = neighbor_batches(vectors, keys, lengths[train], cluster_size, how, epoch, nearest)
        return [train[rows] for rows in found]

    return order


def id_batches(
    prepared: PreparedFolder,
    how: BatchSettings,
    pad_id: int,
    negatives: HardNegatives | None,
    cluster_size: int = 1,
    question_vectors: np.ndarray | None = None,
) -> Callable[[int, int], Any]:
    """Returns `training.Task.batches` of token ids: "question_ids", "answer_ids", "negative_ids", groups.

    Args:
      prepared: the pairs.
      how: batches of them.
      pad_id: fills the rows.
      negatives: hard ones for each pair.
      cluster_size: pairs with like questions that share a batch; 1: batches are read from the shards as they come.
      question_vectors: [N, D] float32 of all pairs; needed where cluster_size is above 1.
    """

    def from_shards(epoch: int, skip: int) -> batches.Batches:
        return batches.training_batches(prepared, splits.TRAIN, how, pad_id, epoch, skip)

    if cluster_size == 1 and negatives is None:
        return from_shards
    groups = _Groups.of(prepared)
    ids = {side: batches.side_ids(prepared, side) for side in SIDES}

    def padded(side: str, rows: np.ndarray) -> tf.Tensor:
        return batches.pad(tf.gather(ids[side], rows), pad_id, how.pad_to_multiple)

    source = from_shards
    if cluster_size > 1:
        lengths = sum(side.row_lengths().numpy() for side in ids.values())
        source = _clustered(_order(prepared, groups, question_vectors, lengths, cluster_size, how), groups, padded)
    return source if negatives is None else _with_negatives(source, negatives, groups, padded)


def _clustered(
    order: Callable[[int], list[np.ndarray]], groups: _Groups, padded: Callable[[str, np.ndarray], tf.Tensor]
) -> Callable[[int, int], Epoch]:
    """Returns batches of token ids in an order."""
    spec = _PAIR_SPEC | {f"{side}_ids": tf.TensorSpec([None, None], tf.int32) for side in SIDES}

    def clustered(epoch: int, skip: int) -> Epoch:
        def make() -> Iterator[Batch]:
            for rows in order(epoch)[skip:]:
                batch = {name: tf.convert_to_tensor(values) for name, values in groups.of_rows(rows).items()}
                yield batch | {f"{side}_ids": padded(side, rows) for side in SIDES}

        return Epoch(make, spec)

    return clustered


def _with_negatives(
    source: Callable[[int, int], Any],
    negatives: HardNegatives,
    groups: _Groups,
    padded: Callable[[str, np.ndarray], tf.Tensor],
) -> Callable[[int, int], Epoch]:
    """Returns the batches of token ids of `source`, with hard negatives."""
    k = negatives.num_negatives

    def with_negatives(epoch: int, skip: int) -> Epoch:
        plain = source(epoch, skip)

        def make() -> Iterator[Batch]:
            for batch in plain:
                rows, scores = negatives.draw(batch["pair_id"].numpy(), epoch)
                found = padded("answer", rows.reshape(-1))
                found = tf.reshape(found, [-1, k, tf.shape(found)[1]])
                yield batch | _negative_features(groups, rows, scores) | {"negative_ids": found}

        spec = _negative_spec(k, "negative_ids", tf.TensorSpec([None, k, None], tf.int32))
        return Epoch(make, plain.element_spec | spec)

    return with_negatives


def vector_batches(
    store: dict[str, np.ndarray],
    prepared: PreparedFolder,
    how: BatchSettings,
    negatives: HardNegatives | None,
    cluster_size: int = 1,
) -> Callable[[int, int], Any]:
    """Returns `training.Task.batches` of the frozen encoder's vectors, from its store; length is nothing to them."""
    groups = _Groups.of(prepared)
    width = store["answer"].shape[1]
    spec = _PAIR_SPEC | {f"{side}_vectors": tf.TensorSpec([None, width], tf.float32) for side in store}
    if negatives:
        k = negatives.num_negatives
        spec |= _negative_spec(k, "negative_vectors", tf.TensorSpec([None, k, width], tf.float32))
    lengths = np.ones(len(groups.pair_id), int)
    order = _order(prepared, groups, store["question"], lengths, cluster_size, how)

    def epoch_batches(epoch: int, skip: int) -> Epoch:
        def make() -> Iterator[Batch]:
            for rows in order(epoch)[skip:]:
                batch = groups.of_rows(rows)
                batch |= {f"{side}_vectors": vectors[rows] for side, vectors in store.items()}
                if negatives:
                    drawn, scores = negatives.draw(batch["pair_id"], epoch)
                    batch |= _negative_features(groups, drawn, scores)
                    batch["negative_vectors"] = store["answer"][drawn.reshape(-1)].reshape(*drawn.shape, width)
                yield {name: tf.convert_to_tensor(values) for name, values in batch.items()}

        return Epoch(make, spec)

    return epoch_batches


def _negative_spec(k: int, name: str, spec: tf.TensorSpec) -> dict[str, tf.TensorSpec]:
    groups = {f"negative_{kind}": tf.TensorSpec([None, k], tf.int64) for kind in ("question_group", "answer_group")}
    return groups | {"teacher_scores": tf.TensorSpec([None, 1 + k], tf.float32), name: spec}


def _negative_features(groups: _Groups, rows: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    return {
        "negative_question_group": groups.question_group[rows],
        "negative_answer_group": groups.answer_group[rows],
        "teacher_scores": scores,
    }
