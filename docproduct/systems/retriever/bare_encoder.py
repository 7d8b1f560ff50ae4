"""Encoders that others trained: folders in Google's, Hugging Face's and sentence-transformers' layout."""

import dataclasses
import os
from typing import Any

from data_pipeline.tokenizers import Tokenizer, load_tokenizer
from data_pipeline.tokenizers.loading import encoder_folder
from docproduct.layers import checkpoints
from docproduct.layers.bert import BertConfig
from docproduct.layers.bert_checkpoints import read_bert
from docproduct.systems.retriever.model import Retriever, RetrieverConfig
from docproduct.systems.retriever.sentence_modules import SentenceModules, read_modules


def load_encoder(
    folder: str,
    pooling: str | None = None,
    pooled_layer: int = -1,
    max_tokens: int | None = None,
    at_most: int | None = None,
    lower_case: bool | None = None,
    seed: int = 0,
    dtype: str = "float32",
    dropout: float | None = None,
    **config: Any,
) -> tuple[Retriever, Tokenizer]:
    """Returns a bi-encoder made from a bare encoder, whose heads are new, and its tokenizer.

    Args:
      folder: Google's or Hugging Face's, with sentence-transformers' files or without.
      pooling: None: what a sentence-transformers folder says, else mean.
      pooled_layer: the layer whose states are pooled: -1 the last, -2 the one before it.
      max_tokens: None: what a sentence-transformers folder says, or what its encoder can; of another folder 256 or what
        the encoder can.
      at_most: in place of max_tokens: so many, or what the encoder can.
      lower_case: None: what the folder says, else what the vocabulary looks like.
      seed: of dropout and of the heads' inner weights.
      dtype: Keras dtype policy of the encoder.
      dropout: rate inside the encoder; None: what the folder says.
      **config: further settings of RetrieverConfig.

    Raises:
      ValueError: no encoder there, or its files do not fit together.
    """
    if not os.path.isdir(folder):
        raise ValueError(
            f"There is no folder {folder}. Expected the folder of a model; names on a hub are not looked up: fetch the "
            "model first."
        )
    modules = read_modules(folder, pooling)
    encoder = encoder_folder(folder)
    bert, tensors, sources = read_bert(encoder, pooled_layer)
    # Only the tokenizer knows: multilingual-e5-small has 0 in its config.json, and pads with 1.
    tokenizer = load_tokenizer(folder, lower_case)
    bert = dataclasses.replace(bert, pad_id=tokenizer.pad_id)
    if max_tokens is None and modules and not at_most:
        max_tokens = longest_text(bert, modules.max_tokens or bert.max_positions)
    modules = modules or SentenceModules()
    settings = RetrieverConfig(
        bert.with_dropout(dropout),
        pooling=pooling or modules.pooling or "mean",
        max_tokens=longest_text(bert, at_most) if max_tokens is None else max_tokens,
        dense=modules.dense,
        **config,
    )
    model = Retriever(settings, seed, dtype)
    checkpoints.assign_from(model.bert, tensors, sources, encoder)
    for layer, values in zip(model.dense, modules.weights, strict=True):
        checkpoints.assign(layer, values, f"{folder}, {layer.name}")
    return model, tokenizer


def longest_text(bert: BertConfig, at_most: int | None = None) -> int:
    """Returns the longest text in tokens: 256 if nobody says otherwise, or what the encoder can."""
    return min(at_most or 256, bert.max_positions)
