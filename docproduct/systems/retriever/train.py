"""Training of the retriever on a prepared folder."""

import dataclasses
import os
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import batches, splits
from data_pipeline.batches.hard_negatives import HardNegatives
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import SIDES
from docproduct.layers import checkpoints
from docproduct.systems.retriever import report
from docproduct.systems.retriever import task as tasks
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.dev import DevEvaluation, stored_vectors, text_vectors
from docproduct.systems.retriever.embedding_store import open_store
from docproduct.systems.retriever.folder import (
    HYBRID_FILE,
    KIND,
    WEIGHTS_FILE,
    Side,
    TrainedRetriever,
)
from docproduct.systems.retriever.losses import RetrievalLoss
from docproduct.systems.retriever.start import start, training_pairs
from docproduct.training import devices, run_folder
from docproduct.training import loop as training

_MAX_GROUPS = 6  # of like length, on each side: each makes the graph larger


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
