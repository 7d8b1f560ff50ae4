"""Finds and reads the weights of a published BERT, whatever layout its folder has."""

import os
from collections.abc import Mapping

import numpy as np

from data_pipeline.folders import files
from docproduct.layers import checkpoints
from docproduct.layers.bert import BertConfig, google_sources, hugging_face_sources
from docproduct.layers.checkpoints import Source

CONFIG_FILE = "config.json"
GOOGLE_CONFIG_FILE = "bert_config.json"
_SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
_CONVERT = (
    'Convert it once, where torch and transformers are installed: python -c "from transformers import AutoModel as M; '
    'M.from_pretrained({folder!r}).save_pretrained({folder!r})"'
)
# Weights that cannot be read: (file suffixes, what they are, what to do).
_OTHER_WEIGHTS = (
    ((".bin", ".bin.index.json", ".pt", ".pth"), "a PyTorch pickle", _CONVERT),
    (
        (".h5", ".keras", ".msgpack", ".onnx", ".gguf"),
        "another framework's format",
        "Take the same model's safetensors.",
    ),
    (("adapter_model.safetensors",), "an adapter (PEFT)", "Merge it into its base model first: merge_and_unload()."),
)


def read_bert(folder: str, pooled_layer: int = -1) -> tuple[BertConfig, dict[str, np.ndarray], dict[str, Source]]:
    """Reads a BERT's configuration and weights.

    Args:
      folder: Google's layout (bert_config.json, *.ckpt.index) or Hugging Face's (config.json, model.safetensors).
      pooled_layer: The last layer to keep, counted from the end: -1 keeps all layers, -2 all but the last.

    Returns:
      The configuration, the tensors by name, and the tensors that make up each of our variables. Heads of a
      fine-tuned model and optimizer slots are left out and logged.

    Raises:
      ValueError: The folder holds no BERT, a model of another family or layout, or one without that layer.
    """
    configs = {name: files.read_json(os.path.join(folder, name)) for name in (CONFIG_FILE, GOOGLE_CONFIG_FILE)}
    if not any(configs.values()):
        raise ValueError(
            f"{folder} holds no model: neither {CONFIG_FILE} nor {GOOGLE_CONFIG_FILE} is there. Expected a trained "
            "retriever, or an encoder in Google's or Hugging Face's layout."
        )
    if configs[CONFIG_FILE] and "model_type" in configs[CONFIG_FILE]:
        BertConfig.from_hugging_face(configs[CONFIG_FILE])  # names another family before looking at its files
    there = sorted(os.listdir(folder))
    google = any(name.endswith(".index") for name in there)
    if not google:
        _check_readable(folder, there)
    if any(name in there for name in _SAFETENSORS) or (configs[CONFIG_FILE] and not google):
        config = BertConfig.from_hugging_face(configs[CONFIG_FILE] or configs[GOOGLE_CONFIG_FILE])
        tensors, table = _read_hugging_face(folder), hugging_face_sources
    else:
        config = BertConfig.from_google(configs[GOOGLE_CONFIG_FILE] or configs[CONFIG_FILE])
        tensors = checkpoints.read_tf1(folder, ("bert/embeddings/", "bert/encoder/"))
        table = google_sources
    wanted = config.with_pooled_layer(pooled_layer)
    behind = _names(table(config)) - _names(table(wanted))
    checkpoints.log_left_out(folder, behind)
    return wanted, {name: value for name, value in tensors.items() if name not in behind}, table(wanted)


def _names(sources: Mapping[str, Source]) -> set[str]:
    return {name for source in sources.values() for name in source.names}


def _check_readable(folder: str, there: list[str]) -> None:
    """Raises a ValueError if the only weights are in a format that cannot be read."""
    if any(name in there for name in _SAFETENSORS):
        return
    for endings, kind, remedy in _OTHER_WEIGHTS:
        if found := [name for name in there if name.endswith(endings)]:
            raise ValueError(
                f"{folder} has its weights only in {found[0]} ({kind}), which cannot be read. Expected "
                f"{_SAFETENSORS[0]}. {remedy.format(folder=folder)}"
            )


def _read_hugging_face(folder: str) -> dict[str, np.ndarray]:
    """Reads safetensors without pooler, position ids and heads."""
    tensors, left_out = {}, []
    for name, value in checkpoints.read_safetensors(folder).items():
        # Old conversions from TensorFlow call the scale gamma and the shift beta.
        short = name.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
        short = short.replace("LayerNorm.beta", "LayerNorm.bias")
        if short in tensors:
            raise ValueError(
                f"{folder} has the tensor {short} twice, with and without the prefix bert. Expected it once."
            )
        if short.startswith(("embeddings.", "encoder.")) and short != "embeddings.position_ids":
            tensors[short] = value
        else:
            left_out.append(name)
    checkpoints.log_left_out(folder, left_out)
    return tensors
