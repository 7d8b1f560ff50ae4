"""The model card of a generator, README.md in its folder: scores, settings, data, limits and samples."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.token_folder import LANGUAGE_MODEL, TokenFolder
from docproduct.systems.generator.dev import Sample
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.training import cards
from docproduct.training.loop import CURVE_FILE

_NAMES = {"gpt2": "GPT-2", "llama": "LLaMA-style decoder"}
_SHOWN = 8  # samples
_PROMPT = 400  # characters of a prompt's end


def write(
    model_dir: str,
    config: Any,
    generator: TrainedGenerator,
    folder: TokenFolder,
    history: dict[str, Any],
    before: Sequence[Sample],
    after: Sequence[Sample],
) -> None:
    """Writes the model card.

    Args:
      model_dir: the model folder.
      config: the GeneratorTraining.
      generator: the model whose weights were kept.
      folder: the rows that it was trained on.
      history: the content of metrics.json, see `loop.fit`.
      before: answers of the model that training started from; none if its weights were random.
      after: answers of the generator to the same questions.
    """
    name = os.path.basename(os.path.abspath(model_dir))
    what = "writes on from a text" if folder.rows == LANGUAGE_MODEL else "writes an answer to a question"
    sections = [
        f"# {name}\n\nA generator made by docproduct: a {_NAMES[generator.decoder.config.architecture]} that {what} "
        f"(`--task={folder.rows}`). "
        "**Research software: nothing it writes is medical advice, and what it writes may be wrong.**",
        f"## Scores on dev\n\n{_scores(history, folder)}\n\n![learning curve]({CURVE_FILE})",
    ]
    if after:
        sections.append(f"## Answers to dev questions\n\n{samples(before, after)}")
    counts = "\n".join(
        f"* {split}: {entry['rows']:,} rows, {entry['prompt_tokens']:,} tokens of prompts, "
        f"{entry['target_tokens']:,} of targets"
        for split, entry in folder.manifest["counts"].items()
    )
    sections += [
        f"## Data\n\n{counts}",
        f"## Settings\n\n{cards.settings(dataclasses.asdict(config), dataclasses.asdict(generator.decoder.config))}\n\n"
        "All of them, versions and git commit are in `config.json`.",
        "## Limits\n\nIt writes what is likely, which need not be true, and does not know what it does not know. It "
        "was trained on the data above and is weaker on other topics and in other languages.",
    ]
    files.write_text(os.path.join(model_dir, cards.FILE), "\n\n".join(sections) + "\n")


def _scores(history: dict[str, Any], folder: TokenFolder) -> str:
    rows = folder.num_rows(splits.DEV)
    return (
        f"{rows:,} dev rows; epoch 0 is the model that training started from. Perplexity is per token; byte_perplexity "
        "is per byte of text, which models with other vocabularies can be compared by. ROUGE-L is of greedy answers "
        f"to some dev questions.\n\n{cards.epochs(history)}"
    )


def samples(before: Sequence[Sample], after: Sequence[Sample]) -> str:
    """Returns a table of right answers and those of two models, of some samples; `before` may be empty."""
    shown = range(0, len(after), max(1, len(after) // _SHOWN))
    rows = [
        [
            cards.line(after[i].prompt[-_PROMPT:], _PROMPT),
            cards.line(after[i].reference),
            *([cards.line(before[i].answer)] if before else []),
            cards.line(after[i].answer),
        ]
        for i in list(shown)[:_SHOWN]
    ]
    header = ["prompt (its end)", "right answer", *(["before training"] if before else []), "this model"]
    return cards.table(header, rows)
