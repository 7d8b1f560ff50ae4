"""Training of an encoder on unlabelled texts."""

from typing import Any

import tensorflow as tf

from data_pipeline.token_rows.plain_texts import read_texts
from docproduct.systems.masked_language_model.config import MaskedTraining
from docproduct.systems.masked_language_model.folder import KIND
from docproduct.systems.masked_language_model.start import start
from docproduct.systems.masked_language_model.task import MaskedTask
from docproduct.training import loop
from docproduct.training.run_folder import RunFolder


def train(
    config: MaskedTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains an encoder to predict masked tokens, and writes its folder.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the untrained model has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      The content of metrics.json, see `loop.fit`.

    Raises:
      ValueError: there are no texts, or the encoder does not fit: see `read_texts`, `start` and `MaskedTask`.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    run = RunFolder(model_dir, KIND, strategy, resume, overwrite, (config.prepared_dir, config.encoder_dir))
    config = run.with_recorded_precision(config)
    texts = read_texts(config.text, config.prepared_dir, config.dev_share, config.settings.seed)
    with strategy.scope():
        trained, vocabulary = start(config, texts, model_dir if run.resumed else None)
    task = MaskedTask(config, texts, trained, vocabulary, model_dir)
    if finished := run.begin(config, task.start(), trained.save_config):
        return finished
    return loop.fit(task, config.settings, model_dir, strategy, resume)
