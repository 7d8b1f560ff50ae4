"""A language model with its tokenizer as a folder, or from a GGUF file.

    config.json          the architecture, the exact sizes, versions
    weights.safetensors  the tokenizer's files

Folders in the layouts of others load as well; see layouts.py.
"""

import dataclasses
import itertools
import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors.numpy

from data_pipeline.folders import files
from data_pipeline.prompts.answer_prompts import PromptSettings, default_prompt, with_markers
from data_pipeline.tokenizers import BytePairs, CausalTokenizer, DecoderTokenizer
from docproduct import model_folder
from docproduct.layers import checkpoints, gguf_files
from docproduct.layers.transformer import Blocks
from docproduct.model_folder import CONFIG_FILE, WEIGHTS_FILE
from docproduct.systems.generator import layouts
from docproduct.systems.generator.layouts import FORMAT, FORMER_SIZES, KIND, DecoderConfig, architecture_of
from docproduct.systems.generator.model import LanguageModel

# Variables with a row or column for each id, and the axis of the ids.
_TABLES = {"token_embedding/embeddings": 0, "head/kernel": 1}


class TrainedGenerator(LanguageModel):
    """A language model from random weights, from a folder, or from a published file."""

    @classmethod
    def make(
        cls,
        config: DecoderConfig,
        tokenizer: CausalTokenizer,
        seed: int = 0,
        dtype: str = "float32",
        prompt: PromptSettings | None = None,
        random: bool = True,
    ) -> "TrainedGenerator":
        """Returns a generator with random weights, or with zeros, which take no time, for weights that come next."""
        blocks = Blocks(config.initializer_range if random else 0.0, itertools.count(1_000 * seed), dtype)
        decoder = architecture_of(config).decoder(config, seed, dtype, blocks).make_variables()
        prompt = prompt or default_prompt(tokenizer, config.max_positions)
        return cls(decoder, tokenizer, prompt, tokenizer.chat_template)

    @classmethod
    def load(
        cls, folder: str, dtype: str = "float32", seed: int = 0, dropout: float | None = None
    ) -> "TrainedGenerator":
        """Loads a folder in any of the layouts, or a GGUF file.

        Args:
          folder: the folder, or the file.
          dtype: Keras dtype policy.
          seed: of dropout.
          dropout: its rate; default: the folder's.

        Raises:
          ValueError: there is no such folder or file, it is damaged, or its parts do not fit together.
          FileNotFoundError: it has no tokenizer.
        """
        layout, config, prompt = layouts.describe(folder)
        if layout == layouts.GGUF:
            return cls.of_published(gguf_files.read(folder), folder, dtype, seed, dropout)
        tokenizer = layouts.load_tokenizer(config, folder)
        config = config if dropout is None else config.with_dropout(dropout)
        result = cls.make(config, tokenizer, seed, dtype, prompt, random=False)
        layouts.assign_weights(result.decoder, folder, layout)
        return result

    @classmethod
    def of_published(
        cls,
        published: gguf_files.Published,
        where: str,
        dtype: str = "float32",
        seed: int = 0,
        dropout: float | None = None,
    ) -> "TrainedGenerator":
        """Returns a generator with published weights that are in memory.

        Args:
          published: the model.
          where: the file's name in errors.
          dtype: Keras dtype policy.
          seed: of dropout.
          dropout: its rate; default: as published.

        Raises:
          ValueError: the model is of another kind, or its parts do not fit together.
        """
        config = layouts.hugging_face_config(published.config)
        tokenizer = DecoderTokenizer.from_json(published.tokenizer, published.tokenizer_config, where)
        config = config if dropout is None else config.with_dropout(dropout)
        result = cls.make(config, tokenizer, seed, dtype, random=False)
        layouts.assign_hugging_face(result.decoder, published.tensors, where)
        return result

    def with_markers(self, prompt: PromptSettings, dtype: str, seed: int) -> "TrainedGenerator":
        """Returns the same generator with the markers of prompts in its vocabulary.

        New rows of the token table, and new columns of a head of its own, are the mean of the others, so that no new
        token is likelier than an average token.

        Args:
          prompt: how prompts are made.
          dtype: Keras dtype policy.
          seed: of dropout.
        """
        tokenizer, config = with_markers(self.tokenizer), self.decoder.config
        rows = max(tokenizer.vocab_size, config.vocab_size)
        config = dataclasses.replace(config, vocab_size=rows)
        result = TrainedGenerator.make(config, tokenizer, seed, dtype, prompt, random=False)
        weights = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(self.decoder).items()}
        for name in _TABLES.keys() & weights.keys():
            weights[name] = _with_rows(weights[name], _TABLES[name], self.tokenizer.vocab_size, rows)
        checkpoints.assign(result.decoder, weights, "the model before")
        return result

    def save(self, folder: str, overwrite: bool = False) -> None:
        """Writes the folder, whole or not at all."""
        with files.whole_folder(folder, overwrite, KIND, CONFIG_FILE) as partial:
            self.save_config(partial, {})
            self.save_weights(partial)

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` is the record of how they are made."""
        sizes = self.decoder.config
        config = {"kind": KIND, "format": FORMAT, "architecture": sizes.architecture}
        config |= {sizes.architecture: dataclasses.asdict(sizes), **training}
        config |= {"prompt": self.prompt and dataclasses.asdict(self.prompt)} | model_folder.provenance()
        files.write_json(os.path.join(folder, CONFIG_FILE), config)
        self.tokenizer.save(folder)

    def save_weights(self, folder: str) -> None:
        """Writes the weights."""
        checkpoints.save(self.decoder, os.path.join(folder, WEIGHTS_FILE))

    def load_weights(self, folder: str) -> None:
        """Sets the weights to those that `save_weights` wrote.

        Raises:
          ValueError: they are missing, damaged or of another model.
        """
        weights = checkpoints.read_safetensors(folder, WEIGHTS_FILE)
        checkpoints.assign(self.decoder, weights, os.path.join(folder, WEIGHTS_FILE))

    def fingerprint(self) -> str:
        """Returns a hash of weights, sizes and tokenizer, whatever the dropout; of a GPT-2 as in earlier versions."""
        config = self.decoder.config
        sizes = dataclasses.asdict(config)
        sizes |= {field.name: field.default for field in dataclasses.fields(config) if "dropout" in field.name}
        sizes |= FORMER_SIZES if config.architecture == "gpt2" else {}
        described = json.dumps(sizes, sort_keys=True)
        return checkpoints.fingerprint(self.decoder, described, self.tokenizer.fingerprint)

    def save_hugging_face(self, folder: str, overwrite: bool = False) -> None:
        """Writes a folder that transformers' AutoModelForCausalLM and AutoTokenizer load, whole or not at all.

        Raises:
          ValueError: no model type of Hugging Face can represent this model.
        """
        config = self.decoder.config.to_hugging_face()
        with files.whole_folder(folder, overwrite, mark=layouts.HUGGING_FACE_WEIGHTS_FILE) as partial:
            files.write_json(os.path.join(partial, CONFIG_FILE), config | self._ends())
            # transformers reads the framework's name from the file.
            data = safetensors.numpy.save(layouts.hugging_face_tensors(self.decoder), {"format": "pt"})
            with open(os.path.join(partial, layouts.HUGGING_FACE_WEIGHTS_FILE), "wb") as file:
                file.write(data)
            self.tokenizer.save(partial)

    def _ends(self) -> dict[str, Any]:
        """Returns the ids that begin and end a text, as a config.json names them."""
        tokenizer = self.tokenizer
        if isinstance(tokenizer, BytePairs):
            return {"bos_token_id": tokenizer.end_id, "eos_token_id": tokenizer.end_id}
        ends = list(tokenizer.end_ids)
        return {"bos_token_id": tokenizer.begin_id, "eos_token_id": ends if len(ends) > 1 else ends[0]}


def _with_rows(table: np.ndarray, axis: int, num_ids: int, num_rows: int) -> np.ndarray:
    """Returns a table with `num_rows` along an axis: its first `num_ids` as they are, and the mean of these behind."""
    kept = np.take(table, np.arange(num_ids), axis)  # published tables may have more rows
    new = np.repeat(kept.mean(axis=axis, keepdims=True), num_rows - num_ids, axis)
    return np.concatenate([kept, new], axis)


def window_of(folder: str) -> int:
    """Returns the window of the model in a folder of any layout, in tokens, without loading its weights.

    Raises:
      ValueError: as in `TrainedGenerator.load`.
    """
    return layouts.describe(folder).config.max_positions


def tokenizer_of(folder: str) -> CausalTokenizer:
    """Returns the tokenizer of the model in a folder of any layout or a GGUF file, without loading its weights.

    Raises:
      ValueError: as in `TrainedGenerator.load`.
      FileNotFoundError: it has no tokenizer.
    """
    layout, config, _ = layouts.describe(folder)
    if layout == layouts.GGUF:
        published = gguf_files.read(folder, with_tensors=False)
        return DecoderTokenizer.from_json(published.tokenizer, published.tokenizer_config, folder)
    return layouts.load_tokenizer(config, folder)
