"""Calibrated probabilities: a temperature for the logits, and a threshold below which a person should be asked.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks". fit_calibration.py chooses both on dev.

N rows, L labels
"""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What turns logits into a decision.

    Attributes:
      temperature: logits are divided by it.
      sure_from: lowest probability of the first label at which the model is sure; below it a person should be asked.
      known_from: lowest familiarity, see `TriageClassifier.familiarity`, at which the model is sure.
    """

    temperature: float = 1.0
    sure_from: float = 0.0
    known_from: float = -1.0

    def probs(self, logits: np.ndarray) -> np.ndarray:
        """[N, L] -> [N, L] float32."""
        scaled = np.asarray(logits, np.float64) / self.temperature
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def are_sure(calibration: Calibration, probs: np.ndarray, familiarity: np.ndarray) -> np.ndarray:
    """Returns of which texts a model is sure, [N] bool: likely labels of texts like those of train.

    Args:
      calibration: of the model.
      probs: [N, L], calibrated.
      familiarity: [N].
    """
    return (probs.max(axis=1) >= calibration.sure_from) & (familiarity >= calibration.known_from)
