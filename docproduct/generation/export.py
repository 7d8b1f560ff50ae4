"""The generator as a SavedModel, with plain tensors as inputs and outputs.

    generate   prompts -> all that is written; the default signature of a server
    begin      prompts -> state, see decoding.py
    advance    state -> state, some tokens later: for a text that is shown while it grows

The version's own files: config.json, vocab.json, merges.txt, tokenizer_config.json.
"""

import dataclasses
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from docproduct.exports import saved_models
from docproduct.generation.decoding import PROPOSED, Decoder, State
from docproduct.generation.sampling import GenerationSettings, Sampling
from docproduct.layers import int8
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_int8 import quantized
from docproduct.systems.generator.folder import TrainedGenerator

KIND = "docproduct exported generator"
FORMAT = 6
PRECISIONS = ("float32", "int8")
_SAMPLING = Sampling(
    temperature=tf.TensorSpec([], tf.float32),
    top_k=tf.TensorSpec([], tf.int32),
    top_p=tf.TensorSpec([], tf.float32),
    repetition_penalty=tf.TensorSpec([], tf.float32),
    no_repeat_ngram_size=tf.TensorSpec([], tf.int32),
    seeds=tf.TensorSpec([None], tf.int32),
)._asdict()
_PROMPTS = {
    "prompt_ids": tf.TensorSpec([None, None], tf.int32),
    "prompt_lengths": tf.TensorSpec([None], tf.int32),
    "max_tokens": tf.TensorSpec([], tf.int32),
}


def export(generator: TrainedGenerator, export_dir: str, precision: str = "float32") -> str:
    """Writes the next version of an export, for `GenerationSession` or any TensorFlow program; whole or not at all.

    Args:
      generator: in float32.
      export_dir: holds the versions; see saved_models.py.
      precision: float32, or int8: dense layers with int8 weights, for x86 processors.

    Returns:
      The version's folder.

    Raises:
      ValueError: an unknown precision, another dtype, cross-attention, or int8 where this machine cannot compute it.
      FileExistsError: `export_dir` holds something else.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    if precision == "int8" and not int8.available():
        raise ValueError(f"int8 needs {int8.NEEDED}; this machine lacks them. Export in float32.")
    if generator.gpt2.dtype_policy.name != "float32":
        raise ValueError(f"The generator is {generator.gpt2.dtype_policy.name}; expected float32. Load it again so.")
    if generator.gpt2.config.cross_attention:
        raise ValueError("The generator attends to an encoder; expected one without cross-attention.")
    with saved_models.new_version(export_dir, KIND) as partial:
        gpt2 = generator.gpt2 if precision == "float32" else quantized(generator.gpt2)
        _save(Decoder(gpt2, generator.end_id, generator.suppressed_ids), partial)
        own = saved_models.own_files(partial)
        config = {"kind": KIND, "format": FORMAT, "precision": precision, "end_id": generator.end_id}
        config |= dataclasses.asdict(generator.gpt2.config)
        config["prompt"] = generator.prompt and dataclasses.asdict(generator.prompt)
        files.write_json(os.path.join(own, saved_models.CONFIG_FILE), config)
        generator.tokenizer.save(own)
    return saved_models.newest(export_dir)


def kept_names(num_layers: int) -> list[str]:
    """Returns the parts of the state that stay in a session: keys and values."""
    return [f"{part}_{i}" for i in range(num_layers) for part in ("key", "value")]


def state_signature(gpt2: GPT2) -> State:
    """Returns what the state of a `Decoder` is made of."""
    config = gpt2.config
    cache = tf.TensorSpec([None, config.num_heads, None, config.width // config.num_heads], gpt2.compute_dtype)
    caches = dict.fromkeys(kept_names(config.num_layers), cache)
    return {
        "ids": tf.TensorSpec([None, None], tf.int32),
        "padding": tf.TensorSpec([None], tf.int32),
        "answer": tf.TensorSpec([], tf.int32),
        "next": tf.TensorSpec([], tf.int32),
        "finished": tf.TensorSpec([None], tf.bool),
        "passes": tf.TensorSpec([], tf.int32),
    } | caches


def live(generator: TrainedGenerator) -> saved_models.Functions:
    """Returns `begin` and `advance` of a generator as it is in this process."""
    return _functions(Decoder(generator.gpt2, generator.end_id, generator.suppressed_ids))


def _save(decoder: Decoder, folder: str) -> None:
    gpt2, module = decoder.gpt2, tf.Module()
    # TensorFlow's own variables: of Keras' ones a session would restore copies.
    module.weights = [variable.value for variable in gpt2.weights]
    functions = _functions(decoder)
    generate = _generate(functions, gpt2.config.max_positions, decoder.end_id)
    generate = saved_models.traced(generate, _PROMPTS | _SAMPLING)
    default = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    saved_models.save(folder, module, functions | {"generate": generate, default: generate}, _requests(gpt2, default))


def _functions(decoder: Decoder) -> saved_models.Functions:
    state = state_signature(decoder.gpt2)

    def sampling(inputs: State) -> Sampling:
        return Sampling(*(inputs.pop(name) for name in _SAMPLING))

    def begin(**inputs: tf.Tensor) -> State:
        return decoder.begin(how=sampling(inputs), **inputs)

    def advance(**inputs: tf.Tensor) -> State:
        before = {name: inputs.pop(name) for name in state}
        return decoder.advance(before, how=sampling(inputs), **inputs)

    steps = {"num_tokens": tf.TensorSpec([], tf.int32), "lookup": tf.TensorSpec([], tf.bool)}
    return {
        "begin": saved_models.traced(begin, _PROMPTS | _SAMPLING),
        "advance": saved_models.traced(advance, state | steps | _SAMPLING),
    }


def _generate(functions: saved_models.Functions, window: int, end_id: int) -> Callable[..., State]:
    """Returns a function that writes whole texts, with `begin` and `advance`, which are not traced again.

    Its inputs are those of `Decoder.begin`; max_tokens is cut where the window is full for the longest prompt. Its
    outputs, with N tokens in the longest of B texts: ids [B, N] int32, the end token behind a text that ended; lengths
    [B] int32, without the end token, so that a text of length N has not ended.
    """

    def generate(prompt_ids: tf.Tensor, prompt_lengths: tf.Tensor, max_tokens: tf.Tensor, **how: tf.Tensor) -> State:
        with tf.control_dependencies(_checks(prompt_ids, prompt_lengths, max_tokens, how["seeds"], window)):
            longest = tf.reduce_max(prompt_lengths)
            prompt_ids = prompt_ids[:, :longest]
        room = tf.minimum(max_tokens, window - longest)
        state = functions["begin"](prompt_ids=prompt_ids, prompt_lengths=prompt_lengths, max_tokens=room, **how)
        state = functions["advance"](num_tokens=room - 1, lookup=tf.constant(True), **state, **how)
        ids = state["ids"][:, state["answer"] : state["next"] + 1]  # [B, N]
        unended = tf.math.cumprod(tf.cast(tf.not_equal(ids, end_id), tf.int32), axis=1)
        return {"ids": ids, "lengths": tf.reduce_sum(unended, axis=1)}

    return generate


def _checks(
    prompt_ids: tf.Tensor, prompt_lengths: tf.Tensor, max_tokens: tf.Tensor, seeds: tf.Tensor, window: int
) -> list[tf.Operation]:
    """Returns operations that let a request fail, with a message, if it would read or write beside its texts."""
    longest = tf.minimum(tf.shape(prompt_ids)[1], window - 1)
    num_prompts, num_texts = tf.shape(prompt_ids)[0], tf.size(seeds)
    rows = tf.stack([tf.size(prompt_lengths), num_texts // num_prompts * num_prompts])
    expected = tf.stack([num_prompts, tf.maximum(num_texts, num_prompts)])
    limit = f"A prompt is longer than its row of prompt_ids or than {window - 1}: the window holds the answer, too."
    counts = "Expected a length for each prompt, and a seed for each text: as many as prompts, or twice as many, ..."
    check = tf.debugging
    return [
        check.assert_positive(max_tokens, message="max_tokens is 0 or less; expected 1 or more."),
        check.assert_positive(prompt_lengths, message="prompt_lengths has a 0; expected 1 or more tokens each."),
        check.assert_less_equal(prompt_lengths, longest, message=limit),
        check.assert_equal(rows, expected, message=counts),
    ]


def _requests(gpt2: GPT2, default: str) -> saved_models.Requests:
    """Returns a request for each signature: one token after a prompt of one, or after what `begin` made of it."""
    how = GenerationSettings().choice() | {"seeds": [0]}
    prompt = {"prompt_ids": [[0]], "prompt_lengths": [1], "max_tokens": 2} | how
    slots = 1 + 2 + PROPOSED
    state = {"ids": np.zeros([1, slots]), "padding": [0], "answer": 1, "next": 1, "finished": [False], "passes": 1}
    for name, spec in state_signature(gpt2).items():
        if name not in state:  # keys and values
            state[name] = np.zeros([1 if i == 0 else size or slots for i, size in enumerate(spec.shape)])
    return {
        "begin": prompt,
        "advance": state | {"num_tokens": 1, "lookup": True} | how,
        "generate": prompt,
        default: prompt,
    }
