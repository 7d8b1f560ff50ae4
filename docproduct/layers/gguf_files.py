"""Reads a LLaMA-family model from a GGUF file, and writes it as a Hugging Face folder.

Architectures: llama (with it Mistral and SmolLM2, whose files name themselves llama), qwen2 and qwen3. Tensors come out
as float32 under Hugging Face's names. llama.cpp turns the rows of a LLaMA's queries and keys around, so that the two
halves of a rotation stand beside each other; this is undone.

H heads, S width of a head
"""

import dataclasses
import os
import shutil
from typing import Any

import numpy as np
import safetensors.numpy

from data_pipeline.folders import files
from docproduct.layers import gguf_config, gguf_tokenizers
from docproduct.layers.gguf_reader import GGUFFile

_INTERLEAVED = ("llama",)  # architectures whose rows of queries and keys are turned around


@dataclasses.dataclass(frozen=True, eq=False)
class Published:
    """A model as Hugging Face publishes it.

    Attributes:
      config: content of config.json.
      tensors: {Hugging Face's name: float32 values}.
      tokenizer: content of tokenizer.json.
      tokenizer_config: content of tokenizer_config.json: special tokens, chat_template; and eos_token_id, every id that
        ends a text, as generation_config.json has it. `DecoderTokenizer.from_json` reads the two.
    """

    config: dict[str, Any]
    tensors: dict[str, np.ndarray]
    tokenizer: dict[str, Any]
    tokenizer_config: dict[str, Any]


def read(path: str, with_tensors: bool = True) -> Published:
    """Reads a GGUF file. Tensors are dequantized one by one; their float32 values are what stays in memory.

    Args:
      path: the file.
      with_tensors: whether to read the tensors, which takes seconds; without them, `Published.tensors` is empty.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: it is no GGUF file or damaged, its architecture, quantization, tokenizer or scaling of positions is
        not built in, or its metadata and tensors do not fit together.
    """
    file = GGUFFile(path)
    config = gguf_config.of(file)
    names = gguf_config.names(file, config)
    tokenizer, tokenizer_config = gguf_tokenizers.from_metadata(file.metadata, path)
    num_tokens = len(file.metadata["tokenizer.ggml.tokens"])
    if num_tokens > config["vocab_size"]:
        raise ValueError(f"{path} has {num_tokens} tokens and {config['vocab_size']} embeddings. Fetch it again.")
    config["bos_token_id"] = file.metadata.get("tokenizer.ggml.bos_token_id")
    config["eos_token_id"] = tokenizer_config["eos_token_id"]
    tensors = {}
    for theirs, ours in names.items() if with_tensors else ():
        values = file.values(theirs)
        if config["model_type"] in _INTERLEAVED and ".attn_q." in theirs:
            values = _halves_apart(values, config["num_attention_heads"])
        elif config["model_type"] in _INTERLEAVED and ".attn_k." in theirs:
            values = _halves_apart(values, config["num_key_value_heads"])
        tensors[ours] = values
    return Published(config, tensors, tokenizer, tokenizer_config)


def write_hugging_face(published: Published, folder: str) -> None:
    """Writes a model as a folder that Hugging Face's libraries read, whole or not at all.

    Raises:
      FileExistsError: the folder exists and is not empty.
    """
    with files.whole_folder(folder, mark="config.json") as partial:
        config = published.tokenizer_config
        generation = {"eos_token_id": config["eos_token_id"], "bos_token_id": published.config["bos_token_id"]}
        contents = {"config.json": published.config, "generation_config.json": generation}
        contents |= {"tokenizer.json": published.tokenizer, "tokenizer_config.json": config}
        for name, content in contents.items():
            files.write_json(os.path.join(partial, name), content)
        weights = os.path.join(partial, "model.safetensors")
        safetensors.numpy.save_file(published.tensors, weights, metadata={"format": "pt"})  # transformers asks for it
        shutil.copymode(os.path.join(partial, "config.json"), weights)  # safetensors lets only the owner read it


def _halves_apart(values: np.ndarray, num_heads: int) -> np.ndarray:
    """Undoes llama.cpp's order of rows: [H * S, ...], in which row i of a head stood beside row i + S / 2."""
    pairs = values.reshape(num_heads, -1, 2, *values.shape[1:])  # [H, S / 2, 2, ...]
    return np.ascontiguousarray(np.swapaxes(pairs, 1, 2)).reshape(values.shape)
