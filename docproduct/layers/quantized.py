"""A decoder with int8 weights."""

import warnings

import tensorflow as tf

from docproduct.layers.checkpoints import variables_by_name
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.int8 import Int8Blocks
from docproduct.layers.llama import Llama

_TABLE, _HEAD = "token_embedding/embeddings", "head/kernel"


def quantized(decoder: GPT2 | Llama) -> GPT2 | Llama:
    """Returns a model with the same weights, as int8 in its dense layers and its head, for inference inside a graph."""
    blocks = Int8Blocks()
    result = type(decoder)(decoder.config, blocks=blocks)

    @tf.function(autograph=False)  # int8 products exist in graphs only
    def trace() -> None:
        if not result.built:
            result.make_variables()

    with warnings.catch_warnings():  # Keras warns of a GPT-2, which makes its variables when it is first run
        warnings.filterwarnings("ignore", message=".*`build\\(\\)` was called", category=UserWarning)
        trace.get_concrete_function()
    values = {name: variable.numpy() for name, variable in variables_by_name(decoder).items()}
    values.setdefault(_HEAD, values[_TABLE].T)
    for layer in blocks.dense_layers:
        name = layer.path.removeprefix(f"{result.path}/")
        layer.take(values.pop(f"{name}/kernel"), values.pop(f"{name}/bias", None))
    variables = variables_by_name(result)
    for name, value in values.items():  # embeddings and norms
        variables[name].assign(value)
    return result
