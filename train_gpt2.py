"""Trains a generator: to answer from retrieved pairs or alone, to chat, or on plain text. Also triage, encoders.

    python train_gpt2.py --task=language_model --text=book.txt --tokens_dir=/tmp/windows --model_dir=/tmp/gpt2
    python train_gpt2.py --task=closed_book --prepared_dir=/tmp/prepared --tokens_dir=/tmp/pairs \
        --base_dir=/tmp/gpt2 --model_dir=/tmp/closed_book
    python -m docproduct.contexts ... --tokens_dir=/tmp/contexts
    python train_gpt2.py --task=context_answer --tokens_dir=/tmp/contexts --base_dir=/tmp/gpt2 --model_dir=/tmp/answers
    python train_gpt2.py --task=chat --prepared_dir=/tmp/dialogues --base_dir=/tmp/gpt2 --model_dir=/tmp/chat
    python train_gpt2.py --task=triage --prepared_dir=/tmp/departments --encoder_dir=ENCODER --model_dir=/tmp/triage
    python train_gpt2.py --task=multiple_choice --prepared_dir=/tmp/exam --base_dir=/tmp/gpt2 --model_dir=/tmp/chooser
    python train_gpt2.py --task=masked_language_model --text=book.txt --encoder_dir=ENCODER --model_dir=/tmp/encoder

The model to start from may be a GPT-2 in OpenAI's layout, a GPT-2, LLaMA, Mistral or Qwen in Hugging Face's, a GGUF
file, or one that was trained here. With --lora_rank an adapter is trained, and the model stays as it is. Without a
model, a small GPT-2 with random weights is trained, and language_model learns its vocabulary, too. The token folder is
written where it is not there yet. A triage model has a BERT encoder with a classifier, and a GPT-2 that attends to its
states. A multiple-choice model has a head that ranks the choices of a question. masked_language_model trains a BERT
encoder on unlabelled text. --engine=jax trains a causal language model that one device cannot hold. Ends with one line
of JSON: the metrics of the epoch that was kept.
"""

import dataclasses
import os
import sys
from typing import TYPE_CHECKING, Any

from docproduct.training import engine

engine.choose(sys.argv[1:])  # before anything imports Keras

from absl import app, flags, logging

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import CLOSED_BOOK, CONTEXT_ANSWER, LANGUAGE_MODEL, ROWS, TokenFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.settings import define_flags, descriptions, flag_values
from data_pipeline.token_rows.packing import write_windows
from data_pipeline.token_rows.pair_rows import FocusSample, write_closed_book
from docproduct.layers.lora import LoraSettings
from docproduct.systems import generator
from docproduct.systems.chat import flags as chat_flags
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.train import train
from docproduct.systems.masked_language_model import flags as masked_flags
from docproduct.systems.multiple_choice import flags as choice_flags
from docproduct.systems.triage import flags as triage_flags
from docproduct.training import devices, mesh, training_flags

if TYPE_CHECKING:
    import tensorflow as tf

_DEFAULTS = GeneratorTraining(tokens_dir="")
_SIZES = ("width", "num_layers", "num_heads")
_OWN = ("text", "dev_share", "window", "answer_tokens", "vocab_size")  # flags of this script, for generators only
_RANDOM_LEARNING_RATE = 1e-3
_WITH_JAX = (*ROWS, chat_flags.TASK)  # tasks of a causal language model alone
_MOST_TOKENS = 1024  # of a row by default: attention takes memory with the square of it


def _define_flags() -> None:
    flags.DEFINE_enum("task", CONTEXT_ANSWER, [*ROWS, *_TRAIN], "Task to train.")
    flags.DEFINE_list("text", [], "*language_model: files of plain text; <|endoftext|> on a line ends a document.")
    flags.DEFINE_string(
        "prepared_dir",
        None,
        "closed_book: pairs to train on; language_model: pairs to add as documents; triage: triage rows; "
        "multiple_choice: questions; chat: dialogues; masked_language_model: rows of any type.",
    )
    flags.DEFINE_float("dev_share", 0.05, "*language_model: share of the documents of --text for dev.")
    flags.DEFINE_integer("window", None, f"Tokens per row; default: the maximum of the model, at most {_MOST_TOKENS}.")
    flags.DEFINE_integer(
        "answer_tokens", PromptSettings.answer_tokens, "closed_book: tokens that a prompt leaves for the answer."
    )
    define_flags(FocusSample)
    sizes = _DEFAULTS.random_gpt2
    flags.DEFINE_integer("vocab_size", 8_192, "Without a model: size of the vocabulary that *language_model learns.")
    flags.DEFINE_integer("width", sizes.width, "Without --base_dir: width.")
    flags.DEFINE_integer("num_layers", sizes.num_layers, "Without --base_dir: layers.")
    flags.DEFINE_integer("num_heads", sizes.num_heads, "Without --base_dir: heads.")
    define_flags(GeneratorTraining, tokens_dir=None)
    define_flags(LoraSettings, names=chat_flags.LORA_NAMES)
    flags.DEFINE_alias("gpt2_dir", "base_dir")  # its former name
    rates = f"{_DEFAULTS.settings.learning_rate:g}, without --base_dir {_RANDOM_LEARNING_RATE:g}"
    training_flags.define(_DEFAULTS.settings, f"{rates}; small models take more than large ones")
    flags.DEFINE_enum(
        "engine",
        engine.TENSORFLOW,
        engine.ENGINES,
        f"What trains; jax: for {', '.join(_WITH_JAX)}, in parts on devices.",
    )
    flags.DEFINE_string(
        "mesh", None, "--engine=jax: devices to share the rows of a batch, and the weights: data=2,model=2."
    )
    triage_flags.define()
    masked_flags.define()
    choice_flags.define()
    chat_flags.define()


def _make_tokens(values: flags.FlagValues) -> TokenFolder:
    """Returns the token folder; writes it, if the task asks for it and it is not there.

    Raises:
      ValueError: what it is made of is missing, or --tokens_dir holds rows of another task.
    """
    base_dir = values.base_dir
    most = generator.window_of(base_dir) if base_dir else None
    window = values.window or (min(most, _MOST_TOKENS) if most else _DEFAULTS.random_gpt2.max_positions)
    if most and window > most:
        raise ValueError(f"window is {window}; expected at most {most}, the positions of {base_dir}.")
    prepared = PreparedFolder(values.prepared_dir) if values.prepared_dir else None
    if values.task == LANGUAGE_MODEL and (values.text or prepared or not os.path.exists(values.tokens_dir)):
        tokenizer = generator.tokenizer_of(base_dir) if base_dir else values.vocab_size
        write_windows(values.tokens_dir, values.text, prepared, tokenizer, window, values.dev_share, values.seed)
    elif values.task == CLOSED_BOOK and prepared:
        if not base_dir:
            raise ValueError("closed_book needs a tokenizer. Give --base_dir, perhaps of task language_model.")
        settings = PromptSettings(0, window, values.answer_tokens)
        sample = FocusSample(**flag_values(FocusSample))
        write_closed_book(values.tokens_dir, prepared, generator.tokenizer_of(base_dir), settings, sample, values.seed)
    folder = TokenFolder(values.tokens_dir)
    if folder.rows != values.task:
        raise ValueError(f"{folder.path} holds rows of task {folder.rows}; expected {values.task}.")
    if shortened := {what: count for what, count in folder.manifest["shortened"].items() if count}:
        logging.warning("In %s: %s.", folder.path, ", ".join(f"{name} {count}" for name, count in shortened.items()))
    return folder


def main(argv: list[str]) -> None:
    """Trains what the flags describe."""
    values = flags.FLAGS
    with training_flags.errors_on_one_line():
        if values.engine == engine.JAX and values.task not in _WITH_JAX:
            raise ValueError(f"--engine=jax trains {', '.join(_WITH_JAX)}, not {values.task}. Leave --engine out.")
        mesh.set_up(values.engine, values.mesh, values.strategy)
        strategy = training_flags.set_up(argv)
        history = _TRAIN.get(values.task, _train_generator)(strategy)
    training_flags.show(history)


def _train_generator(strategy: "tf.distribute.Strategy") -> dict[str, Any]:
    values = flags.FLAGS
    training_flags.check_task(but=_OF_SYSTEMS)
    if not values.tokens_dir:
        raise ValueError(f"--tokens_dir is missing: the token folder that --task={values.task} trains on.")
    return train(_config(strategy), values.model_dir, values.resume, values.overwrite, strategy)


def _train_triage(strategy: "tf.distribute.Strategy") -> dict[str, Any]:
    # Here, as other tasks need no scikit-learn.
    from docproduct.systems.triage import grid
    from docproduct.systems.triage.train import train as train_triage

    values = flags.FLAGS
    training_flags.check_task(but=(_of_generator() | _OF_SYSTEMS) - set(triage_flags.names()))
    config = triage_flags.config()
    if values.grid:
        if values.overwrite:
            raise ValueError("--grid goes on where it stopped. Give another --model_dir instead of --overwrite.")
        return grid.search(config, grid.parse(values.grid), values.model_dir, strategy)
    return train_triage(config, values.model_dir, values.resume, values.overwrite, strategy)


def _train_masked(strategy: "tf.distribute.Strategy") -> dict[str, Any]:
    from docproduct.systems.masked_language_model.train import train as train_masked

    values = flags.FLAGS
    training_flags.check_task(but=(_of_generator() | _OF_SYSTEMS) - masked_flags.names())
    return train_masked(masked_flags.config(), values.model_dir, values.resume, values.overwrite, strategy)


def _train_choices(strategy: "tf.distribute.Strategy") -> dict[str, Any]:
    from docproduct.systems.multiple_choice.train import train as train_chooser

    values = flags.FLAGS
    training_flags.check_task(but=(_of_generator() | _OF_SYSTEMS) - choice_flags.names())
    return train_chooser(choice_flags.config(), values.model_dir, values.resume, values.overwrite, strategy)


def _train_chat(strategy: "tf.distribute.Strategy") -> dict[str, Any]:
    from docproduct.systems.chat.train import train as train_chat

    values = flags.FLAGS
    training_flags.check_task(but=(_of_generator() | _OF_SYSTEMS) - chat_flags.names())
    return train_chat(chat_flags.config(), values.model_dir, values.resume, values.overwrite, strategy)


def _of_generator() -> set[str]:
    """Returns the names of the generators' own flags."""
    return {*descriptions(GeneratorTraining), *chat_flags.LORA_NAMES.values(), *descriptions(FocusSample), *_OWN}


_TRAIN = {
    triage_flags.TASK: _train_triage,
    masked_flags.TASK: _train_masked,
    choice_flags.TASK: _train_choices,
    chat_flags.TASK: _train_chat,
}
_OF_SYSTEMS = {*triage_flags.OWN, *masked_flags.OWN, *choice_flags.OWN, *chat_flags.OWN}


def _config(strategy: "tf.distribute.Strategy") -> GeneratorTraining:
    values = flags.FLAGS
    rate = _DEFAULTS.settings.learning_rate if values.base_dir else _RANDOM_LEARNING_RATE
    # Of several workers one writes the token folder, and all read it.
    folder = _make_tokens(values) if devices.is_chief(strategy) else None
    devices.wait_for_all(strategy, 0)
    folder = folder or TokenFolder(values.tokens_dir)
    sizes = {name: values[name].value for name in _SIZES} | {"max_positions": folder.window()}
    return GeneratorTraining(
        **flag_values(GeneratorTraining),
        random_gpt2=dataclasses.replace(_DEFAULTS.random_gpt2, **sizes),
        lora=LoraSettings(**flag_values(LoraSettings, names=chat_flags.LORA_NAMES)),
        settings=training_flags.settings(rate),
    )


if __name__ == "__main__":
    _define_flags()
    app.run(main)
