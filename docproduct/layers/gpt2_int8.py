"""A GPT-2 with int8 weights."""

import numpy as np
import tensorflow as tf

from docproduct.layers.checkpoints import variables_by_name
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.int8 import Int8Blocks


def quantized(gpt2: GPT2) -> GPT2:
    """Returns a model with the same weights, as int8 in its dense layers and its head, for inference inside a graph."""
    blocks = Int8Blocks()
    result = GPT2(gpt2.config, blocks=blocks)

    @tf.function(autograph=False)  # int8 products exist in graphs only
    def trace() -> None:
        result.make_variables()

    trace.get_concrete_function()
    values = {name: variable.numpy() for name, variable in variables_by_name(gpt2).items()}
    values["head/kernel"] = values["token_embedding/embeddings"].T
    values["head/bias"] = np.zeros(gpt2.config.vocab_size, np.float32)
    for layer in blocks.dense_layers:
        name = layer.path.removeprefix(f"{result.path}/")
        layer.take(*(values.pop(f"{name}/{part}") for part in ("kernel", "bias")))
    variables = variables_by_name(result)
    for name, value in values.items():  # embeddings and norms
        variables[name].assign(value)
    return result
