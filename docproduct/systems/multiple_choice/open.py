"""Opens what can choose, whatever form it has: a trained model's folder, an export, or any language model."""

import os

from data_pipeline.folders import files
from docproduct.model_folder import CONFIG_FILE
from docproduct.systems.generator.open import load_model
from docproduct.systems.multiple_choice.folder import KIND, TrainedChooser
from docproduct.systems.multiple_choice.likelihood import Likelihood
from docproduct.systems.multiple_choice.scoring import ChoiceScorer
from docproduct.systems.multiple_choice.session import ChooserSession, is_export


def open_model(path: str, base_dir: str | None = None, max_tokens: int | None = None) -> ChoiceScorer | Likelihood:
    """Returns a model that was trained to choose, or the likelihoods of a language model that was not.

    Args:
      path: a multiple-choice model, its export, or a language model; see `load_model`.
      base_dir: of an adapter, the model that it was trained on.
      max_tokens: of context, question and choices; default: as the model was trained, or its window.

    Raises:
      ValueError: there is no such model, it is damaged, its window is smaller, or `base_dir` is not needed.
    """
    is_trained = (files.read_json(os.path.join(path, CONFIG_FILE)) or {}).get("kind") == KIND
    if not is_trained and not is_export(path):
        return Likelihood(load_model(path, base_dir), max_tokens)
    if base_dir:
        raise ValueError(f"{path} holds a whole model, and --base_dir is for an adapter. Leave it out.")
    return TrainedChooser.load(path, max_tokens) if is_trained else ChooserSession.load(path, max_tokens)
