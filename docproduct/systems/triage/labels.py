"""Which labels are classes, and how much each counts in the loss.

L classes, N rows
"""

import collections
import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from data_pipeline.settings import Settings, setting

NO_CLASS = -1  # of a row without a label, or whose label is no class
CLASS_WEIGHTS = ("none", "sqrt", "balanced")


@dataclasses.dataclass(frozen=True)
class LabelSettings(Settings):
    """How labels become classes; the help beside each field says what it does."""

    top_labels: int = setting(0, "Keep this many labels, the most frequent in train; 0: all.", least=0)
    least_rows: int = setting(1, "Keep labels with at least this many train rows.", least=1)
    other_label: str | None = setting(None, "Join all other labels under this name; none: their rows have no label.")
    class_weights: str = setting(
        "none",
        "Loss weight of a class: none: 1; balanced: N / (L * rows of the class); sqrt: the root of that.",
        choices=CLASS_WEIGHTS,
    )
    label_smoothing: float = setting(
        0.0, "Share of the target probability that is spread over all classes.", least=0, below=1
    )


def choose(labels: Sequence[str], settings: LabelSettings) -> tuple[str, ...]:
    """Returns the classes among the labels of train rows, the most frequent first, and the joined one last.

    Args:
      labels: the label of each train row; an empty one is none.
      settings: which labels to keep.

    Raises:
      ValueError: the name of the joined labels is a label that is kept.
    """
    counts = collections.Counter(filter(None, labels))
    ordered = sorted(counts, key=lambda label: (-counts[label], label))
    kept = [label for label in ordered if counts[label] >= settings.least_rows]
    kept = kept[: settings.top_labels or None]
    if settings.other_label in kept:
        raise ValueError(
            f"other_label is {settings.other_label!r}, which is a label of its own. Give a name that no label has."
        )
    joins = settings.other_label and len(kept) < len(ordered)
    return (*kept, settings.other_label) if joins else tuple(kept)


def classes_of(labels: Iterable[str], names: Sequence[str], other_label: str | None = None) -> np.ndarray:
    """Returns the class of each label, [N] int32: its place among `names`; `NO_CLASS` for one that has none.

    Args:
      labels: a label for each row.
      names: the classes.
      other_label: the class of labels that are not among `names`, if there is one.
    """
    places = {name: place for place, name in enumerate(names)}
    other = places.get(other_label, NO_CLASS) if other_label else NO_CLASS
    return np.array([places.get(label, other) if label else NO_CLASS for label in labels], np.int32)


def weights_of(classes: np.ndarray, num_classes: int, kind: str) -> np.ndarray:
    """Returns the loss weight of each class, [L] float32, with a mean of 1 over the rows.

    Args:
      classes: [N] int, of the train rows; `NO_CLASS` for none.
      num_classes: L.
      kind: one of `CLASS_WEIGHTS`.
    """
    counts = np.bincount(classes[classes != NO_CLASS], minlength=num_classes)
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[kind]
    weights = np.where(counts, (counts.sum() / np.maximum(counts, 1) / num_classes) ** power, 0.0)
    return (weights * counts.sum() / max(float((weights * counts).sum()), 1e-9)).astype(np.float32)
