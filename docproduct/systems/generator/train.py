"""Training of the generator on a token folder: retrieved pairs, pairs alone, or plain text."""

from typing import Any

import tensorflow as tf

from data_pipeline import splits
from docproduct.systems.generator import adapter
from docproduct.systems.generator.config import FORMER, GeneratorTraining, without_answers
from docproduct.systems.generator.dev import DevEvaluation, read_rows
from docproduct.systems.generator.folder import FORMER_SIZES, KIND
from docproduct.systems.generator.start import start, training_rows
from docproduct.systems.generator.task import GeneratorTask
from docproduct.training import loop
from docproduct.training.run_folder import RunFolder


def train(
    config: GeneratorTraining,
    model_dir: str,
    resume: bool = False,
    overwrite: bool = False,
    strategy: tf.distribute.Strategy | None = None,
) -> dict[str, Any]:
    """Trains a generator and writes its folder.

    Args:
      config: what to train.
      model_dir: the folder; weights stand in it as soon as the model that training starts from has been scored.
      resume: continue a run that was interrupted, with the same config.
      overwrite: replace `model_dir`.
      strategy: where to train; None: on the default device.

    Returns:
      The content of metrics.json, see `loop.fit`.

    Raises:
      ValueError: the token folder is unfinished, empty, or was made with another tokenizer, or for a larger window.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    kind = adapter.KIND if config.lora.rank else KIND
    run = RunFolder(
        model_dir, kind, strategy, resume, overwrite, (config.tokens_dir, config.base_dir, config.adapter_dir)
    )
    config = without_answers(run.with_recorded_precision(config))
    folder = training_rows(config)
    with strategy.scope():
        generator = start(config, folder)
    evaluation = DevEvaluation(generator, read_rows(folder, splits.DEV), folder.rows, config.num_answers)
    task = GeneratorTask(config, folder, generator, evaluation, model_dir)
    if finished := run.begin(config, task.start(), generator.save_config, FORMER | FORMER_SIZES):
        return finished
    return loop.fit(task, config.settings, model_dir, strategy, resume)
