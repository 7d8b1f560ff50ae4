"""Opens a generator, whatever form it has: an export, a model's folder, an adapter, a GGUF file."""

import os

from data_pipeline.folders import files
from docproduct.generation.session import GenerationSession
from docproduct.model_folder import CONFIG_FILE
from docproduct.systems.generator import adapter, refusal
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.layouts import MODEL_FILES


def is_adapter(path: str) -> bool:
    """Returns whether a folder holds an adapter, which needs the model that it was trained on."""
    return os.path.isdir(path) and (files.read_json(os.path.join(path, CONFIG_FILE)) or {}).get("kind") == adapter.KIND


def is_model(path: str) -> bool:
    """Returns whether `load_model` reads this; a folder of another kind may hold an export."""
    return os.path.isfile(path) or any(os.path.isfile(os.path.join(path, name)) for name in MODEL_FILES)


def load_model(path: str, base_dir: str | None = None) -> TrainedGenerator:
    """Returns the model of a folder or a GGUF file, with the bias of its refusal if one was fitted.

    An adapter's weights are added to those of the base model.

    Args:
      path: the folder or file.
      base_dir: of an adapter, the model that it was trained on.

    Raises:
      ValueError: there is no such model, or it is damaged; an adapter has no base model, or another one; or a base
        model is given for a whole model.
    """
    if is_adapter(path):
        if not base_dir:
            raise ValueError(f"{path} holds an adapter. Give the model that it was trained on with --base_dir.")
        model = adapter.AdaptedGenerator.load_on(TrainedGenerator.load(base_dir), path).merged()
    else:
        if base_dir:
            raise ValueError(f"{path} holds a whole model, and --base_dir is for an adapter. Leave it out.")
        model = TrainedGenerator.load(path)
    if fitted := refusal.load(path):
        model.refusal_bias = fitted.bias
    return model


def open_session(path: str, base_dir: str | None = None) -> GenerationSession:
    """Returns a session that writes with an export, or with a model; see `load_model`.

    An export starts faster than a model, and runs in a graph session of its own.

    Raises:
      ValueError: as in `load_model` and `GenerationSession.load`.
    """
    if is_model(path):
        return GenerationSession.of(load_model(path, base_dir))
    return GenerationSession.load(path)
