"""Loads published encoders: folders in Google's, Hugging Face's or sentence-transformers' layout."""

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
    """Returns a bi-encoder with new heads on a published encoder, and the tokenizer.

    Args:
      folder: A folder in Google's or Hugging Face's layout, with or without sentence-transformers' files.
      pooling: How token states become a vector. Defaults to the folder's pooling, else mean.
      pooled_layer: The layer whose states are pooled: -1 for the last, -2 for the one before.
      max_tokens: Longest text. Defaults to the length in a sentence-transformers folder, and to 256 or the encoder's
        positions, whichever is less, for other folders.
      at_most: Instead of max_tokens: this many, or the encoder's positions if those are fewer.
      lower_case: Whether to lower-case. Defaults to the folder's setting, else to a guess from the vocabulary.
      seed: Random seed of dropout and of the heads' inner weights.
      dtype: Keras dtype policy of the encoder.
      dropout: Dropout rate inside the encoder. Defaults to the folder's.
      **config: Other fields of RetrieverConfig.

    Raises:
      ValueError: The folder holds no encoder, or its files do not match.
    """
    if not os.path.isdir(folder):
        raise ValueError(
            f"There is no folder {folder}. Expected a model folder on this machine: names on a hub are not looked up."
        )
    modules = read_modules(folder, pooling)
    encoder = encoder_folder(folder)
    bert, tensors, sources = read_bert(encoder, pooled_layer)
    # config.json may be wrong about padding: multilingual-e5-small says 0 and pads with 1.
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
    """Returns the longest text in tokens: `at_most` or 256, or the encoder's positions if those are fewer."""
    return min(at_most or 256, bert.max_positions)
