"""A GPT-2 with its tokenizer as a folder.

    config.json          the exact sizes, versions
    weights.safetensors  vocab.json  merges.txt  tokenizer_config.json

Folders in OpenAI's layout (hparams.json, encoder.json, vocab.bpe, model.ckpt.*) and Hugging Face's (config.json,
vocab.json, merges.txt, model.safetensors, also in several files) load as well.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from data_pipeline.folders import files
from data_pipeline.prompts.answer_prompts import PromptSettings, with_markers
from data_pipeline.settings import from_json
from data_pipeline.tokenizers import BytePairs
from docproduct import model_folder
from docproduct.layers import checkpoints
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config, hugging_face_sources, openai_sources
from docproduct.model_folder import CONFIG_FILE, WEIGHTS_FILE
from docproduct.systems.generator.model import GPT2LanguageModel

KIND = "docproduct generator"
FORMAT = 2
FORMER_SIZES = {"pointer": False, "segment_token": None}  # fields that GPT2Config had, where they changed nothing
_TABLE = "token_embedding/embeddings"
_OPENAI_CONFIG_FILE = "hparams.json"
_OURS, _OPENAI, _HUGGING_FACE = ("ours", "openai", "hugging_face")  # layouts
_HUGGING_FACE_WEIGHTS_FILE = "model.safetensors"


class TrainedGenerator(GPT2LanguageModel):
    """A GPT-2 with its tokenizer, from random weights or from a folder."""

    @classmethod
    def make(
        cls,
        config: GPT2Config,
        tokenizer: BytePairs,
        seed: int = 0,
        dtype: str = "float32",
        prompt: PromptSettings | None = None,
    ) -> "TrainedGenerator":
        """Returns a generator with random weights."""
        return cls(GPT2(config, seed, dtype).make_variables(), tokenizer, prompt)

    @classmethod
    def load(cls, folder: str, dtype: str = "float32", seed: int = 0, **changed: Any) -> "TrainedGenerator":
        """Loads a folder in any of the layouts above.

        Args:
          folder: the folder.
          dtype: Keras dtype policy.
          seed: of dropout.
          **changed: fields of GPT2Config to set, such as dropout; the sizes cannot change.

        Raises:
          ValueError: there is no such folder, or its files do not fit together.
          FileNotFoundError: it has no tokenizer.
        """
        layout, config, prompt = _read_config(folder)
        tokenizer = BytePairs.load(folder)
        gpt2 = GPT2(dataclasses.replace(config, **changed), seed, dtype).make_variables()
        if layout == _OURS:
            weights = checkpoints.read_safetensors(folder, WEIGHTS_FILE)
            checkpoints.assign(gpt2, weights, os.path.join(folder, WEIGHTS_FILE))
        elif layout == _OPENAI:
            checkpoints.assign_from(gpt2, checkpoints.read_openai_gpt2(folder), openai_sources(config), folder)
        else:
            tensors = checkpoints.read_hugging_face_gpt2(folder)
            checkpoints.assign_from(gpt2, tensors, hugging_face_sources(config), folder)
        return cls(gpt2, tokenizer, prompt)

    def with_markers(self, prompt: PromptSettings, dtype: str, seed: int) -> "TrainedGenerator":
        """Returns the same generator with the markers of prompts in its vocabulary.

        The token table's new rows are the mean of the others, so that no new token is likelier than an average token.

        Args:
          prompt: how prompts are made.
          dtype: Keras dtype policy.
          seed: of dropout.
        """
        tokenizer = with_markers(self.tokenizer)
        rows = max(tokenizer.vocab_size, self.gpt2.config.vocab_size)
        gpt2 = GPT2(dataclasses.replace(self.gpt2.config, vocab_size=rows), seed, dtype).make_variables()
        weights = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(self.gpt2).items()}
        table = weights[_TABLE][: self.tokenizer.vocab_size]  # published tables may have more rows
        new = np.repeat(table.mean(axis=0, keepdims=True), rows - len(table), axis=0)
        checkpoints.assign(gpt2, weights | {_TABLE: np.concatenate([table, new])}, "the model before")
        return TrainedGenerator(gpt2, tokenizer, prompt)

    def save(self, folder: str, overwrite: bool = False) -> None:
        """Writes the folder, whole or not at all."""
        with files.whole_folder(folder, overwrite, KIND, CONFIG_FILE) as partial:
            self.save_config(partial, {})
            self.save_weights(partial)

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` is the record of how they are made."""
        config = {"kind": KIND, "format": FORMAT, "gpt2": dataclasses.asdict(self.gpt2.config), **training}
        config |= {"prompt": self.prompt and dataclasses.asdict(self.prompt)} | model_folder.provenance()
        files.write_json(os.path.join(folder, CONFIG_FILE), config)
        self.tokenizer.save(folder)

    def save_weights(self, folder: str) -> None:
        """Writes the weights."""
        checkpoints.save(self.gpt2, os.path.join(folder, WEIGHTS_FILE))

    def fingerprint(self) -> str:
        """Returns a hash of weights, sizes and tokenizer, the same as in earlier versions."""
        sizes = json.dumps(dataclasses.asdict(self.gpt2.config) | FORMER_SIZES, sort_keys=True)
        return checkpoints.fingerprint(self.gpt2, sizes, self.tokenizer.fingerprint)

    def save_hugging_face(self, folder: str, overwrite: bool = False) -> None:
        """Writes a folder that transformers' GPT2LMHeadModel and GPT2Tokenizer load, whole or not at all.

        Raises:
          ValueError: Hugging Face's GPT-2 cannot represent this model.
        """
        config = self.gpt2.config.to_hugging_face()
        variables = checkpoints.variables_by_name(self.gpt2)
        tensors = {
            f"transformer.{source.names[0]}": np.asarray(variables[ours].numpy())
            for ours, source in hugging_face_sources(self.gpt2.config).items()
        }
        with files.whole_folder(folder, overwrite, mark=_HUGGING_FACE_WEIGHTS_FILE) as partial:
            end = self.tokenizer.end_id
            files.write_json(os.path.join(partial, CONFIG_FILE), config | {"bos_token_id": end, "eos_token_id": end})
            # transformers reads the framework's name from the file.
            data = safetensors.numpy.save(tensors, {"format": "pt"})
            with open(os.path.join(partial, _HUGGING_FACE_WEIGHTS_FILE), "wb") as file:
                file.write(data)
            self.tokenizer.save(partial)


def window_of(folder: str) -> int:
    """Returns the window of the model in a folder of any layout, in tokens, without loading its weights.

    Raises:
      ValueError: as in `TrainedGenerator.load`.
    """
    return _read_config(folder)[1].max_positions


def _read_config(folder: str) -> tuple[str, GPT2Config, PromptSettings | None]:
    """Returns a folder's layout, the model's sizes, and how prompts are made, if it was trained to answer."""
    if not os.path.isdir(folder):
        raise ValueError(f"There is no folder {folder}. Expected a model's folder; names on a hub are not looked up.")
    stored, hparams = (files.read_json(os.path.join(folder, name)) for name in (CONFIG_FILE, _OPENAI_CONFIG_FILE))
    if stored is not None and stored.get("kind") == KIND:
        if stored.get("format") != FORMAT:
            raise ValueError(f"{folder} has format {stored.get('format')}; expected {FORMAT}. Make the model again.")
        prompt = stored.get("prompt")
        prompt = prompt and from_json(PromptSettings, prompt, os.path.join(folder, CONFIG_FILE))
        return _OURS, _stored_config(folder, stored["gpt2"]), prompt
    if hparams is not None:
        return _OPENAI, GPT2Config.from_openai(hparams), None
    if stored is not None and str(stored.get("kind", "")).startswith("docproduct"):
        raise ValueError(f"{folder} holds a {stored['kind']}; expected a GPT-2.")
    if stored is not None:
        return _HUGGING_FACE, GPT2Config.from_hugging_face(stored), None
    raise ValueError(
        f"{folder} holds no model: neither {CONFIG_FILE} nor {_OPENAI_CONFIG_FILE} is there. Expected a GPT-2 in "
        "OpenAI's or Hugging Face's layout, or one that was trained here."
    )


def _stored_config(folder: str, stored: dict[str, Any]) -> GPT2Config:
    """Returns the sizes in a config.json of ours.

    Raises:
      ValueError: the model has a pointer, as models of earlier versions might.
    """
    if stored.get("pointer"):
        raise ValueError(
            f"The model in {folder} has a pointer, which copies tokens from the prompt. This version has no pointer, "
            "and without it the model would write something else. Train the generator again."
        )
    path = os.path.join(folder, CONFIG_FILE)
    return from_json(GPT2Config, stored, path, former=FORMER_SIZES)
