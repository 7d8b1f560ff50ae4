"""The layouts of a generator: ours, OpenAI's and Hugging Face's folders, GGUF files; and how the weights are read.

ours          config.json of the kind "docproduct generator", weights.safetensors
OpenAI        hparams.json, model.ckpt.*
Hugging Face  config.json with a model_type, model.safetensors, also in several files
GGUF          a file
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from data_pipeline.folders import files
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.settings import from_json
from data_pipeline.tokenizers import BytePairs, CausalTokenizer, DecoderTokenizer, EncoderVocabulary
from docproduct.layers import checkpoints, gguf_files, gpt2_config, llama_config
from docproduct.layers.checkpoints import Source
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.llama import Llama
from docproduct.layers.llama_config import LlamaConfig
from docproduct.model_folder import CONFIG_FILE, WEIGHTS_FILE
from docproduct.systems.generator.model import Decoder

KIND = "docproduct generator"
FORMAT = 2
FORMER_SIZES = {"pointer": False, "segment_token": None}  # fields that GPT2Config had, where they changed nothing
HUGGING_FACE_WEIGHTS_FILE = "model.safetensors"
_OPENAI_CONFIG_FILE = "hparams.json"
MODEL_FILES = (CONFIG_FILE, _OPENAI_CONFIG_FILE)  # a model's folder has one of them
_OURS, _OPENAI, _HUGGING_FACE, GGUF = ("ours", "openai", "hugging_face", "gguf")

DecoderConfig = GPT2Config | LlamaConfig


class Architecture(NamedTuple):
    """A kind of decoder.

    Attributes:
      config: class of its sizes.
      decoder: class of the model.
      tokenizer: class of its tokenizer.
      sources: returns its variables' names in Hugging Face's layout.
      prefix: of these names, but for the head's.
      table: name of the token embeddings among them.
    """

    config: type[DecoderConfig]
    decoder: type[Decoder]
    tokenizer: type[CausalTokenizer]
    sources: Callable[[Any], dict[str, Source]]
    prefix: str
    table: str


ARCHITECTURES = {
    "gpt2": Architecture(
        GPT2Config, GPT2, BytePairs, gpt2_config.hugging_face_sources, prefix="transformer.", table="wte.weight"
    ),
    "llama": Architecture(
        LlamaConfig, Llama, DecoderTokenizer, llama_config.hugging_face_sources, "model.", "embed_tokens.weight"
    ),
}
_MODEL_TYPES = {"gpt2": "gpt2"} | dict.fromkeys(llama_config.MODEL_TYPES, "llama")  # Hugging Face's, to ours
HUGGING_FACE_TYPES = tuple(_MODEL_TYPES)


class Description(NamedTuple):
    """What a folder's configuration says.

    Attributes:
      layout: ours, OpenAI's, Hugging Face's or GGUF.
      config: the model's sizes.
      prompt: how prompts are made, if the model was trained to answer.
    """

    layout: str
    config: DecoderConfig
    prompt: PromptSettings | None = None


def architecture_of(config: DecoderConfig) -> Architecture:
    """Returns the kind of decoder that has these sizes."""
    return ARCHITECTURES[config.architecture]


def load_tokenizer(config: DecoderConfig, folder: str) -> CausalTokenizer:
    """Loads the tokenizer in a decoder's folder; a GPT-2 may have an encoder's vocabulary, as Chinese ones do.

    Raises:
      FileNotFoundError: there is no tokenizer.
      ValueError: its files are damaged or of another kind.
    """
    if config.architecture == "gpt2" and EncoderVocabulary.is_in(folder):
        return EncoderVocabulary.load(folder)
    return architecture_of(config).tokenizer.load(folder)


def describe(folder: str) -> Description:
    """Reads the configuration of a folder or of a GGUF file.

    Raises:
      ValueError: there is no such folder or file, or it holds no model of a known kind.
    """
    if os.path.isfile(folder):
        return Description(GGUF, hugging_face_config(gguf_files.read(folder, with_tensors=False).config))
    if not os.path.isdir(folder):
        raise ValueError(
            f"There is no folder {folder}. Expected a model's folder, or a GGUF file; names on a hub are not looked up."
        )
    stored, hparams = (files.read_json(os.path.join(folder, name)) for name in (CONFIG_FILE, _OPENAI_CONFIG_FILE))
    if stored is not None and stored.get("kind") == KIND:
        return _describe_ours(folder, stored)
    if hparams is not None:
        return Description(_OPENAI, GPT2Config.from_openai(hparams))
    if stored is not None and str(stored.get("kind", "")).startswith("docproduct"):
        raise ValueError(f"{folder} holds a {stored['kind']}; expected a generator.")
    if stored is not None:
        return Description(_HUGGING_FACE, hugging_face_config(stored))
    raise ValueError(
        f"{folder} holds no model: neither {CONFIG_FILE} nor {_OPENAI_CONFIG_FILE} is there. Expected a GPT-2 in "
        "OpenAI's layout, a GPT-2, LLaMA, Mistral or Qwen in Hugging Face's, or a model that was trained here."
    )


def _describe_ours(folder: str, stored: dict[str, Any]) -> Description:
    if stored.get("format") != FORMAT:
        raise ValueError(f"{folder} has format {stored.get('format')}; expected {FORMAT}. Make the model again.")
    path, prompt = os.path.join(folder, CONFIG_FILE), stored.get("prompt")
    name = stored.get("architecture", "gpt2")  # earlier versions knew no other
    if name not in ARCHITECTURES:
        raise ValueError(
            f"{path} has the architecture {name}; expected {', '.join(ARCHITECTURES)}. It was written by another "
            "version of docproduct: read it with that one."
        )
    if stored[name].get("pointer"):
        raise ValueError(
            f"The model in {folder} has a pointer, which copies tokens from the prompt. This version has no pointer, "
            "and without it the model would write something else. Train the generator again."
        )
    config = from_json(ARCHITECTURES[name].config, stored[name], path, former=FORMER_SIZES)
    return Description(_OURS, config, prompt and from_json(PromptSettings, prompt, path))


def hugging_face_config(stored: Mapping[str, Any]) -> DecoderConfig:
    """Reads a config.json of Hugging Face's.

    Raises:
      ValueError: it is of another model type, or has a part that the decoder lacks.
    """
    kind = stored.get("model_type")
    if kind not in _MODEL_TYPES:
        raise ValueError(f"config.json is of a model of type {kind!r}; expected {', '.join(_MODEL_TYPES)}.")
    return ARCHITECTURES[_MODEL_TYPES[kind]].config.from_hugging_face(stored)


def assign_weights(decoder: Decoder, folder: str, layout: str) -> None:
    """Assigns the weights in a folder.

    Raises:
      ValueError: they are missing, damaged or of another model.
    """
    if layout == _OURS:
        weights = checkpoints.read_safetensors(folder, WEIGHTS_FILE)
        checkpoints.assign(decoder, weights, os.path.join(folder, WEIGHTS_FILE))
    elif layout == _OPENAI:
        sources = gpt2_config.openai_sources(decoder.config)
        checkpoints.assign_from(decoder, checkpoints.read_openai_gpt2(folder), sources, folder)
    else:
        assign_hugging_face(decoder, checkpoints.read_safetensors(folder, HUGGING_FACE_WEIGHTS_FILE), folder)


def assign_hugging_face(decoder: Decoder, tensors: Mapping[str, np.ndarray], where: str) -> None:
    """Assigns tensors that have Hugging Face's names; `where` names their file in errors."""
    kind = architecture_of(decoder.config)
    tensors = checkpoints.decoder_tensors(tensors, kind.prefix, kind.table, decoder.head is None, where)
    checkpoints.assign_from(decoder, tensors, kind.sources(decoder.config), where)


def hugging_face_tensors(decoder: Decoder) -> dict[str, np.ndarray]:
    """Returns a decoder's weights under Hugging Face's names."""
    kind = architecture_of(decoder.config)
    tensors = checkpoints.named_as(decoder, kind.sources(decoder.config))
    return {name if name == checkpoints.HEAD else kind.prefix + name: value for name, value in tensors.items()}
