"""Training of the multiple-choice model on prepared questions."""

from typing import Any

import tensorflow as tf

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import CHOICES
from docproduct.layers.precision import dtype_policy
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.multiple_choice import questions
from docproduct.systems.multiple_choice.config import MAX_TOKENS, ChoiceTraining
from docproduct.systems.multiple_choice.folder import KIND, TrainedChooser
from docproduct.systems.multiple_choice.task import ChoiceTask
from docproduct.training import loop
from docproduct.training.run_folder import RunFolder


def train(
    config: ChoiceTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains a multiple-choice model and writes its folder.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the untrained model has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      The content of metrics.json, see `loop.fit`.

    Raises:
      ValueError: the questions are unfinished or in one split only, or do not fit the model.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    run = RunFolder(model_dir, KIND, strategy, resume, overwrite, (config.prepared_dir, config.base_dir))
    config = run.with_recorded_precision(config)
    prepared = PreparedFolder(config.prepared_dir, CHOICES)
    asked = {split: questions.read(prepared, split) for split in (splits.TRAIN, splits.DEV)}
    for split, rows in asked.items():
        if not rows:
            raise ValueError(
                f"{prepared.path} has no {split} questions. Prepare it again with another --dev_share, or with "
                "--dev_input."
            )
    policy = dtype_policy(config.settings.precision, training=True)
    with strategy.scope():
        generator = TrainedGenerator.load(config.base_dir, policy, config.settings.seed, config.dropout)
        chooser = TrainedChooser(generator, config.row_tokens or min(MAX_TOKENS, generator.window))
    task = ChoiceTask(config, prepared, chooser, asked[splits.TRAIN], asked[splits.DEV], model_dir)
    if finished := run.begin(config, task.start(), chooser.save_config):
        return finished
    return loop.fit(task, config.settings, model_dir, strategy, resume)
