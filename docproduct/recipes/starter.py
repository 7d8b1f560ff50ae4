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
import sys
from typing import Any

from absl import app, flags, logging

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.token_rows.packing import write_windows
from data_pipeline.tokenizers import BytePairs
from docproduct import contexts
from docproduct.exports import saved_models
from docproduct.generation.export import export as export_generator
from docproduct.index import Index
from docproduct.layers import int8
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems import generator
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.train import train
from docproduct.systems.retriever import TrainedRetriever
from docproduct.training.devices import set_up
from docproduct.training.settings import TrainingSettings

VOCABULARY = 8_192
SIZES = GPT2Config(width=256, num_layers=6, num_heads=4, max_positions=512, dropout=0.0, attention_dropout=0.0)
PROMPT = PromptSettings(num_contexts=2, window=512, answer_tokens=128)
# Every question is learned alone, and a quarter of them with retrieved pairs, too.
CONTEXTS = contexts.ContextSettings(context_share=0.25, alone=True)
# Small batches, many steps: of a quarter of MedQuAD's questions, each with contexts, 4 rows at 1e-3 reached a dev
# perplexity of 17.6, 8 at 5e-4 18.9 (commit f4ada53).
LANGUAGE = TrainingSettings(
    epochs=3, batch_size=2, learning_rate=1e-3, weight_decay=0.1, warmup_share=0.05, checkpoint_steps=480
)
ANSWERS = TrainingSettings(epochs=1, batch_size=4, learning_rate=1e-3, checkpoint_steps=480)


def make(
    prepared: PreparedFolder,
    retriever: TrainedRetriever,
    index: Index,
    text_files: list[str],
    folder: str,
    language: TrainingSettings = LANGUAGE,
    answers: TrainingSettings = ANSWERS,
    sizes: GPT2Config = SIZES,
    vocabulary: int = VOCABULARY,
    prompt: PromptSettings = PROMPT,
) -> dict[str, Any]:
    """Trains and exports a starter generator, as far as that is not done.

    Args:
      prepared: the pairs.
      retriever: finds what stands in its prompts.
      index: of the same pairs.
      text_files: more to read, see `packing.read_documents`.
      folder: what is made: windows, language_model, contexts, answers, saved_model.
      language: how the language is learned.
      answers: how answering is learned.
      sizes: of the model.
      vocabulary: ids of its tokenizer.
      prompt: how its prompts are made.

    Returns:
      The metrics of the epoch that was kept.
    """
    windows, language_model, rows, model, exported = (
        os.path.join(folder, name) for name in ("windows", "language_model", "contexts", "answers", "saved_model")
    )
    write_windows(windows, text_files, prepared, vocabulary, sizes.max_positions, seed=language.seed)
    config = GeneratorTraining(windows, random_gpt2=sizes, dropout=0.0, settings=language)
    train(config, language_model, resume=True)
    tokenizer = BytePairs.load(language_model)
    settings = dataclasses.replace(CONTEXTS, prompt=prompt)
    contexts.make(retriever, index, prepared, tokenizer, settings, rows)
    config = GeneratorTraining(
        rows,
        gpt2_dir=language_model,
        dropout=0.0,
        prompt_weight=1.0,
        settings=answers,
    )
    history = train(config, model, resume=True)
    if not saved_models.versions(exported):
        precision = "int8" if int8.available() else "float32"
        export_generator(generator.TrainedGenerator.load(model), exported, precision)
    return history["best"]


def main(argv: list[str]) -> None:
    """Makes what the flags describe."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    logging.set_verbosity(logging.INFO)
    values = flags.FLAGS
    set_up()
    try:
        retriever = TrainedRetriever.load_for_many(values.model_dir)
        best = make(
            PreparedFolder(values.prepared_dir),
            retriever,
            Index(values.index_dir, retriever),
            values.text,
            values.starter_dir,
            dataclasses.replace(LANGUAGE, epochs=values.language_epochs),
            dataclasses.replace(ANSWERS, epochs=values.answer_epochs),
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: the same command goes on.")
    print(json.dumps({"generator_dir": os.path.join(values.starter_dir, "saved_model"), **best}))


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "The pairs.", required=True)
    flags.DEFINE_string("model_dir", None, "The retriever that was trained on them.", required=True)
    flags.DEFINE_string("index_dir", None, "Its index of them.", required=True)
    flags.DEFINE_string("starter_dir", None, "Where all of it is kept.", required=True)
    flags.DEFINE_list("text", [], "Files of plain text to read, too; <|endoftext|> on a line ends a document.")
    flags.DEFINE_integer("language_epochs", LANGUAGE.epochs, "Passes over pairs and texts.")
    flags.DEFINE_integer("answer_epochs", ANSWERS.epochs, "Passes over the questions.")
    app.run(main)
