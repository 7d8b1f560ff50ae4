"""The model card of a multiple-choice model, README.md in its folder: scores, baselines, data, settings and limits."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.multiple_choice import baselines
from docproduct.systems.multiple_choice.config import ChoiceTraining
from docproduct.systems.multiple_choice.folder import TrainedChooser
from docproduct.systems.multiple_choice.questions import Asked
from docproduct.training import cards
from docproduct.training.loop import CURVE_FILE

METRICS = ("accuracy", "exact_match_several", "exact_match", "hamming")


def write(
    model_dir: str,
    config: ChoiceTraining,
    chooser: TrainedChooser,
    prepared: PreparedFolder,
    history: dict[str, Any],
    train: Sequence[Asked],
    dev: Sequence[Asked],
) -> None:
    """Writes the model card.

    Args:
      model_dir: the model folder.
      config: what was trained.
      chooser: the trained model.
      prepared: the questions.
      history: the content of metrics.json, see `loop.fit`.
      train: the questions that it was trained on.
      dev: those that it was scored on.
    """
    name = os.path.basename(os.path.abspath(model_dir))
    rows = baselines.evaluate(train, dev) | {"this model": history["best"]}
    sections = [
        f"# {name}\n\nA multiple-choice model made by docproduct: a causal language model with a head that scores each "
        "choice behind its question (`--task=multiple_choice`). **Research software: what it chooses is not medical "
        "advice.**",
        f"## Scores on dev\n\nWith standard errors.\n\n{table(rows)}\n\nEpoch 0 is the untrained head.\n\n"
        f"{cards.epochs(_without_errors(history))}\n\n![learning curve]({CURVE_FILE})",
        f"## Data\n\n{cards.inputs(prepared)}",
        f"## Settings\n\n{cards.settings(dataclasses.asdict(config), {})}\n\nWhere several choices may be right, those "
        f"with a probability of {chooser.threshold:.3f} or more are chosen. All settings, versions and git commit are "
        "in `config.json`.",
        "## Limits\n\nIt chooses among what it is given, also where nothing is right.",
    ]
    files.write_text(os.path.join(model_dir, cards.FILE), "\n\n".join(sections) + "\n")


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """Returns a Markdown table of metrics with their standard errors."""
    names = [name for name in METRICS if any(name in row for row in rows.values())]
    lines = [[title, *(cell(row, name) for name in names)] for title, row in rows.items()]
    return cards.table(["", *(name.replace("_", " ") for name in names)], lines)


def cell(row: Mapping[str, float], name: str) -> str:
    """Returns a metric with its standard error, which chance has none of; empty for a metric that is missing."""
    if name not in row:
        return ""
    error = row.get(f"{name}_stderr")
    return f"{row[name]:.3f}" if error is None else f"{row[name]:.3f} ± {error:.3f}"


def _without_errors(history: dict[str, Any]) -> dict[str, Any]:
    epochs = [{name: value for name, value in entry.items() if "stderr" not in name} for entry in history["epochs"]]
    return history | {"epochs": epochs}
