"""Chooses the calibration of a triage model on labeled rows that it was not trained on.

N rows, L labels
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.model_selection import KFold

from docproduct.systems.triage.calibration import Calibration

_FOLDS = 5
_LOG_TEMPERATURES = (-3.0, 3.0)  # natural logarithms between which the best temperature is looked for


def fit(logits: np.ndarray, classes: np.ndarray, sure_accuracy: float, sure_prob: float = 0.0) -> Calibration:
    """Returns the calibration that suits labeled rows which the model was not trained on.

    Args:
      logits: [N, L].
      classes: [N] int, the right labels.
      sure_accuracy: accuracy that the rows at which the model is sure have together, 0 to 1.
      sure_prob: lowest probability at which it may be sure. Where nearly all rows are right, their accuracy alone would
        let it be sure of a row that is as likely wrong as right.
    """
    temperature = fit_temperature(logits, classes)
    probs = Calibration(temperature).probs(logits)
    return Calibration(temperature, max(sure_prob, sure_from(probs, classes, sure_accuracy)))


def fit_temperature(logits: np.ndarray, classes: np.ndarray) -> float:
    """Returns the temperature with the lowest negative log-likelihood, between exp(-3) and exp(3)."""
    rows = np.arange(len(classes))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, classes].mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x))


def cross_fitted_probs(logits: np.ndarray, classes: np.ndarray, seed: int = 0) -> np.ndarray:
    """Returns calibrated probabilities, [N, L]; a row's temperature was fitted on other rows.

    What is fitted and measured on the same rows looks better than it is.
    """
    if len(classes) < 2:
        return Calibration().probs(logits)
    probs = np.empty(logits.shape, np.float32)
    folds = KFold(min(_FOLDS, len(classes)), shuffle=True, random_state=seed)
    for others, part in folds.split(logits):
        temperature = fit_temperature(logits[others], classes[others])
        probs[part] = Calibration(temperature).probs(logits[part])
    return probs


def sure_from(probs: np.ndarray, classes: np.ndarray, accuracy: float) -> float:
    """Returns the lowest probability threshold above which the accuracy is high enough.

    Args:
      probs: [N, L].
      classes: [N] int, the right labels.
      accuracy: of the first label in the rows at or above the threshold, 0 to 1. If none has it, the threshold is above
        all probabilities.
    """
    highest = probs.max(axis=1)
    order = np.argsort(-highest, kind="stable")
    right = np.cumsum((probs.argmax(axis=1) == classes)[order]) / np.arange(1, len(order) + 1)
    sorted_probs = highest[order]
    # Rows of equal probability are sure together, or not at all.
    ends = np.append(sorted_probs[:-1] != sorted_probs[1:], True)
    enough = np.flatnonzero(ends & (right >= accuracy))
    return float(sorted_probs[enough[-1]]) if len(enough) else float(np.nextafter(sorted_probs[0], np.float32(2)))
