"""What is known of a triage model's labels on dev: scores with intervals, calibration, each label, the confusions.

N rows, L labels
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from docproduct.evaluate.bootstrap import intervals
from docproduct.metrics import expected_calibration_error
from docproduct.systems.triage.calibration import Calibration, are_sure
from docproduct.systems.triage.dev import confusion, label_scores, per_class
from docproduct.systems.triage.fit_calibration import cross_fitted_probs

_RESAMPLES, _SEED = 2_000, 0


def label_report(
    logits: np.ndarray, classes: np.ndarray, familiarity: np.ndarray, names: Sequence[str], chosen: Calibration
) -> dict[str, Any]:
    """Returns the content of report.json.

    Args:
      logits: [N, L].
      classes: [N] int, the right labels.
      familiarity: [N], how near the texts are to those of train.
      names: of the labels.
      chosen: the model's calibration.
    """
    sure = are_sure(chosen, chosen.probs(logits), familiarity)
    right = logits.argmax(axis=1) == classes
    probs = cross_fitted_probs(logits, classes)
    return {
        "rows": len(classes),
        "scores": label_scores(logits, classes),
        "intervals": score_intervals(logits, classes),
        "ece_calibrated": expected_calibration_error(probs.max(axis=1), probs.argmax(axis=1) == classes),
        "calibration": dataclasses.asdict(chosen),
        "sure": {"share": float(sure.mean()), "accuracy": float(right[sure].mean()) if sure.any() else None},
        "labels": per_class(logits, classes, names),
        "confusion": confusion(logits, classes).tolist(),
        # For paired tests: of every labeled dev row, in the order of the prepared folder.
        "right": [names[place] for place in classes.tolist()],
        "predicted": [names[place] for place in logits.argmax(axis=1).tolist()],
    }


def score_intervals(logits: np.ndarray, classes: np.ndarray) -> dict[str, list[float]]:
    """Returns the 95 % bootstrap intervals of accuracy and of macro-F1, over the rows."""
    predicted = logits.argmax(axis=1)
    random = np.random.default_rng(_SEED)
    draws = (random.integers(len(classes), size=len(classes)) for _ in range(_RESAMPLES))
    values = [macro_f1(predicted[rows], classes[rows]) for rows in draws]
    accuracy = intervals((predicted == classes)[None].astype(float))[0]
    return {"accuracy": accuracy.tolist(), "macro_f1": np.quantile(values, (0.025, 0.975)).tolist()}


def macro_f1(predicted: np.ndarray, classes: np.ndarray) -> float:
    """Returns the mean F1 over the labels that occur; scikit-learn takes too long for thousands of draws."""
    size = int(max(predicted.max(), classes.max())) + 1
    hits = np.bincount(classes[predicted == classes], minlength=size)
    given = np.bincount(predicted, minlength=size) + np.bincount(classes, minlength=size)
    return float(np.mean(2 * hits[given > 0] / given[given > 0]))
