"""Training of the generator on a token folder: retrieved pairs, pairs alone, or plain text."""

import dataclasses
import os
from typing import Any

import tensorflow as tf
from absl import logging

from data_pipeline import batches, splits
from data_pipeline.folders.token_folder import LANGUAGE_MODEL, TokenFolder
from data_pipeline.prompts import answer_prompts as prompts
from data_pipeline.prompts.answer_prompts import PromptSettings
from docproduct.layers import checkpoints
from docproduct.layers.copying import can_copy, start_copying
from docproduct.layers.precision import dtype_policy
from docproduct.systems.generator import report
from docproduct.systems.generator import task as tasks
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.dev import DevEvaluation, Sample, read_rows
from docproduct.systems.generator.folder import KIND, WEIGHTS_FILE, TrainedGenerator, answering
from docproduct.training import loop
from docproduct.training.run_folder import RunFolder
from docproduct.training.task import Task

_SHOWN = 2  # answers in the log, each epoch


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
      What metrics.json holds, see `loop.fit`.

    Raises:
      ValueError: the token folder is unfinished, empty, or was made with another tokenizer, or for a larger window.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    inputs = (config.tokens_dir, config.gpt2_dir)
    run = RunFolder(model_dir, KIND, strategy, resume, overwrite, inputs)
    task = make_task(config, model_dir, strategy)
    if finished := run.begin(task.config, task.start, task.generator.save_config):
        return finished
    return loop.fit(task, config.settings, model_dir, strategy, resume)


class GeneratorTask(Task):
    """Trains a generator."""

    def __init__(self, **parts: Any):
        self.__dict__.update(parts)


def make_task(config: GeneratorTraining, model_dir: str, strategy: tf.distribute.Strategy) -> GeneratorTask:
    """Makes the model and the task of a training, and writes nothing."""
    config = dataclasses.replace(config, copying=_copies(config))
    if not config.gpt2_dir:
        logging.info(
            "Random weights begin %s.",
            "with heads that copy" if config.copying else "without heads that copy (2 layers with 4 heads of 32 would)",
        )
    folder = TokenFolder(config.tokens_dir)
    for split in (splits.TRAIN, splits.DEV):
        if not folder.num_pairs(split):
            raise ValueError(
                f"{folder.path} has no {split} rows. Make it again, of more pairs or texts, or with another "
                "--dev_share: of data_pipeline.prepare for pairs, of train_gpt2.py for texts."
            )
    seed, packed = config.settings.seed, folder.rows == LANGUAGE_MODEL
    with strategy.scope():
        generator = start(config, folder)
    # A model that has them already keeps them: the record says what it has.
    sizes = generator.gpt2.config
    config = dataclasses.replace(config, pointer=sizes.pointer, pairs_apart=sizes.segment_token is not None)
    how = batches.BatchSettings(config.settings.batch_size, config.num_buckets, seed=seed)
    end_id = generator.tokenizer.end_id if packed else None
    evaluate = DevEvaluation(generator, read_rows(folder, splits.DEV), folder.rows, config.num_answers)
    start_of_run = {
        "tokens": folder.fingerprint(),
        "start": generator.fingerprint(),
        "dtype_policy": generator.gpt2.dtype_policy.name,  # what precision=auto has chosen
    }
    return GeneratorTask(
        config=config,
        generator=generator,
        start=start_of_run,
        modules=(generator.gpt2,),
        gradients=tasks.gradients(generator.gpt2, end_id, config.chunk_size, config.recompute, config.prompt_weight),
        batches=tasks.token_batches(folder, how),
        num_rows=folder.num_pairs(splits.TRAIN),
        count_tokens=lambda batch: batches.count_tokens(batch, tasks.PAD),
        evaluate=lambda: _evaluate(evaluate),
        best_metric="perplexity",
        lowest_is_best=True,
        save=lambda: generator.save_weights(model_dir),
        report=lambda history: _report(config, folder, generator, evaluate, model_dir, history),
    )


def start(config: GeneratorTraining, folder: TokenFolder) -> TrainedGenerator:
    """Returns the model before its first step; to a model that has not learned to answer, the markers are added."""
    tokenizer, seed = folder.tokenizer(), config.settings.seed
    dtype = dtype_policy(config.settings.precision)
    prompt = None if folder.rows == LANGUAGE_MODEL else PromptSettings(**folder.manifest["settings"]["prompt"])
    if prompt is None and (config.pointer or config.pairs_apart):
        raise ValueError(f"pointer and pairs_apart are for models that answer; {folder.path} is for language_model.")
    rates = {} if config.dropout is None else {"dropout": config.dropout, "attention_dropout": config.dropout}
    if config.gpt2_dir:
        generator = TrainedGenerator.load(config.gpt2_dir, dtype, seed, **rates)
        if prompt:
            generator = generator.with_markers(prompt, dtype, seed, config.pointer, config.pairs_apart)
        if generator.tokenizer.fingerprint != tokenizer.fingerprint:
            raise ValueError(
                f"{folder.path} was made with another vocabulary than that of {config.gpt2_dir}. Make it again with "
                "that one."
            )
    else:
        sizes = dataclasses.replace(config.random_gpt2, vocab_size=tokenizer.vocab_size, **rates)
        if prompt:
            sizes = answering(sizes, tokenizer, config.pointer, config.pairs_apart)
        generator = TrainedGenerator.make(sizes, tokenizer, seed, dtype, prompt)
        if _copies(config):
            # What texts begin with: documents, and prompts.
            start_copying(generator.gpt2, [tokenizer.end_id, *([tokenizer.added[prompts.QUESTION]] if prompt else [])])
    if folder.window() > generator.gpt2.config.max_positions:
        raise ValueError(
            f"{folder.path} was made for a window of {folder.window()} tokens; this model has "
            f"{generator.gpt2.config.max_positions} positions. Make it again with a smaller --window."
        )
    return generator


def _copies(config: GeneratorTraining) -> bool:
    """Returns whether training begins with heads that copy."""
    return config.copying and not config.gpt2_dir and can_copy(config.random_gpt2)


def _evaluate(evaluate: DevEvaluation) -> dict[str, float]:
    """Scores, and logs some of what was written."""
    found = evaluate()
    for sample in evaluate.samples[:_SHOWN]:
        logging.info("%s\n    -> %s", sample.prompt[-300:], sample.answer)
    return found


def _report(
    config: GeneratorTraining,
    folder: TokenFolder,
    generator: TrainedGenerator,
    evaluate: DevEvaluation,
    model_dir: str,
    history: dict[str, Any],
) -> None:
    """Writes the model card, about the epoch that was kept, beside what training started from."""
    before: list[Sample] = []
    if config.gpt2_dir and config.num_answers:
        first = DevEvaluation(start(config, folder), evaluate.rows, folder.rows, config.num_answers)
        before = first.write()
    if history["best"] != history["epochs"][-1]:
        weights = checkpoints.read_safetensors(model_dir, WEIGHTS_FILE)
        checkpoints.assign(generator.gpt2, weights, os.path.join(model_dir, WEIGHTS_FILE))
    report.write(model_dir, config, generator, folder, history, before, evaluate.write())
