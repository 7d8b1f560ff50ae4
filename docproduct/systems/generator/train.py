"""Training of the generator on a token folder: retrieved pairs, pairs alone, or plain text."""

import dataclasses
import os
from typing import Any

import tensorflow as tf
from absl import logging

from data_pipeline import batches, prompts, splits
from data_pipeline.prompts import PromptSettings
from data_pipeline.token_folder import LANGUAGE_MODEL, TokenFolder
from docproduct import devices, run_folder, training
from docproduct.layers import checkpoints
from docproduct.layers.copying import can_copy, start_copying
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import report
from docproduct.systems.generator import task as tasks
from docproduct.systems.generator.dev import DevEvaluation, Sample, read_rows
from docproduct.systems.generator.folder import KIND, WEIGHTS_FILE, TrainedGenerator, answering

_SHOWN = 2  # answers in the log, each epoch


@dataclasses.dataclass(frozen=True)
class GeneratorTraining:
    """What to train, from what, on what.

    Attributes:
      tokens_dir: the token folder; it decides the task.
      gpt2_dir: the model to start from, in OpenAI's, Hugging Face's or our layout; None: random weights.
      random_gpt2: sizes of the model with random weights; the token folder's tokenizer decides vocab_size.
      copying: whether random weights begin with heads that copy; of a model too small for them (see
        layers/copying.py) they do not, nor does gpt2_dir.
      dropout: rate on states, embeddings and attention; None: what gpt2_dir says.
      chunk_size: rows whose activations are in memory at once, of a batch whose gradients are added up; 0: all.
      recompute: gradient checkpointing: the memory of one layer, and a third more time.
      prompt_weight: what a token of a prompt counts in the loss, 0 to 1; one of an answer counts 1.
      pointer: whether a model that learns to answer gets a pointer, which copies from prompts; see layers/pointer.py.
      pairs_apart: whether such a model reads each pair of a prompt by itself, and the pointer alone looks at the
        others: for small models, which a long prompt distracts.
      num_buckets: classes of like length that batches are drawn from; 1: of any length.
      num_answers: dev questions that are answered after every epoch, for ROUGE-L.
      settings: the loop's.
    """

    tokens_dir: str
    gpt2_dir: str | None = None
    random_gpt2: GPT2Config = GPT2Config(width=256, num_layers=6, num_heads=4, max_positions=512)
    copying: bool = True
    dropout: float | None = None
    chunk_size: int = 0
    recompute: bool = False
    prompt_weight: float = 0.0
    pointer: bool = False
    pairs_apart: bool = False
    num_buckets: int = 16
    num_answers: int = 16
    settings: training.TrainingSettings = training.TrainingSettings(batch_size=16)

    def __post_init__(self) -> None:
        """Raises a ValueError for settings out of range."""
        if not 0 <= self.chunk_size <= self.settings.batch_size:
            raise ValueError(
                f"chunk_size is {self.chunk_size}; expected 0 to {self.settings.batch_size}, the batch size."
            )
        if self.num_answers < 0:
            raise ValueError(f"num_answers is {self.num_answers}; expected 0 or more.")
        if not 0 <= self.prompt_weight <= 1:
            raise ValueError(f"prompt_weight is {self.prompt_weight}; expected 0 to 1.")
        if not 0 <= (self.dropout or 0) < 1:
            raise ValueError(f"dropout is {self.dropout}; expected 0 or more, and less than 1.")


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
      What metrics.json holds, see `training.fit`.

    Raises:
      ValueError: the token folder is unfinished, empty, or was made with another tokenizer, or for a larger window.
      FileExistsError: `model_dir` is there, and neither `resume` nor `overwrite` is on.
    """
    strategy = strategy or tf.distribute.get_strategy()
    inputs = (config.tokens_dir, config.gpt2_dir)
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


def make_run(config: GeneratorTraining, model_dir: str, strategy: tf.distribute.Strategy) -> run_folder.Run:
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
    task = training.Task(
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
    record = {
        "training": dataclasses.asdict(config),
        "tokens": folder.fingerprint(),
        "start": generator.fingerprint(),
        "dtype_policy": generator.gpt2.dtype_policy.name,  # what precision=auto has chosen
    }
    return run_folder.Run(task, record, lambda path: generator.save_config(path, record))


def start(config: GeneratorTraining, folder: TokenFolder) -> TrainedGenerator:
    """Returns the model before its first step; to a model that has not learned to answer, the markers are added."""
    tokenizer, seed = folder.tokenizer(), config.settings.seed
    dtype = devices.dtype_policy(config.settings.precision)
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
