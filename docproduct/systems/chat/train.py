"""Training of a chat model on prepared dialogues."""

from typing import Any

import tensorflow as tf

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import DIALOGUE
from docproduct.systems.chat import rows
from docproduct.systems.chat.config import ChatTraining
from docproduct.systems.chat.start import start, window_of
from docproduct.systems.chat.task import ChatTask
from docproduct.systems.generator import adapter
from docproduct.systems.generator.config import without_answers
from docproduct.systems.generator.layouts import KIND
from docproduct.training import loop
from docproduct.training.run_folder import RunFolder


def train(
    config: ChatTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains a chat model, or an adapter of one, and writes its folder, which is a generator's.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the model that training starts from has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      The content of metrics.json, see `loop.fit`.

    Raises:
      ValueError: the dialogues are unfinished, in one split only, or cannot be learned by this model.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    kind, inputs = (
        adapter.KIND if config.lora.rank else KIND,
        (config.prepared_dir, config.base_dir, config.adapter_dir),
    )
    run = RunFolder(model_dir, kind, strategy, resume, overwrite, inputs)
    config = without_answers(run.with_recorded_precision(config))
    prepared = PreparedFolder(config.prepared_dir, DIALOGUE)
    with strategy.scope():
        generator = start(config)
    window = window_of(config, generator)
    train_rows, dev_rows = (
        rows.read(prepared, split, generator.tokenizer, window, config) for split in (splits.TRAIN, splits.DEV)
    )
    task = ChatTask(config, prepared, generator, train_rows, dev_rows, model_dir)
    if finished := run.begin(config, task.start(), generator.save_config):
        return finished
    return loop.fit(task, config.settings, model_dir, strategy, resume)
