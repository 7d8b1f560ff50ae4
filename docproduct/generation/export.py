"""A causal language model as a SavedModel, with plain tensors as inputs and outputs.

    generate   prompts -> whole answers; the default signature of a server
    begin      prompts -> state, see decoding.py
    advance    state -> state, some tokens later: for a text that is shown while it grows

A model that attends to an encoder takes its states [P, E, D of the encoder] and their mask [P, E] with the prompts.

The version's own files: config.json and the tokenizer's.
"""

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline.folders import files
from docproduct.exports import saved_models
from docproduct.generation.causal_lm import CausalLM, SessionConfig, encoder_width
from docproduct.generation.decoding import Decoder, State
from docproduct.generation.lookup import NUM_PROPOSED, is_any
from docproduct.generation.sampling import GenerationSettings, Sampling

KIND = "docproduct exported generator"
FORMAT = 7
PRECISIONS = ("float32", "int8")
_SAMPLING = Sampling(
    temperature=tf.TensorSpec([], tf.float32),
    top_k=tf.TensorSpec([], tf.int32),
    top_p=tf.TensorSpec([], tf.float32),
    repetition_penalty=tf.TensorSpec([], tf.float32),
    no_repeat_ngram_size=tf.TensorSpec([], tf.int32),
    biased=tf.TensorSpec([], tf.bool),
    seeds=tf.TensorSpec([None], tf.int32),
)._asdict()
_PROMPTS = {
    "prompt_ids": tf.TensorSpec([None, None], tf.int32),
    "prompt_lengths": tf.TensorSpec([None], tf.int32),
    "max_tokens": tf.TensorSpec([], tf.int32),
}
_ENCODER = ("encoder_states", "encoder_mask")


def _prompts(model: CausalLM) -> dict[str, tf.TensorSpec]:
    """Returns the inputs of a prompt, with those of an encoder if the model has one."""
    width = encoder_width(model)
    if width is None:
        return _PROMPTS
    states = tf.TensorSpec([None, None, width], tf.float32)
    return _PROMPTS | {"encoder_states": states, "encoder_mask": tf.TensorSpec([None, None], tf.int32)}


def export(model: CausalLM, export_dir: str, precision: str = "float32") -> str:
    """Writes the next version of an export, for `GenerationSession` or any TensorFlow program; whole or not at all.

    Args:
      model: in float32.
      export_dir: holds the versions; see saved_models.py.
      precision: float32, or int8: dense layers with int8 weights, for x86 processors.

    Returns:
      The version's folder.

    Raises:
      ValueError: an unknown precision, or the model or this machine has no such form.
      FileExistsError: `export_dir` holds something else.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    model = model.for_export(precision)
    with saved_models.new_version(export_dir, KIND) as partial, saved_models.without_graph_optimizer():
        _save(Decoder(model), partial)
        own = saved_models.own_files(partial)
        config = {"kind": KIND, "format": FORMAT, "precision": precision, "tokenizer": type(model.tokenizer).__name__}
        config["session"] = dataclasses.asdict(SessionConfig.of(model))
        files.write_json(os.path.join(own, saved_models.CONFIG_FILE), config)
        model.tokenizer.save(own)
    return saved_models.newest(export_dir)


def live(model: CausalLM) -> saved_models.Functions:
    """Returns `begin` and `advance` of a model as it is in this process."""
    return _functions(Decoder(model))


def _save(decoder: Decoder, folder: str) -> None:
    model, module = decoder.model, tf.Module()
    module.weights = list(model.variables)
    functions = _functions(decoder)
    generate = saved_models.traced(_generate(functions, model.window, model.end_ids), _prompts(model) | _SAMPLING)
    default = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    requests = _requests(decoder)
    requests[default] = requests["generate"]
    saved_models.save(folder, module, functions | {"generate": generate, default: generate}, requests)


def _functions(decoder: Decoder) -> saved_models.Functions:
    state_spec = decoder.state_spec()

    def taken(inputs: State) -> Sampling:
        return Sampling(*(inputs.pop(name) for name in _SAMPLING))

    def begin(**inputs: tf.Tensor) -> State:
        sampling = taken(inputs)
        encoder = tuple(inputs.pop(name) for name in _ENCODER if name in inputs)
        return decoder.begin(sampling=sampling, encoder=encoder or None, **inputs)

    def advance(**inputs: tf.Tensor) -> State:
        state = {name: inputs.pop(name) for name in state_spec}
        return decoder.advance(state, sampling=taken(inputs), **inputs)

    steps = {"num_tokens": tf.TensorSpec([], tf.int32), "lookup": tf.TensorSpec([], tf.bool)}
    return {
        "begin": saved_models.traced(begin, _prompts(decoder.model) | _SAMPLING),
        "advance": saved_models.traced(advance, state_spec | steps | _SAMPLING),
    }


def _generate(functions: saved_models.Functions, window: int, end_ids: Sequence[int]) -> Callable[..., State]:
    """Returns a function that writes whole answers with `begin` and `advance`, which are not traced again.

    Its inputs are those of `Decoder.begin`; max_tokens is cut where the window is full for the longest prompt. Its
    outputs, with N tokens in the longest of B answers: ids [B, N] int32, with an end token after an answer that ended;
    lengths [B] int32, without the end token, so that an answer of length N has not ended.
    """

    def generate(
        prompt_ids: tf.Tensor, prompt_lengths: tf.Tensor, max_tokens: tf.Tensor, **sampling: tf.Tensor
    ) -> State:
        encoder = {name: sampling.pop(name) for name in _ENCODER if name in sampling}
        checks = _checks(prompt_ids, prompt_lengths, max_tokens, sampling["seeds"], window)
        rows = "Expected states and a mask of the encoder for each prompt."
        checks += [tf.debugging.assert_equal(tf.shape(x)[0], tf.shape(prompt_ids)[0], rows) for x in encoder.values()]
        with tf.control_dependencies(checks):
            longest = tf.reduce_max(prompt_lengths)
            prompt_ids = prompt_ids[:, :longest]
        room = tf.minimum(max_tokens, window - longest)
        prompts = {"prompt_ids": prompt_ids, "prompt_lengths": prompt_lengths, "max_tokens": room} | encoder
        state = functions["begin"](**prompts, **sampling)
        state = functions["advance"](num_tokens=room - 1, lookup=tf.constant(True), **state, **sampling)
        ids = state["ids"][:, state["answer"] : state["next"] + 1]  # [B, N]
        unended = tf.math.cumprod(1 - tf.cast(is_any(ids, end_ids), tf.int32), axis=1)
        return {"ids": ids, "lengths": tf.reduce_sum(unended, axis=1)}

    return generate


def _checks(
    prompt_ids: tf.Tensor, prompt_lengths: tf.Tensor, max_tokens: tf.Tensor, seeds: tf.Tensor, window: int
) -> list[tf.Operation]:
    """Returns operations that fail, with a message, for a request that would read or write outside of its texts."""
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


def _requests(decoder: Decoder) -> dict[str, dict]:
    """Returns a request for each signature: one token after a prompt of one token, or after the state that follows."""
    sampling = GenerationSettings().choice() | {"seeds": [0]}
    prompt = {"prompt_ids": [[0]], "prompt_lengths": [1], "max_tokens": 2} | sampling
    if width := encoder_width(decoder.model):
        prompt |= {"encoder_states": np.zeros([1, 1, width]), "encoder_mask": [[1]]}
    num_slots = 1 + 2 + NUM_PROPOSED
    state = {"ids": np.zeros([1, num_slots]), "padding": [0], "answer": 1, "next": 1, "finished": [False], "passes": 1}
    for name, spec in decoder.model.cache_spec().items():
        state[name] = np.zeros([1, *(size or num_slots for size in spec.shape[1:])])
    return {"begin": prompt, "advance": state | {"num_tokens": 1, "lookup": True} | sampling, "generate": prompt}
