"""Training of the reranker on a prepared folder and mined hard negatives."""

from typing import Any

import tensorflow as tf

from docproduct.layers.precision import dtype_policy
from docproduct.systems.reranker.config import RerankerTraining
from docproduct.systems.reranker.folder import KIND
from docproduct.systems.reranker.start import start
from docproduct.systems.reranker.task import RerankerTask
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.start import training_pairs
from docproduct.training import loop
from docproduct.training.run_folder import RunFolder


def train(
    config: RerankerTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains a reranker and writes its folder.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the untrained model has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      The content of metrics.json, see `loop.fit`.

    Raises:
      ValueError: a folder is unfinished or has no dev pairs, or the negatives are of other pairs.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    inputs = (config.prepared_dir, config.retriever_dir, config.encoder_dir, config.negatives_dir)
    run = RunFolder(model_dir, KIND, strategy, resume, overwrite, inputs)
    config = run.with_recorded_precision(config)
    prepared = training_pairs(config)
    retriever = TrainedRetriever.load(config.retriever_dir, dtype=dtype_policy(config.settings.precision))
    with strategy.scope():
        reranker = start(config, retriever)
    task = RerankerTask(config, prepared, reranker, retriever, model_dir)
    if finished := run.begin(config, task.start(), reranker.save_config):
        return finished
    return loop.fit(task, config.settings, model_dir, strategy, resume)
