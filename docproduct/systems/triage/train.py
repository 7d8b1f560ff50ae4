"""Training of the triage model on prepared rows."""

import os
from typing import Any

import tensorflow as tf

from data_pipeline import splits
from docproduct.systems.triage import rows
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.folder import KIND
from docproduct.systems.triage.start import probe, start, training_rows
from docproduct.systems.triage.task import TriageTask
from docproduct.training import devices, loop
from docproduct.training.run_folder import RunFolder


def train(
    config: TriageTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains a triage model and writes its folder.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the untrained model has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      The content of metrics.json, see `loop.fit`.

    Raises:
      ValueError: the rows are unfinished, have no dev split, or too few labels; or the parts do not fit together.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    inputs = (config.prepared_dir, config.encoder_dir, config.decoder_dir)
    run = RunFolder(model_dir, KIND, strategy, resume, overwrite, inputs)
    config = run.with_recorded_precision(config)
    prepared = training_rows(config)
    if devices.num_workers(strategy) > 1 and not config.encoder_dir:
        raise ValueError(
            "Several workers need --encoder_dir: without it, each would learn a vocabulary of its own from the texts. "
            "Train a small encoder in one process first, with --variant=encoder."
        )
    with strategy.scope():
        triage = start(config, prepared, model_dir if run.resumed else None)
    triage.compile_for_many()
    train_rows, dev_rows = (rows.read(config, triage, prepared, split) for split in (splits.TRAIN, splits.DEV))
    with strategy.scope():  # it may have weights of its own
        task = TriageTask(config, prepared, triage, train_rows, dev_rows, model_dir)
    if finished := run.begin(config, task.start(), triage.save_config):
        return finished
    # After the record of the start: on another machine the regression may differ in its last digits. A checkpoint holds
    # the classifier.
    begins = not os.path.exists(os.path.join(model_dir, loop.CHECKPOINT_FILE)) or not run.resumed
    if config.has_labels and config.probe_first and begins and not triage.has_classifier():
        probe(triage, train_rows, task.class_weights, config.settings.seed)
    return loop.fit(task, config.settings, model_dir, strategy, resume)
