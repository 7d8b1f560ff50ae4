"""A trained masked language model as a folder, which loads wherever a published encoder does.

config.json          a BERT's configuration, and the record of the training beside it
model.safetensors    weights under the names of Hugging Face's BertForMaskedLM
vocab.txt or tokenizer.json, tokenizer_config.json
modules.json, 1_Pooling ...   if training started from a folder of sentence-transformers: its modules behind the encoder
metrics.json  learning_curve.png  README.md
"""

import dataclasses
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

import safetensors.numpy

from data_pipeline.folders import files
from data_pipeline.prompts.encoder_prompts import PROMPTS_FILE, EncoderPrompts
from data_pipeline.tokenizers import Tokenizer
from data_pipeline.tokenizers.loading import MODULES_FILE, encoder_folder, sentence_config
from data_pipeline.tokenizers.wordpiece import TOKENIZER_CONFIG_FILE
from docproduct import model_folder
from docproduct.layers import checkpoints
from docproduct.layers.bert import BertConfig
from docproduct.model_folder import CONFIG_FILE
from docproduct.systems.masked_language_model.checkpoint import hugging_face_tensors
from docproduct.systems.masked_language_model.model import MaskedLanguageModel
from docproduct.systems.retriever.folder import check_vocabulary
from docproduct.systems.retriever.sentence_modules import read_modules

KIND = "docproduct masked language model"
FORMAT = 1
WEIGHTS_FILE = "model.safetensors"
_SENTENCE_CONFIG_FILE = "sentence_bert_config.json"
_CARRIED = ("mask_token", "unk_token", "cls_token", "sep_token", "bos_token", "eos_token", "model_max_length")


class TrainedMaskedModel:
    """A masked language model with its tokenizer.

    Attributes:
      model: encoder and head.
      tokenizer: its tokenizer.
      sizes: of the encoder, as they are written: with the dropout that it had before this training.
      prompts: what the encoder expects before a text; training adds none.
      encoder_dir: the folder that training started from; None: from random weights.
    """

    def __init__(
        self,
        model: MaskedLanguageModel,
        tokenizer: Tokenizer,
        sizes: BertConfig,
        prompts: EncoderPrompts = EncoderPrompts(),
        encoder_dir: str | None = None,
    ):
        """Joins the parts.

        Raises:
          ValueError: the tokenizer has more ids than the model has rows, or another padding.
        """
        check_vocabulary(tokenizer, model.config)
        self.model, self.tokenizer, self.sizes = model, tokenizer, sizes
        self.prompts, self.encoder_dir = prompts, encoder_dir

    def fingerprint(self) -> str:
        """Returns a hash of weights, sizes and tokenizer."""
        sizes = json.dumps(dataclasses.asdict(self.model.config), sort_keys=True)
        return checkpoints.fingerprint(self.model, sizes, self.tokenizer.fingerprint)

    def save_config(self, folder: str, training: Mapping[str, Any]) -> None:
        """Writes everything but the weights; `training` describes the training."""
        published = {"architectures": ["BertForMaskedLM"]} | self.sizes.to_hugging_face()
        record = {"kind": KIND, "format": FORMAT, **training} | model_folder.provenance()
        files.write_json(os.path.join(folder, CONFIG_FILE), published | record)
        self.tokenizer.save(folder)
        if self.encoder_dir is None:
            return
        _carry_tokenizer_config(encoder_folder(self.encoder_dir), folder)
        if os.path.isfile(os.path.join(self.encoder_dir, MODULES_FILE)):
            _copy_modules(self.encoder_dir, folder)
        if os.path.isfile(prompts := os.path.join(self.encoder_dir, PROMPTS_FILE)):
            shutil.copyfile(prompts, os.path.join(folder, PROMPTS_FILE))
        else:
            self.prompts.save(folder)

    def save_weights(self, folder: str) -> None:
        """Writes the weights."""
        # transformers reads the framework's name from the file.
        data = safetensors.numpy.save(hugging_face_tensors(self.model), {"format": "pt"})
        with files.whole_file(os.path.join(folder, WEIGHTS_FILE)) as partial, open(partial, "wb") as file:
            file.write(data)


def _carry_tokenizer_config(source: str, folder: str) -> None:
    """Adds the names of special tokens and the longest text to the tokenizer's configuration."""
    before = files.read_json(os.path.join(source, TOKENIZER_CONFIG_FILE)) or {}
    path = os.path.join(folder, TOKENIZER_CONFIG_FILE)
    carried = {name: before[name] for name in _CARRIED if name in before}
    files.write_json(path, carried | files.read_json(path))


def _copy_modules(source: str, folder: str) -> None:
    """Copies the modules of a sentence-transformers folder; the encoder stands in the folder itself."""
    modules = []
    for place, module in enumerate(files.read_json(os.path.join(source, MODULES_FILE))):
        kind = module["type"].rpartition(".")[2]
        path = "" if kind == "Transformer" else f"{place}_{kind}"
        before = os.path.join(source, module["path"])
        if path and os.path.isdir(before):
            shutil.copytree(before, os.path.join(folder, path))
        elif path:
            os.makedirs(os.path.join(folder, path))  # an empty folder that was lost, of a module without settings
        modules.append(module | {"path": path})
    files.write_json(os.path.join(folder, MODULES_FILE), modules)
    config, read = sentence_config(encoder_folder(source)), read_modules(source)
    longest = {"max_seq_length": read.max_tokens} if read and read.max_tokens else {}
    files.write_json(os.path.join(folder, _SENTENCE_CONFIG_FILE), config | longest)
