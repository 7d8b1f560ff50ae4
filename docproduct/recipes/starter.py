"""A starter generator: the best small GPT-2 that a few hours of two cores give, from nothing but your own texts.

    python -m docproduct.recipes.starter --prepared_dir=prepared --model_dir=model --index_dir=index --text=more.txt \
        --starter_dir=starter
    python serve.py --model_dir=model --index_dir=index --generator_dir=starter/saved_model --port=8080

It learns a vocabulary of 8,192 byte pairs and the language of pairs and texts (--task=language_model), then to answer
(docproduct.contexts, --task=context_answer), and is exported. A run that was killed goes on with the same command. The
model has 7.0 million weights. Ends with one line of JSON: the metrics of the epoch that was kept.
"""

import dataclasses
import json
import os
from typing import Any

from absl import app, flags

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.token_rows.packing import write_windows
from data_pipeline.tokenizers import BytePairs
from docproduct import command, contexts
from docproduct.exports import saved_models
from docproduct.generation.export import export as export_generator
from docproduct.index import Index
from docproduct.layers import int8
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems import generator
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.train import train
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.settings import TrainingSettings

# Every question is learned alone, and a quarter of them with retrieved pairs, too.
CONTEXTS = contexts.ContextSettings(context_share=0.25, alone=True)


@dataclasses.dataclass(frozen=True)
class StarterSettings:
    """The model of a starter, and its two trainings.

    Attributes:
      language: How it learns the language of pairs and texts.
      answers: How it learns to answer.
      sizes: The model's sizes.
      vocab_size: Ids of the tokenizer that is learned.
      prompt: How prompts are made.
    """

    language: TrainingSettings = TrainingSettings(
        epochs=3, batch_size=2, learning_rate=1e-3, weight_decay=0.1, warmup_share=0.05, checkpoint_steps=480
    )
    # Small batches and many steps: on a quarter of MedQuAD's questions, each with contexts, 4 rows at 1e-3 reached a
    # dev perplexity of 17.6, and 8 rows at 5e-4 reached 18.9 (commit f4ada53).
    answers: TrainingSettings = TrainingSettings(epochs=1, batch_size=4, learning_rate=1e-3, checkpoint_steps=480)
    sizes: GPT2Config = GPT2Config(
        width=256, num_layers=6, num_heads=4, max_positions=512, dropout=0.0, attention_dropout=0.0
    )
    vocab_size: int = 8_192
    prompt: PromptSettings = PromptSettings(num_contexts=2, window=512, answer_tokens=128)


def make(
    prepared: PreparedFolder,
    retriever: TrainedRetriever,
    index: Index,
    text_files: list[str],
    folder: str,
    settings: StarterSettings = StarterSettings(),
) -> dict[str, Any]:
    """Trains and exports a starter generator. What an earlier run finished is used again.

    Args:
      prepared: The pairs to learn from.
      retriever: Finds the pairs for prompts.
      index: The index of the same pairs.
      text_files: More texts to read; see `packing.read_documents`.
      folder: Where windows, language_model, contexts, answers and saved_model are written.
      settings: The model and its trainings.

    Returns:
      The metrics of the epoch that was kept.
    """
    windows, language_model, rows, model, exported = (
        os.path.join(folder, name) for name in ("windows", "language_model", "contexts", "answers", "saved_model")
    )
    window, seed = settings.sizes.max_positions, settings.language.seed
    write_windows(windows, text_files, prepared, settings.vocab_size, window, seed=seed)
    config = GeneratorTraining(windows, random_gpt2=settings.sizes, dropout=0.0, settings=settings.language)
    train(config, language_model, resume=True)
    tokenizer = BytePairs.load(language_model)
    contexts.make(retriever, index, prepared, tokenizer, dataclasses.replace(CONTEXTS, prompt=settings.prompt), rows)
    config = GeneratorTraining(rows, base_dir=language_model, dropout=0.0, prompt_weight=1.0, settings=settings.answers)
    history = train(config, model, resume=True)
    if not saved_models.versions(exported):
        precision = "int8" if int8.available() else "float32"
        export_generator(generator.TrainedGenerator.load(model), exported, precision)
    return history["best"]


def main(argv: list[str]) -> None:
    """Makes what the flags describe."""
    values = command.begin(argv)
    defaults = StarterSettings()
    settings = StarterSettings(
        dataclasses.replace(defaults.language, epochs=values.language_epochs),
        dataclasses.replace(defaults.answers, epochs=values.answer_epochs),
    )
    with command.errors_on_one_line("the same command goes on."):
        retriever = TrainedRetriever.load_for_many(values.model_dir)
        best = make(
            PreparedFolder(values.prepared_dir),
            retriever,
            Index(values.index_dir, retriever),
            values.text,
            values.starter_dir,
            settings,
        )
    print(json.dumps({"generator_dir": os.path.join(values.starter_dir, "saved_model"), **best}))


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Prepared folder with the pairs.", required=True)
    flags.DEFINE_string("model_dir", None, "Retriever that was trained on them.", required=True)
    flags.DEFINE_string("index_dir", None, "Index of these pairs.", required=True)
    flags.DEFINE_string("starter_dir", None, "Folder to write; a killed run goes on there.", required=True)
    flags.DEFINE_list("text", [], "Files of plain text to read, too; <|endoftext|> on a line ends a document.")
    flags.DEFINE_integer("language_epochs", StarterSettings.language.epochs, "Epochs over pairs and texts.")
    flags.DEFINE_integer("answer_epochs", StarterSettings.answers.epochs, "Epochs over the questions.")
    app.run(main)
