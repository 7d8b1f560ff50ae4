"""Reads the head of a masked language model beside a published encoder, and names the weights as Hugging Face does."""

import os

import numpy as np
from absl import logging

from docproduct.layers import checkpoints
from docproduct.layers.bert import hugging_face_sources
from docproduct.layers.checkpoints import Source
from docproduct.systems.masked_language_model.model import GOOGLE_HEAD, HUGGING_FACE_HEAD, MaskedLanguageModel

_PREFIX = "bert."
_HEAD = "cls.predictions."
_DECODER = "cls.predictions.decoder.weight"
_DECODER_BIAS = "cls.predictions.decoder.bias"
_BIAS = "cls.predictions.bias"


def read_head(folder: str) -> tuple[dict[str, np.ndarray], dict[str, Source]] | None:
    """Returns the tensors of a folder's head, and those that make up each variable; None if there is no head.

    A head with an output table of its own is left out: ours is tied to the token table.

    Args:
      folder: in Google's or Hugging Face's layout.

    Raises:
      ValueError: the weights cannot be read.
    """
    there = os.listdir(folder)
    if not any(name.startswith("model.safetensors") for name in there):
        tensors = checkpoints.read_tf1(folder, ("cls/predictions/",))
        return (tensors, GOOGLE_HEAD) if tensors else None
    everything = checkpoints.read_safetensors(folder)
    tensors = {name: value for name, value in everything.items() if name.startswith(_HEAD)}
    # Old conversions from TensorFlow call the scale gamma and the shift beta.
    renamed = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))
    for before, after in renamed:
        tensors = {name.replace(before, after): value for name, value in tensors.items()}
    if not tensors:
        return None
    table = next((everything[name] for name in everything if name.endswith("embeddings.word_embeddings.weight")), None)
    decoder, decoder_bias = tensors.pop(_DECODER, None), tensors.pop(_DECODER_BIAS, None)
    if decoder is not None and not np.array_equal(decoder, table):
        logging.warning("The head in %s has a token table of its own: a new head is trained.", folder)
        return None
    if decoder_bias is not None:
        tensors.setdefault(_BIAS, decoder_bias)  # the same, written twice or under this name alone
    return tensors, HUGGING_FACE_HEAD


def hugging_face_tensors(model: MaskedLanguageModel) -> dict[str, np.ndarray]:
    """Returns the weights under the names of Hugging Face's BertForMaskedLM; its tied table is left out, as there."""
    encoder = checkpoints.named_as(model.bert, hugging_face_sources(model.config))
    return {f"{_PREFIX}{name}": value for name, value in encoder.items()} | checkpoints.named_as(
        model.head, HUGGING_FACE_HEAD
    )
