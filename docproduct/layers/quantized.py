"""A decoder with int8 weights."""

from docproduct.layers.checkpoints import variables_by_name
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.int8 import Int8Blocks
from docproduct.layers.llama import Llama

_TABLE, _HEAD = "token_embedding/embeddings", "head/kernel"


def quantized(decoder: GPT2 | Llama) -> GPT2 | Llama:
    """Returns a model with the same weights, as int8 in its dense layers and its head, for inference inside a graph."""
    blocks = Int8Blocks()
    result = type(decoder)(decoder.config, blocks=blocks).make_variables()
    values = {name: variable.numpy() for name, variable in variables_by_name(decoder).items()}
    values.setdefault(_HEAD, values[_TABLE].T)
    for layer in blocks.dense_layers:
        name = layer.path.removeprefix(f"{result.path}/")
        layer.take(values.pop(f"{name}/kernel"), values.pop(f"{name}/bias", None))
    variables = variables_by_name(result)
    for name, value in values.items():  # embeddings and norms
        variables[name].assign(value)
    return result
