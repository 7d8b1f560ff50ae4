"""Training of the retriever on a prepared folder."""

from typing import Any

import tensorflow as tf

from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.folder import KIND
from docproduct.systems.retriever.start import start, training_pairs
from docproduct.systems.retriever.task import HeadsTask, RetrieverTask
from docproduct.training import loop
from docproduct.training.run_folder import RunFolder


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
      The content of metrics.json, see `loop.fit`.

    Raises:
      ValueError: the prepared folder is unfinished, has no dev pairs, or was made with another tokenizer.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    inputs = (config.prepared_dir, config.encoder_dir, config.negatives_dir)
    run = RunFolder(model_dir, KIND, strategy, resume, overwrite, inputs)
    config = run.with_recorded_precision(config)
    prepared = training_pairs(config)
    with strategy.scope():
        retriever = start(config, prepared)
    make_task = HeadsTask if config.freeze_bert else RetrieverTask
    task = make_task(config, prepared, retriever, strategy, model_dir)
    if finished := run.begin(config, task.start(), retriever.save_config):
        return finished
    return loop.fit(task, config.settings, model_dir, strategy, resume)
