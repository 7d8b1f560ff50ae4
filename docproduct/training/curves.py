"""Curves of a training: a drawing, and TensorBoard's files."""

from collections.abc import Mapping
from typing import Any

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
