"""Training of the retriever on a prepared folder."""

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import batches, files, splits
from data_pipeline.hard_negatives import HardNegatives
from data_pipeline.prepared import SIDES, PreparedFolder
from docproduct import devices, run_folder, training
from docproduct.layers import checkpoints
from docproduct.layers.bert import BertConfig
from docproduct.systems.retriever import report
from docproduct.systems.retriever import task as tasks
from docproduct.systems.retriever.dev import DevEvaluation, stored_vectors, text_vectors
from docproduct.systems.retriever.embedding_store import open_store
from docproduct.systems.retriever.folder import (
    HYBRID_FILE,
    KIND,
    WEIGHTS_FILE,
    Side,
    TrainedRetriever,
)
from docproduct.systems.retriever.losses import LossSettings, RetrievalLoss
from docproduct.systems.retriever.start import start, training_pairs

_MAX_GROUPS = 6  # of like length, on each side: each makes the graph larger


@dataclasses.dataclass(frozen=True)
class RetrieverTraining:
    """What to train, from what, on what.

    Attributes:
      prepared_dir: the prepared folder.
      encoder_dir: the encoder, or trained retriever, to start from; None: a random BERT of `random_bert`'s sizes.
      random_bert: sizes without vocab_size and pad_id, which the prepared folder's tokenizer decides.
      pooling: mean, cls, max or mean_sqrt_len; None: what the encoder's folder says, else mean.
      pooled_layer: the layer whose states are pooled: -1 the last, -2 the one before it, as in docproduct 0.2. The
        layers behind it are left out of the model. Defaults to the last.
      max_tokens: longest text that the trained model encodes; None: what the pairs were cut at when they were prepared,
        so that the model is used on what it is trained on.
      dropout: rate inside the encoder, on states and on attention; None: what the encoder's folder says.
      head: residual, plain or none; see RetrieverConfig for its defaults, as for the next three. None: the default, or
        what a trained retriever has that training goes on from.
      head_width: width inside a head.
      head_depth: blocks or hidden layers of a head.
      head_dropout: rate inside the heads.
      loss: what to minimize. Without matryoshka_dims, those of the retriever that training goes on from.
      freeze_bert: train the heads only, on vectors that the encoder computed once.
      negatives_dir: hard negatives that `docproduct.negatives` found; None: only the other answers of a batch.
      num_negatives: hard negatives a pair and step.
      cluster_size: pairs with like questions that share a batch, as hard negatives for one another; 1: none. The
        encoder says first what is alike; token ids of all pairs are in memory.
      chunk_size: 0: the whole batch is encoded at once. Else gradient caching: so many pairs at once, which is what
        memory is needed for; the gradients are the same, and a step takes a third longer.
      num_buckets: classes of like length that batches are drawn from; 1: of any length.
      boundaries: the lengths that divide them; None: the data's quantiles.
      pad_to_multiple: padded lengths are multiples of it.
      dev_train_answers: answers of train that stand beside dev's as candidates in evaluation.
      settings: the loop's.
    """

    prepared_dir: str
    encoder_dir: str | None = None
    random_bert: BertConfig = BertConfig(width=128, num_layers=2, num_heads=2, inner_width=512, max_positions=256)
    pooling: str | None = None
    pooled_layer: int | None = None
    max_tokens: int | None = None
    dropout: float | None = None
    head: str | None = None
    head_width: int | None = None
    head_depth: int | None = None
    head_dropout: float | None = None
    loss: LossSettings = LossSettings()
    freeze_bert: bool = False
    negatives_dir: str | None = None
    num_negatives: int = 1
    cluster_size: int = 8
    chunk_size: int = 0
    num_buckets: int = 16
    boundaries: tuple[int, ...] | None = None
    pad_to_multiple: int = 1
    dev_train_answers: int = 2_000
    settings: training.TrainingSettings = training.TrainingSettings()

    def __post_init__(self) -> None:
        """Raises a ValueError for settings that contradict each other."""
        if not 0 <= self.chunk_size <= self.settings.batch_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}; expected 0 to {self.settings.batch_size}, the batch size."
            )
        for name in ("cluster_size", "num_negatives"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 1 or more.")
        for name in ("dropout", "head_dropout"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 0 or more, and less than 1.")
        if self.num_negatives > 1 and not self.negatives_dir:
            raise ValueError(f"num_negatives is {self.num_negatives}, of no hard negatives. Give --negatives_dir.")
        if self.loss.distillation_weight and not self.negatives_dir:
            raise ValueError("Distillation needs the teacher's scores of hard negatives. Give --negatives_dir.")


def train(
    config: RetrieverTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains a retriever and writes its folder.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the untrained model has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      What metrics.json holds, see `training.fit`.

    Raises:
      ValueError: the prepared folder is unfinished, has no dev pairs, or was made with another tokenizer.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()

    inputs = (config.prepared_dir, config.encoder_dir, config.negatives_dir)
    return run_folder.train(
        lambda: make_run(config, model_dir, strategy),
        config.settings,
        model_dir,
        KIND,
        inputs,
        strategy,
        resume,
        overwrite,
    )


def make_run(config: RetrieverTraining, model_dir: str, strategy: tf.distribute.Strategy) -> run_folder.Run:
    """Makes the model and the task of a training, and writes nothing but the store of a frozen encoder."""
    prepared = training_pairs(config)
    seed = config.settings.seed
    how = batches.BatchSettings(
        config.settings.batch_size,
        config.num_buckets,
        config.boundaries,
        pad_to_multiple=config.pad_to_multiple,
        seed=seed,
    )
    negatives = None
    if config.negatives_dir:
        negatives = HardNegatives(config.negatives_dir, prepared, config.num_negatives, seed)
    with strategy.scope():
        retriever = start(config, prepared)
        dims = retriever.config.matryoshka_dims
        loss = RetrievalLoss(dataclasses.replace(config.loss, matryoshka_dims=dims))
    if config.freeze_bert and retriever.config.head == "none":
        raise ValueError("Without heads and with a frozen encoder nothing is trained. Choose a --head.")
    model, pad_id = retriever.model, retriever.tokenizer.pad_id
    if config.freeze_bert:
        model.freeze_encoder()
    record = {
        "training": dataclasses.asdict(config),
        "prepared": prepared.fingerprint(),
        "negatives": negatives.fingerprint if negatives else None,
        "start": retriever.fingerprint(),  # the encoder's weights and the seed
        "dtype_policy": retriever.dtype_policy,  # what precision=auto has chosen
    }
    if config.freeze_bert:
        store = {side: _stored(strategy, retriever, prepared, side) for side in SIDES}
        encode = tasks.encode_vectors(retriever)
        make_batches = tasks.vector_batches(store, prepared, how, negatives, config.cluster_size)
        vectors = stored_vectors(model, store)
    else:
        retriever.compile_for_many()
        rows = config.settings.batch_size // strategy.num_replicas_in_sync  # that are encoded together
        rows = min(rows, config.chunk_size or rows)
        num_groups = max(1, min(_MAX_GROUPS, rows // 8))
        encode = tasks.encode_ids(retriever, num_groups, config.pad_to_multiple)
        question_vectors = _stored(strategy, retriever, prepared, "question") if config.cluster_size > 1 else None
        make_batches = tasks.id_batches(prepared, how, pad_id, negatives, config.cluster_size, question_vectors)
        vectors = text_vectors(retriever)
    evaluate = DevEvaluation(prepared, config.dev_train_answers, vectors)
    modules = (model, loss)
    task = training.Task(
        modules=modules,
        gradients=tasks.gradients(encode, loss, modules, config.chunk_size),
        batches=make_batches,
        count_tokens=lambda batch: batches.count_tokens(batch, pad_id),
        num_rows=prepared.num_pairs(splits.TRAIN),
        evaluate=lambda: evaluate() | ({"scale": float(loss.scale)} if config.loss.learn_scale else {}),
        best_metric="RR@10",
        save=lambda: retriever.save_weights(model_dir),
        report=lambda history: _report(config, prepared, retriever, evaluate, model_dir, history),
    )
    return run_folder.Run(task, record, lambda folder: retriever.save_config(folder, record))


def _stored(
    strategy: tf.distribute.Strategy, retriever: TrainedRetriever, prepared: PreparedFolder, side: Side
) -> np.ndarray:
    """Returns the encoder's vectors of one side; of several workers one writes them, and all read the same."""
    if devices.is_chief(strategy):
        vectors = open_store(retriever, prepared, side)
        devices.wait_for_all(strategy, 0)
        return vectors
    devices.wait_for_all(strategy, 0)
    return open_store(retriever, prepared, side, make=False)


def _report(
    config: RetrieverTraining,
    prepared: PreparedFolder,
    retriever: TrainedRetriever,
    evaluate: DevEvaluation,
    model_dir: str,
    history: dict[str, Any],
) -> None:
    """Writes how BM25 is best joined, and the model card, about the epoch that was kept."""
    if history["best"] != history["epochs"][-1]:
        weights = checkpoints.read_safetensors(model_dir, WEIGHTS_FILE)
        checkpoints.assign(retriever.model, weights, os.path.join(model_dir, WEIGHTS_FILE))
        evaluate()
    hybrid, tried = evaluate.choose_hybrid()
    files.write_json(os.path.join(model_dir, HYBRID_FILE), hybrid._asdict() | {"dev_RR@10": tried})
    report.write(model_dir, config, retriever.config, prepared, history, tried, evaluate.hardest_misses(10))
