"""An exported multiple-choice model in a graph session of its own.

B questions in a batch, C choices of the one with most
"""

import os
from typing import Any

import numpy as np

from data_pipeline.folders import files
from data_pipeline.tokenizers import CausalTokenizer
from docproduct.exports import saved_models
from docproduct.exports.graph_session import GraphSession
from docproduct.generation.session import exported_tokenizer
from docproduct.systems.multiple_choice.export import FORMAT, KIND, SIGNATURE
from docproduct.systems.multiple_choice.questions import Batch, check_window
from docproduct.systems.multiple_choice.scoring import BATCH_INPUTS, ChoiceScorer


class ChooserSession(ChoiceScorer):
    """Does what `TrainedChooser` does, without its variables in this process; see `ChoiceScorer`."""

    def __init__(self, session: GraphSession, tokenizer: CausalTokenizer, max_tokens: int, threshold: float):
        """Joins the parts."""
        self._session, self.tokenizer = session, tokenizer
        self.max_tokens, self.threshold = max_tokens, threshold

    @classmethod
    def load(cls, folder: str, max_tokens: int | None = None) -> "ChooserSession":
        """Loads what `export` wrote.

        Args:
          folder: an export, whose newest version is taken, or a version.
          max_tokens: of a row; default: as in training.

        Raises:
          ValueError: the folder holds something else, a part of it is missing, this machine cannot run its precision,
            or the model's window is smaller than `max_tokens`.
        """
        version = saved_models.newest(folder)
        stored = _stored(version)
        if (stored.get("kind"), stored.get("format")) != (KIND, FORMAT):
            raise ValueError(
                f"{folder} holds no exported multiple-choice model of format {FORMAT}: its "
                f"{saved_models.CONFIG_FILE} says {stored.get('kind')!r}, format {stored.get('format')}. Export the "
                "trained model with python -m docproduct.export."
            )
        max_tokens = max_tokens or stored["max_tokens"]
        check_window(max_tokens, stored["window"])
        tokenizer = exported_tokenizer(version, stored)
        return cls(GraphSession(version), tokenizer, max_tokens, stored["threshold"])

    def batch_scores(self, batch: Batch) -> np.ndarray:
        """Returns the scores of a batch; see `ChoiceScorer`."""
        return self._session.run(SIGNATURE, {name: getattr(batch, name) for name in BATCH_INPUTS})["scores"]


def is_export(folder: str) -> bool:
    """Returns whether a folder holds an exported multiple-choice model, of any format."""
    return _stored(saved_models.newest(folder)).get("kind") == KIND


def _stored(version: str) -> dict[str, Any]:
    """Returns the config.json of a version; {} if there is none."""
    return files.read_json(os.path.join(saved_models.own_files(version), saved_models.CONFIG_FILE)) or {}
