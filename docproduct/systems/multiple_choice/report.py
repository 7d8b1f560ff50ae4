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
from docproduct.systems.multiple_choice.metrics import metrics
from docproduct.systems.multiple_choice.questions import Asked
from docproduct.training import cards
from docproduct.training.loop import CURVE_FILE

METRICS = ("accuracy", "exact_match_several", "exact_match", "hamming")
_ERRORS = ("ece", "ece_several")
_MOST_GROUPS = 20


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
    rows = {name: metrics(chosen, dev) for name, chosen in baselines.answers(train, dev).items()}
    rows = {"chance": {"accuracy": baselines.chance(dev)}} | rows | {"this model": history["best"]}
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
    names = _metrics(rows)
    lines = [[title, *(cell(row, name) for name in names)] for title, row in rows.items()]
    return cards.table(["", *(name.replace("_", " ") for name in names)], lines)


def _metrics(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [name for name in METRICS if any(name in row for row in rows.values())]


def cell(row: Mapping[str, float], name: str) -> str:
    """Returns a metric with its standard error, which chance has none of; empty for a metric that is missing."""
    if name not in row:
        return ""
    error = row.get(f"{name}_stderr")
    return f"{row[name]:.3f}" if error is None else f"{row[name]:.3f} ± {error:.3f}"


def results(result: Mapping[str, Any]) -> str:
    """Returns the content of `evaluation.evaluate` as Markdown tables, with 95 % bootstrap intervals."""
    systems = result["systems"]
    above = {name: _interval(value) for name, value in result["above"]["differences"].items()}
    lines = [
        [name, *(_interval_of(row, metric) for metric in _metrics(systems)), above.get(name, "")]
        for name, row in systems.items()
    ]
    titles = [*(name.replace("_", " ") for name in _metrics(systems)), f"above {result['above']['system']}"]
    if result["chance"]:
        lines.insert(0, ["chance", f"{result['chance']:.3f}", *[""] * (len(titles) - 1)])
    parts = [f"{result['questions']:,} questions", cards.table(["", *titles], lines)]
    parts += [_groups(name[:-1], result[name]) for name in ("kinds", "subjects") if result[name]]
    if calibrated := {name: row for name, row in systems.items() if "ece" in row or "ece_several" in row}:
        errors = [(f"{row[key]:.3f}" if key in row else "" for key in _ERRORS) for row in calibrated.values()]
        lines = [[name, *cells] for name, cells in zip(calibrated, errors, strict=True)]
        parts.append(cards.table(["calibration error", "one answer", "several answers"], lines))
    if bias := result.get("order_bias"):
        lines = [[name, f"{row['changed']:.3f}", f"{row['largest_difference']:.1e}"] for name, row in bias.items()]
        parts.append(cards.table(["choices rotated", "another choice", "largest difference"], lines))
    return "\n\n".join(parts)


def _groups(title: str, groups: Mapping[str, Any]) -> str:
    """Returns a table of the exact match by group, of the largest ones."""
    shown = list(groups.items())[:_MOST_GROUPS]
    header = [f"{title}: exact match", "questions", *shown[0][1]["systems"]]
    lines = [
        [name or "(none)", f"{group['questions']:,}", *map(_interval, group["systems"].values())]
        for name, group in shown
    ]
    left = len(groups) - len(shown)
    return cards.table(header, lines) + (f"\n\n{left} smaller groups are in the JSON." if left else "")


def _interval(value: Mapping[str, Any]) -> str:
    low, high = value["interval"]
    return f"{value['exact_match']:.3f} [{low:.3f}, {high:.3f}]"


def _interval_of(row: Mapping[str, Any], name: str) -> str:
    return _interval({"exact_match": row[name], "interval": row[f"{name}_interval"]}) if name in row else ""


def _without_errors(history: dict[str, Any]) -> dict[str, Any]:
    epochs = [{name: value for name, value in entry.items() if "stderr" not in name} for entry in history["epochs"]]
    return history | {"epochs": epochs}
