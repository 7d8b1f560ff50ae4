"""The generator as a SavedModel: `begin` and `advance`, see decoding.py, with plain tensors as inputs and outputs.

The folder: config.json, vocab.json, merges.txt, tokenizer_config.json and saved_model/.
"""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from data_pipeline import files
from docproduct.layers import int8
from docproduct.layers.checkpoints import variables_by_name
from docproduct.layers.gpt2 import GPT2
from docproduct.systems.generator.decoding import Decoder, State
from docproduct.systems.generator.folder import TrainedGenerator, built
from docproduct.systems.generator.sampling import Sampling

KIND = "docproduct exported generator"
FORMAT = 2
CONFIG_FILE = "config.json"
MODEL_FOLDER = "saved_model"
PRECISIONS = ("float32", "int8")
_SAMPLING = Sampling(
    temperature=tf.TensorSpec([], tf.float32),
    top_k=tf.TensorSpec([], tf.int32),
    top_p=tf.TensorSpec([], tf.float32),
    repetition_penalty=tf.TensorSpec([], tf.float32),
    seeds=tf.TensorSpec([None], tf.int32),
)._asdict()


def export(generator: TrainedGenerator, folder: str, precision: str = "float32", overwrite: bool = False) -> None:
    """Writes the generator so that `Writer`, or any TensorFlow program, can use it; whole or not at all.

    Args:
      generator: in float32.
      folder: where to write.
      precision: float32, or int8: dense layers with int8 weights, for x86 processors.
      overwrite: replace `folder`.

    Raises:
      ValueError: an unknown precision, another dtype, cross-attention, or int8 where TensorFlow has no oneDNN.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    if precision == "int8" and not int8.available():
        raise ValueError("int8 needs TensorFlow on an x86 processor, with oneDNN. Take float32.")
    if generator.gpt2.dtype_policy.name != "float32":
        raise ValueError(f"The generator is {generator.gpt2.dtype_policy.name}; expected float32. Load it again so.")
    if generator.gpt2.config.cross_attention:
        raise ValueError("The generator attends to an encoder; expected one without cross-attention.")
    with files.whole_folder(folder, overwrite, KIND, CONFIG_FILE) as partial:
        config = {"kind": KIND, "format": FORMAT, "precision": precision, "end_id": generator.end_id}
        config |= dataclasses.asdict(generator.gpt2.config)
        config["prompt"] = generator.prompt and dataclasses.asdict(generator.prompt)
        files.write_json(os.path.join(partial, CONFIG_FILE), config)
        generator.tokenizer.save(partial)
        gpt2 = generator.gpt2 if precision == "float32" else _quantized(generator.gpt2)
        _save(gpt2, generator.end_id, os.path.join(partial, MODEL_FOLDER))


def kept_names(num_layers: int) -> list[str]:
    """Returns the parts of the state that stay in a session: keys and values."""
    return [f"{part}_{i}" for i in range(num_layers) for part in ("key", "value")]


def state_signature(gpt2: GPT2) -> State:
    """Returns what the state of a `Decoder` is made of."""
    config = gpt2.config
    cache = tf.TensorSpec([None, config.num_heads, None, config.width // config.num_heads], gpt2.compute_dtype)
    return {
        "ids": tf.TensorSpec([None, None], tf.int32),
        "padding": tf.TensorSpec([None], tf.int32),
        "answer": tf.TensorSpec([], tf.int32),
        "next": tf.TensorSpec([], tf.int32),
        "finished": tf.TensorSpec([None], tf.bool),
        "passes": tf.TensorSpec([], tf.int32),
    } | dict.fromkeys(kept_names(config.num_layers), cache)


def live(generator: TrainedGenerator) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Returns `begin` and `advance` of a generator as it is in this process."""
    return _functions(generator.gpt2, generator.end_id)


def _save(gpt2: GPT2, end_id: int, folder: str) -> None:
    module = tf.Module()
    # TensorFlow's own variables: of Keras' ones a session would restore copies.
    module.weights = [variable.value for variable in gpt2.weights]
    tf.saved_model.save(module, folder, _functions(gpt2, end_id))


def _functions(gpt2: GPT2, end_id: int) -> dict[str, tf.types.experimental.ConcreteFunction]:
    decoder = Decoder(gpt2, end_id)
    state = state_signature(gpt2)

    def sampling(inputs: State) -> Sampling:
        return Sampling(*(inputs.pop(name) for name in _SAMPLING))

    def begin(**inputs: tf.Tensor) -> State:
        return decoder.begin(how=sampling(inputs), **inputs)

    def advance(**inputs: tf.Tensor) -> State:
        parts = {name: inputs.pop(name) for name in state}
        return decoder.advance(parts, how=sampling(inputs), **inputs)

    scalar = tf.TensorSpec([], tf.int32)
    prompts = {
        "prompt_ids": tf.TensorSpec([None, None], tf.int32),
        "prompt_lengths": tf.TensorSpec([None], tf.int32),
        "max_tokens": scalar,
    }
    steps = {"num_tokens": scalar, "lookup": tf.TensorSpec([], tf.bool)}
    return {
        "begin": _traced(begin, prompts | _SAMPLING),
        "advance": _traced(advance, state | steps | _SAMPLING),
    }


def _traced(function: Callable[..., State], signature: State) -> tf.types.experimental.ConcreteFunction:
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in signature.items()}
    return tf.function(function, autograph=False).get_concrete_function(**named)


def _quantized(gpt2: GPT2) -> GPT2:
    """Returns the same model with int8 weights in its dense layers and its head; the rest is as it was."""
    layers: list[int8.Int8Dense] = []

    def dense(*arguments: Any) -> int8.Int8Dense:
        layers.append(int8.dense(*arguments))
        return layers[-1]

    result = GPT2(gpt2.config, dense=dense, tied_head=False)

    @tf.function(autograph=False)  # int8 products exist in graphs only
    def trace() -> None:
        built(result)

    trace.get_concrete_function()
    values = variables_by_name(gpt2)
    result.head.take(gpt2.token_embedding.embeddings.numpy().T, np.zeros(gpt2.config.vocab_size, np.float32))
    layers.remove(result.head)
    for layer in layers:
        name = layer.path.removeprefix(f"{result.path}/")
        layer.take(*(values.pop(f"{name}/{part}").numpy() for part in ("kernel", "bias")))
    variables = variables_by_name(result)
    for name, value in values.items():  # embeddings and norms
        variables[name].assign(value)
    return result
