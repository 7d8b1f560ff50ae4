"""Drawings: the curves of a training, a confusion matrix, what a gain costs; and TensorBoard's files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from data_pipeline.folders import files


class Board:
    """Writes numbers for TensorBoard, or nowhere."""

    def __init__(self, folder: str | None):
        self._writer = tf.summary.create_file_writer(folder) if folder else None

    def add(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Adds the values of a step under group/name."""
        if self._writer:
            with self._writer.as_default(step):
                for name, value in values.items():
                    tf.summary.scalar(f"{group}/{name}", value)
            self._writer.flush()


def draw(history: dict[str, Any], metric: str, path: str) -> None:
    """Draws the loss of each step, and the dev metric of each epoch; thin lines show the metric of each set."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    losses, scores = figure.subplots(1, 2)
    losses.plot(range(1, len(history["losses"]) + 1), history["losses"], linewidth=0.8)
    losses.set(xlabel="step", ylabel="training loss", ylim=(0, None))
    epochs = [entry["epoch"] for entry in history["epochs"]]
    scores.plot(epochs, [entry[metric] for entry in history["epochs"]], marker="o", label="mean")
    sets = [name for name in history["epochs"][-1] if name.startswith(f"{metric} ")]
    for name in sets:
        values = [entry[name] for entry in history["epochs"]]
        scores.plot(epochs, values, linewidth=0.8, label=name.removeprefix(f"{metric} "))
    if sets:
        scores.legend(fontsize="small")
    scores.set(xlabel="epoch", ylabel=f"dev {metric}", xticks=epochs)
    with files.whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def draw_confusion(counts: np.ndarray, names: Sequence[str], path: str) -> None:
    """Draws a confusion matrix: a row for each right label, whose shares are shades, with the counts in it.

    Args:
      counts: [L right, L predicted] int.
      names: of the labels. If one holds characters that the font lacks, all are drawn as their numbers, from 1.
      path: the picture to write.
    """
    if not all(name.isascii() for name in names):
        names = [f"{number}" for number in range(1, len(names) + 1)]
    size = 2 + 0.5 * len(names)
    figure = Figure(figsize=(size, size), layout="constrained")
    axes = figure.subplots()
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts), strict=True):
        color = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{counts[row, column]}", ha="center", va="center", color=color, fontsize="small")
    places = range(len(names))
    axes.set_xticks(places, names, rotation=90)
    axes.set_yticks(places, names)
    axes.set(xlabel="predicted", ylabel="right")
    with files.whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=120)


def draw_costs(series: Mapping[str, Sequence[Sequence[float]]], labels: Sequence[str], path: str) -> None:
    """Plots each cost against a gain, side by side.

    Args:
      series: by name, points of a gain and its costs.
      labels: of the gain and of each cost.
      path: the picture to write.
    """
    figure = Figure(figsize=(10, 4.5), layout="constrained")
    for place, axes in enumerate(figure.subplots(1, len(labels) - 1), 1):
        for name, points in series.items():
            columns = list(zip(*points, strict=True))
            axes.plot(columns[0], columns[place], marker="o", markersize=4, linewidth=0.8, label=name)
        axes.set(xlabel=labels[0], ylabel=labels[place], yscale="log")
        axes.grid(alpha=0.3)
    axes.legend(fontsize="x-small")
    with files.whole_file(path) as partial:
        figure.savefig(partial, format="png", dpi=120)
