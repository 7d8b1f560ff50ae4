"""Trains the generator, a GPT-2: to answer from retrieved pairs, to answer alone, or on plain text.

    python train_gpt2.py --task=language_model --text=book.txt --tokens_dir=/tmp/windows --model_dir=/tmp/gpt2
    python train_gpt2.py --task=closed_book --prepared_dir=/tmp/prepared --tokens_dir=/tmp/pairs \
        --gpt2_dir=/tmp/gpt2 --model_dir=/tmp/closed_book
    python -m docproduct.contexts ... --tokens_dir=/tmp/contexts
    python train_gpt2.py --task=context_answer --tokens_dir=/tmp/contexts --gpt2_dir=/tmp/gpt2 --model_dir=/tmp/answers

The model to start from may be in OpenAI's or Hugging Face's layout, or one that was trained here; without one, a small
GPT-2 with random weights is trained, and language_model learns its vocabulary, too. The token folder is written where
it is not there yet. Ends with one line of JSON: the metrics of the epoch that was kept.
"""

import dataclasses
import json
import os
import sys

from absl import app, flags, logging

from data_pipeline.packing import write_windows
from data_pipeline.pair_rows import FocusSample, write_closed_book
from data_pipeline.prepared import PreparedFolder
from data_pipeline.prompts import PromptSettings
from data_pipeline.token_folder import CLOSED_BOOK, CONTEXT_ANSWER, LANGUAGE_MODEL, ROWS, TokenFolder
from docproduct import devices, training
from docproduct.systems import generator

_DEFAULTS = generator.GeneratorTraining(tokens_dir="")
_SETTINGS = dataclasses.fields(training.TrainingSettings)
_HELP = {
    "epochs": "Passes over the training rows.",
    "batch_size": "Rows in a step.",
    "learning_rate": "Its peak.",
    "warmup_share": "Share of the steps in which the learning rate rises.",
    "weight_decay": "AdamW's weight decay.",
    "clip_norm": "Largest global norm of the gradients.",
    "checkpoint_steps": "Steps between two checkpoints.",
    "seed": "Of weights, dropout, order and samples.",
}
_TRAINING_FLAGS = ("gpt2_dir", "dropout", "chunk_size", "recompute", "num_buckets", "num_answers")
_SIZES = ("width", "num_layers", "num_heads")


def _define_flags() -> None:
    flags.DEFINE_enum("task", CONTEXT_ANSWER, ROWS, "What is learned.")
    flags.DEFINE_string("tokens_dir", None, "Token folder: of docproduct.contexts, else written here.", required=True)
    flags.DEFINE_string("model_dir", None, "The model folder to write.", required=True)
    flags.DEFINE_string("gpt2_dir", None, "GPT-2 to start from; none: a small one with random weights.")
    flags.DEFINE_bool("resume", False, "Continue the interrupted run in model_dir.")
    flags.DEFINE_bool("overwrite", False, "Replace model_dir.")
    flags.DEFINE_list("text", [], "language_model: files of plain text; <|endoftext|> on a line ends a document.")
    flags.DEFINE_string("prepared_dir", None, "closed_book: its pairs; language_model: they are documents, too.")
    flags.DEFINE_float("dev_share", 0.05, "language_model: share of the documents of --text for dev.")
    flags.DEFINE_integer("window", None, "Tokens of a row; default: what the model takes.")
    flags.DEFINE_integer("answer_tokens", PromptSettings.answer_tokens, "closed_book: room that a prompt leaves.")
    sample = FocusSample()
    flags.DEFINE_integer("top_foci", sample.top_foci, "closed_book: only the foci with most pairs; 0: all pairs.")
    flags.DEFINE_integer("train_per_focus", sample.train_per_focus, "With --top_foci: pairs of each to train on.")
    flags.DEFINE_integer("dev_per_focus", sample.dev_per_focus, "With --top_foci: pairs of each for dev.")
    sizes = _DEFAULTS.random_gpt2
    flags.DEFINE_integer("vocab_size", 8_192, "Without --gpt2_dir: ids that language_model's tokenizer learns.")
    flags.DEFINE_integer("width", sizes.width, "Without --gpt2_dir: width.")
    flags.DEFINE_integer("num_layers", sizes.num_layers, "Without --gpt2_dir: layers.")
    flags.DEFINE_integer("num_heads", sizes.num_heads, "Without --gpt2_dir: heads.")
    flags.DEFINE_float("dropout", None, "Default: what the model's folder says.")
    flags.DEFINE_integer("chunk_size", _DEFAULTS.chunk_size, "Rows read at once, gradients added up; 0: the batch.")
    flags.DEFINE_bool("recompute", _DEFAULTS.recompute, "Gradient checkpointing: less memory, a third more time.")
    flags.DEFINE_integer("num_buckets", _DEFAULTS.num_buckets, "Classes of like length for batches; 1: any length.")
    flags.DEFINE_integer("num_answers", _DEFAULTS.num_answers, "Dev questions answered each epoch, for ROUGE-L.")
    flags.DEFINE_enum(
        "strategy", "default", devices.STRATEGIES, "One device, all GPUs (mirrored), or TF_CONFIG's workers."
    )
    flags.DEFINE_string("tensorboard_dir", None, "Where to write curves for TensorBoard (extra tensorboard).")
    flags.DEFINE_enum("keep", _DEFAULTS.settings.keep, training.KEPT, "Which epoch: the best on dev, or the last.")
    flags.DEFINE_bool("deterministic", False, "Repeatable ops, which may be slower.")
    flags.DEFINE_enum("precision", _DEFAULTS.settings.precision, devices.PRECISIONS, "auto: bfloat16 where it is fast.")
    define = {int: flags.DEFINE_integer, float: flags.DEFINE_float}
    for field in (field for field in _SETTINGS if field.name in _HELP):
        define[type(field.default)](field.name, getattr(_DEFAULTS.settings, field.name), _HELP[field.name])


def _make_tokens(values: flags.FlagValues) -> int:
    """Writes the token folder, if the task asks for it and it is not there; returns the model's window.

    Raises:
      ValueError: what it is made of is missing, or --tokens_dir holds rows of another task.
    """
    start = generator.TrainedGenerator.load(values.gpt2_dir) if values.gpt2_dir else None
    window = values.window or (start.gpt2.config if start else _DEFAULTS.random_gpt2).max_positions
    prepared = PreparedFolder(values.prepared_dir) if values.prepared_dir else None
    if values.task == LANGUAGE_MODEL:
        tokenizer = start.tokenizer if start else values.vocab_size
        write_windows(values.tokens_dir, values.text, prepared, tokenizer, window, values.dev_share, values.seed)
    elif values.task == CLOSED_BOOK and prepared:
        if not start:
            raise ValueError("closed_book needs a tokenizer. Give --gpt2_dir, perhaps of task language_model.")
        settings = PromptSettings(0, window, values.answer_tokens)
        sample = FocusSample(values.top_foci, values.train_per_focus, values.dev_per_focus)
        write_closed_book(values.tokens_dir, prepared, start.tokenizer, settings, sample, values.seed)
    folder = TokenFolder(values.tokens_dir)
    if folder.rows != values.task:
        raise ValueError(f"{folder.path} holds rows of task {folder.rows}; expected {values.task}.")
    if shortened := {what: count for what, count in folder.manifest["shortened"].items() if count}:
        logging.warning("In %s: %s.", folder.path, ", ".join(f"{name} {count}" for name, count in shortened.items()))
    return window


def main(argv: list[str]) -> None:
    """Trains what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    values = flags.FLAGS
    try:
        training.set_up(values.seed, values.deterministic)
        strategy = devices.make_strategy(values.strategy)
        window = _make_tokens(values)
        sizes = {name: values[name].value for name in _SIZES} | {"max_positions": window}
        config = generator.GeneratorTraining(
            tokens_dir=values.tokens_dir,
            random_gpt2=dataclasses.replace(_DEFAULTS.random_gpt2, **sizes),
            **{name: values[name].value for name in _TRAINING_FLAGS},
            settings=training.TrainingSettings(**{field.name: values[field.name].value for field in _SETTINGS}),
        )
        history = generator.train(config, values.model_dir, values.resume, values.overwrite, strategy)
    except (ValueError, OSError, devices.WorkerLostError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        there = os.path.exists(os.path.join(values.model_dir, training.CHECKPOINT_FILE))
        sys.exit(
            "interrupted: go on with the same flags and --resume in place of --overwrite. "
            f"{values.model_dir} has {'a checkpoint' if there else 'no checkpoint yet, so that it begins anew'}."
        )
    print(json.dumps({"model_dir": values.model_dir, **history["best"]}))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
