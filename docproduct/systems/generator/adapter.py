"""An adapter of a language model as a folder: what fine-tuning with LoRA adds to the model, which stays as it is.

    config.json          rank, alpha and targets; the base model's fingerprint; how prompts are made; versions
    weights.safetensors  the two narrow matrices of each adapted layer

The tokenizer is the base model's. See layers/lora.py.
"""

import dataclasses
import itertools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipeline.folders import files
from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.settings import from_json
from docproduct import model_folder
from docproduct.layers import checkpoints, lora
from docproduct.layers.lora import LoraBlocks, LoraSettings
from docproduct.model_folder import CONFIG_FILE, WEIGHTS_FILE
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.layouts import architecture_of

KIND = "docproduct generator adapter"
FORMAT = 1


class AdaptedGenerator(TrainedGenerator):
    """A language model with an adapter, whose weights are the only ones that are trained and saved.

    Attributes:
      settings: of the adapter.
      base: fingerprint of the model without it.
    """

    settings: LoraSettings
    base: str

    @classmethod
    def adapt(cls, base: TrainedGenerator, settings: LoraSettings, dtype: str, seed: int = 0) -> "AdaptedGenerator":
        """Returns a copy of a model with an untrained adapter, which changes nothing yet.

        Args:
          base: the model.
          settings: of the adapter.
          dtype: Keras dtype policy.
          seed: of the adapter's random weights, and of dropout.
        """
        config = base.decoder.config
        blocks = LoraBlocks(itertools.count(1_000 * seed), dtype, settings)
        decoder = architecture_of(config).decoder(config, seed, dtype, blocks).make_variables()
        weights = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(base.decoder).items()}
        checkpoints.assign(decoder, weights, "the base model", lambda name: not lora.is_adapter(name))
        lora.train_adapters_only(decoder)
        result = cls(decoder, base.tokenizer, base.prompt, base.chat_template)
        result.settings, result.base, result._blocks = settings, base.fingerprint(), blocks
        return result

    @classmethod
    def load_on(cls, base: TrainedGenerator, folder: str) -> "AdaptedGenerator":
        """Loads an adapter on the model that it was trained on.

        Raises:
          ValueError: the folder holds no adapter, or one of another model.
        """
        path = os.path.join(folder, CONFIG_FILE)
        stored = files.read_json(path) or {}
        if (stored.get("kind"), stored.get("format")) != (KIND, FORMAT):
            raise ValueError(
                f"{folder} holds no adapter of format {FORMAT}. Expected what train_gpt2.py --lora_rank wrote."
            )
        result = cls.adapt(base, from_json(LoraSettings, stored["lora"], path), base.decoder.dtype_policy.name)
        if result.base != stored["base"]:
            raise ValueError(
                f"The adapter in {folder} was trained on another model (fingerprint {stored['base'][:12]}; received "
                f"{result.base[:12]}). Give the one that it was trained on with --base_dir."
            )
        result.prompt = stored["prompt"] and from_json(PromptSettings, stored["prompt"], path)
        result.load_weights(folder)
        return result

    def merged(self) -> TrainedGenerator:
        """Returns the same model without an adapter: its products are added to the weights."""
        config, dtype = self.decoder.config, self.decoder.dtype_policy.name
        result = TrainedGenerator.make(config, self.tokenizer, dtype=dtype, prompt=self.prompt, random=False)
        weights = lora.merged_weights(self.decoder, self._blocks.adapted)
        checkpoints.assign(result.decoder, weights, "the model with its adapter")
        return result

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` is the record of how they are made."""
        config = {"kind": KIND, "format": FORMAT, "lora": dataclasses.asdict(self.settings), "base": self.base}
        config |= {"prompt": self.prompt and dataclasses.asdict(self.prompt), **training}
        files.write_json(os.path.join(folder, CONFIG_FILE), config | model_folder.provenance())

    def save_weights(self, folder: str, dtype: Any = np.float32) -> None:
        """Writes the adapter's weights, in float32 or in float16, which is half as large."""
        checkpoints.save(self.decoder, os.path.join(folder, WEIGHTS_FILE), lora.is_adapter, dtype)

    def load_weights(self, folder: str) -> None:
        """Sets the adapter's weights to those in a folder.

        Raises:
          ValueError: they are missing, damaged or of another adapter.
        """
        weights = checkpoints.read_safetensors(folder, WEIGHTS_FILE)
        checkpoints.assign(self.decoder, weights, os.path.join(folder, WEIGHTS_FILE), lora.is_adapter)
