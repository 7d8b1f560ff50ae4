"""A trained multiple-choice model: its folder, and the scores of choices.

config.json          the training; versions, git commit
generator/           the language model with its tokenizer
weights.safetensors  the head
choices.json         the threshold: where several may be right, likelier choices are chosen
metrics.json  learning_curve.png  README.md
"""

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from docproduct import model_folder
from docproduct.layers import checkpoints
from docproduct.model_folder import CONFIG_FILE, WEIGHTS_FILE
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.multiple_choice.model import Head, scores
from docproduct.systems.multiple_choice.questions import Batch, check_model
from docproduct.systems.multiple_choice.scoring import BATCH_INPUTS, ChoiceScorer

KIND = "docproduct multiple-choice model"
FORMAT = 1
GENERATOR_FOLDER = "generator"
THRESHOLD_FILE = "choices.json"
_REMEDY = "Expected what train_gpt2.py --task=multiple_choice wrote."
_MATRIX = tf.TensorSpec([None, None], tf.int32)
SPEC = dict.fromkeys(BATCH_INPUTS, _MATRIX)


class TrainedChooser(ChoiceScorer):
    """A language model with a head that scores choices; see `ChoiceScorer`.

    Attributes:
      generator: the language model with its tokenizer.
      head: scores the last state of a choice.
    """

    def __init__(self, generator: TrainedGenerator, max_tokens: int, threshold: float = 0.5):
        """Joins a language model and a new head.

        Raises:
          ValueError: the model attends to an encoder, or its window is smaller than `max_tokens`.
        """
        check_model(generator, max_tokens)
        self.generator, self.tokenizer = generator, generator.tokenizer
        self.max_tokens, self.threshold = max_tokens, threshold
        self.head = Head(generator.decoder.config.width)
        self._scores = tf.function(self._of_batch, input_signature=[SPEC], autograph=False)

    def batch_scores(self, batch: Batch) -> np.ndarray:
        """Returns the scores of a batch; see `ChoiceScorer`."""
        return self._scores(inputs(batch)).numpy()

    def _of_batch(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return scores(self.generator.decoder, self.head, batch, training=False, recompute=False)

    def fingerprint(self) -> str:
        """Returns a hash of weights, sizes and tokenizer."""
        return checkpoints.fingerprint(self.head, self.generator.fingerprint(), str(self.max_tokens))

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` describes the training."""
        config = {"kind": KIND, "format": FORMAT, "max_tokens": self.max_tokens, **training}
        files.write_json(os.path.join(folder, CONFIG_FILE), config | model_folder.provenance())
        generator = os.path.join(folder, GENERATOR_FOLDER)
        os.makedirs(generator, exist_ok=True)
        self.generator.save_config(generator, {})

    def save_weights(self, folder: str) -> None:
        """Writes the weights, and the threshold."""
        self.generator.save_weights(os.path.join(folder, GENERATOR_FOLDER))
        checkpoints.save(self.head, os.path.join(folder, WEIGHTS_FILE))
        files.write_json(os.path.join(folder, THRESHOLD_FILE), {"threshold": self.threshold})

    def load_weights(self, folder: str) -> None:
        """Sets weights and threshold to those that `save_weights` wrote.

        Raises:
          ValueError: a file is missing, damaged or of another model.
        """
        self.generator.load_weights(os.path.join(folder, GENERATOR_FOLDER))
        path = os.path.join(folder, WEIGHTS_FILE)
        checkpoints.assign(self.head, checkpoints.read_safetensors(folder, WEIGHTS_FILE), path)
        stored = files.read_json(os.path.join(folder, THRESHOLD_FILE)) or {}
        if not isinstance(stored.get("threshold"), float):
            raise ValueError(f"{folder} has no {THRESHOLD_FILE} with a threshold. {_REMEDY}")
        self.threshold = stored["threshold"]

    @classmethod
    def load(cls, folder: str, max_tokens: int | None = None) -> "TrainedChooser":
        """Loads a trained multiple-choice model.

        Args:
          folder: what `train_gpt2.py --task=multiple_choice` wrote.
          max_tokens: of a row; default: as in training.

        Raises:
          ValueError: the folder holds something else, or its files are missing or do not fit together.
        """
        stored = model_folder.read_config(folder, KIND, FORMAT, _REMEDY)
        result = cls(TrainedGenerator.load(os.path.join(folder, GENERATOR_FOLDER)), max_tokens or stored["max_tokens"])
        result.load_weights(folder)
        return result


def inputs(part: Batch) -> dict[str, tf.Tensor]:
    """Returns a batch as `model.scores` takes it."""
    return {name: tf.convert_to_tensor(getattr(part, name)) for name in SPEC}
