"""Reads the files of a sentence-transformers folder: modules.json and the configuration of each module."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from absl import logging

from data_pipeline.folders import files
from data_pipeline.prompts.encoder_prompts import PROMPTS_FILE, EncoderPrompts
from data_pipeline.tokenizers.loading import MODULES_FILE, sentence_config
from data_pipeline.tokenizers.wordpiece import TOKENIZER_CONFIG_FILE
from docproduct.layers import checkpoints
from docproduct.systems.retriever.pooling import POOLINGS, TORCH_ACTIVATIONS, DenseConfig

_CONFIG_FILE = "config.json"
_NO_LENGTH = 1_000_000  # tokens; files write a larger number for "no limit"
# Our poolings by sentence-transformers' names, which changed with version 6.
_POOLING_NAMES = {
    "cls_token": "cls",
    "max_tokens": "max",
    "mean_tokens": "mean",
    "mean_sqrt_len_tokens": "mean_sqrt_len",
}
_FLAG_PREFIX = "pooling_mode_"
# Settings of a Transformer module that change its vectors, with the values that leave them as they are.
_TRANSFORMER_SETTINGS = {
    "transformer_task": (None, "feature-extraction"),
    "module_output_name": (None, "token_embeddings"),
    **dict.fromkeys(("config_args", "config_kwargs", "tokenizer_args", "processor_kwargs"), (None, {})),
    **dict.fromkeys(("processing_kwargs", "query_expansion"), (None, {})),
    **dict.fromkeys(("query_length", "document_length"), (None,)),
}


@dataclasses.dataclass
class SentenceModules:
    """The modules of a sentence-transformers folder.

    Attributes:
      pooling: A key of `POOLINGS`, or None if the caller chose another.
      max_tokens: Longest text, or None if the folder sets none.
      dense: The dense layers after the pooling, in order.
      weights: The tensors of each dense layer: kernel [in, out] and bias [out].
    """

    pooling: str | None = None
    max_tokens: int | None = None
    dense: tuple[DenseConfig, ...] = ()
    weights: tuple[dict[str, np.ndarray], ...] = ()


def read_modules(folder: str, pooling: str | None = None) -> SentenceModules | None:
    """Reads the modules of a sentence-transformers folder. Returns None for other folders.

    Args:
      folder: The folder.
      pooling: Overrides the folder's pooling, which is not read then.

    Raises:
      ValueError: The modules are not Transformer, Pooling, Dense, Dropout and Normalize, in this order, or one has a
        setting that would give other vectors than sentence-transformers'.
    """
    modules = files.read_json(os.path.join(folder, MODULES_FILE))
    if modules is None:
        return None
    result = SentenceModules()
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    _check_order(kinds, folder)
    _check_origin([module["type"] for module in modules], folder)
    for kind, module in zip(kinds, modules, strict=True):
        part = os.path.normpath(os.path.join(folder, module["path"]))
        if kind == "Transformer":
            _check_transformer(part)
            result.max_tokens = _max_tokens(part)
        elif kind == "Pooling" and not pooling:
            result.pooling = _pooling(files.read_json(os.path.join(part, _CONFIG_FILE)), part, folder)
        elif kind == "Dense":
            config, tensors = _dense(part)
            result.dense, result.weights = (*result.dense, config), (*result.weights, tensors)
    _check_vectors(folder)
    return result


def _check_order(kinds: Sequence[str], folder: str) -> None:
    order = ("Transformer", "Pooling", "Dense", "Dropout", "Normalize")
    for kind in kinds:
        if kind not in order:
            raise ValueError(f"{folder} has a module {kind}; expected {', '.join(order)} only.")
    # Dropout does nothing at inference.
    places = [order.index(kind) for kind in kinds if kind != "Dropout"]
    if places != sorted(places) or kinds.count("Transformer") != 1 or kinds.count("Pooling") != 1:
        raise ValueError(
            f"{folder} has the modules {', '.join(kinds)}; expected one Transformer, one Pooling, any number of Dense, "
            "and Normalize, in this order."
        )


def _check_origin(types: Sequence[str], folder: str) -> None:
    own = [name for name in types if not name.startswith("sentence_transformers.")]
    if own:
        raise ValueError(
            f"{folder} has the module {own[0]}, which is its own code and is not run. Expected modules of "
            "sentence_transformers only."
        )


def _check_transformer(part: str) -> None:
    config = sentence_config(part)
    for name, harmless in _TRANSFORMER_SETTINGS.items():
        if config.get(name) not in harmless:
            raise ValueError(
                f"The Transformer module in {part} has {name} {config[name]!r}, which is not supported. If the encoder "
                "was trained with it, use another encoder; otherwise remove it from sentence_bert_config.json."
            )


def _max_tokens(part: str) -> int | None:
    # Newer folders keep the length with the tokenizer.
    tokenizer = files.read_json(os.path.join(part, TOKENIZER_CONFIG_FILE)) or {}
    lengths = [sentence_config(part).get("max_seq_length"), tokenizer.get("model_max_length"), tokenizer.get("max_len")]
    return next((length for length in lengths if length and length < _NO_LENGTH), None)


def _pooling(config: dict[str, Any] | None, part: str, folder: str) -> str:
    if config is None:
        raise ValueError(f"{part} has no {_CONFIG_FILE}, which names the pooling. Add the file, or set --pooling.")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name for name, value in config.items() if name.startswith(_FLAG_PREFIX) and value] or ["mean"]
        modes = [name.removeprefix(_FLAG_PREFIX) for name in modes]
    modes = [modes] if isinstance(modes, str) else list(modes)
    modes = [_POOLING_NAMES.get(mode, mode) for mode in modes]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ValueError(
            f"{folder} has the poolings {modes}; expected exactly one of {', '.join(POOLINGS)}. Set --pooling."
        )
    if config.get("include_prompt") is False and EncoderPrompts.read(folder):
        raise ValueError(
            f"{folder} leaves its prompts out of the pooling (include_prompt is false), which is not supported. "
            "Expected an encoder that pools all tokens."
        )
    return modes[0]


def _dense(part: str) -> tuple[DenseConfig, dict[str, np.ndarray]]:
    path = os.path.join(part, _CONFIG_FILE)
    config = files.read_json(path) or {}
    # sentence-transformers' default is tanh.
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh")).rpartition(".")[2]
    input_name = config.get("module_input_name", "sentence_embedding")
    output_name = config.get("module_output_name") or input_name
    unusual = config.get("use_residual") or (input_name, output_name) != ("sentence_embedding", "sentence_embedding")
    if activation not in TORCH_ACTIVATIONS or unusual or "out_features" not in config:
        raise ValueError(
            f"{path} describes a dense layer with {config}. Expected out_features and one of the activations "
            f"{', '.join(TORCH_ACTIVATIONS)}, applied to the text's vector, without a residual connection."
        )
    names = os.listdir(part)
    if "pytorch_model.bin" in names and "model.safetensors" not in names:
        raise ValueError(
            f"{part} has its weights only in pytorch_model.bin, which cannot be read. Expected model.safetensors. "
            "Convert the folder once, where sentence-transformers is installed: "
            "SentenceTransformer(FOLDER).save_pretrained(NEW_FOLDER)."
        )
    tensors = {name.removeprefix("linear."): value for name, value in checkpoints.read_safetensors(part).items()}
    renamed = {"kernel": tensors["weight"].T} if "weight" in tensors else {}
    renamed |= {name: value for name, value in tensors.items() if name != "weight"}
    return DenseConfig(config["out_features"], TORCH_ACTIVATIONS[activation], "bias" in tensors), renamed


def _check_vectors(folder: str) -> None:
    config = files.read_json(os.path.join(folder, PROMPTS_FILE)) or {}
    if config.get("truncate_dim"):
        raise ValueError(
            f"{folder} shortens its vectors to {config['truncate_dim']} components (truncate_dim in {PROMPTS_FILE}), "
            "which is not supported for encoders. Remove truncate_dim to load the whole vectors."
        )
    similarity = config.get("similarity_fn_name")
    if similarity not in (None, "cosine"):
        logging.warning("%s compares vectors by %s; docproduct compares them by cosine.", folder, similarity)
