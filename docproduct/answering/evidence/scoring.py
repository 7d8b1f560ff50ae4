"""Signs to a score: a logistic regression whose weights docproduct.fit_support fitted.

N sentences, K signs
"""

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np

from docproduct.answering.evidence.sources import SIGNS
from docproduct.answering.evidence.word_weights import WordWeights

FITTED_FILE = pathlib.Path(__file__).with_name("fitted.json")


@dataclasses.dataclass(frozen=True)
class Scoring:
    """A logistic regression; every sign can only lower the score, so that a copied sentence has the highest.

    Attributes:
      bias: Log odds of a sentence without any sign.
      weights: [K] float, what each sign takes away from them.
      distance_weight: What a distance of 1 between the encoder's vectors takes away.
      threshold: The lowest score of a sentence that counts as supported, 0 to 1.
    """

    bias: float
    weights: np.ndarray
    distance_weight: float
    threshold: float

    def log_odds(self, signs: np.ndarray, distances: np.ndarray | float = 0.0) -> np.ndarray:
        """Returns the log odds of support, [...], from signs [..., K] and 1 - cosine [...]."""
        return self.bias - signs @ self.weights - self.distance_weight * distances

    def score(self, signs: np.ndarray, distance: float = 0.0) -> float:
        """Returns the probability of support, from signs [K] and 1 - cosine."""
        return float(1 / (1 + np.exp(-self.log_odds(signs, distance))))

    def as_json(self) -> dict[str, Any]:
        """Returns the form in which it is stored."""
        weights = dict(zip(SIGNS, np.round(self.weights, 3).tolist(), strict=True))
        numbers = {name: round(getattr(self, name), 3) for name in ("bias", "distance_weight", "threshold")}
        return numbers | {"weights": weights}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> "Scoring":
        """Reads what `as_json` returned."""
        weights = np.array([stored["weights"][name] for name in SIGNS])
        return cls(stored["bias"], weights, stored["distance_weight"], stored["threshold"])


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What docproduct.fit_support fits.

    Attributes:
      by_words: Scores from words alone.
      with_encoder: Scores from words and vectors.
      word_weights: Weights of common words by their keys.
    """

    by_words: Scoring
    with_encoder: Scoring
    word_weights: dict[str, float]

    def save(self, path: pathlib.Path, made_by: str) -> None:
        """Writes a JSON file.

        Args:
          path: The file.
          made_by: The command that fitted the weights.
        """
        words_of: dict[str, list[str]] = {}
        for word, weight in sorted(self.word_weights.items(), key=lambda item: (item[1], item[0])):
            words_of.setdefault(f"{weight:.2f}", []).append(word)
        stored = {
            "made_by": made_by,
            "by_words": self.by_words.as_json(),
            "with_encoder": self.with_encoder.as_json(),
            "word_weights": {weight: " ".join(words) for weight, words in words_of.items()},
        }
        path.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: pathlib.Path = FITTED_FILE) -> "Fitted":
        """Reads what `save` wrote; by default the file of this package."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        words = {word: float(weight) for weight, words in stored["word_weights"].items() for word in words.split()}
        scorings = (Scoring.from_json(stored[name]) for name in ("by_words", "with_encoder"))
        return cls(*scorings, words)

    def weights(self) -> WordWeights:
        """Returns the weight of any word."""
        return WordWeights(self.word_weights)
