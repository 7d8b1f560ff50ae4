"""Reads weights from files into our variables, by a table of names; every name has to fit.

Formats: TensorFlow 1 checkpoints (.index + .data-*), safetensors (one file or several with an index).
"""

import dataclasses
import glob
import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf
from absl import logging

from data_pipeline.folders import files

_SHOWN = 6  # names in a message
_GPT2_MASK = re.compile(r"h\.\d+\.(attn|crossattention)\.(masked_)?bias")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the value of one of our variables stands.

    Attributes:
      names: tensors in the file, joined along their last axis (after transposing).
      transpose: whether the file holds them as [out, in].
    """

    names: tuple[str, ...]
    transpose: bool = False


def read_tf1(folder: str, scopes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads the TF1 checkpoint of a folder; of several, the one that the file `checkpoint` names.

    Args:
      folder: where it is.
      scopes: beginnings of the names of the model's variables. Heads, step counters and slots of optimizers are left
        out, and named in the log.

    Raises:
      ValueError: there is no checkpoint, or none to choose among several, or one of TensorFlow 2's objects.
    """
    prefix = _checkpoint(folder)
    try:
        reader = tf.train.load_checkpoint(prefix)
        names = set(reader.get_variable_to_shape_map())
        if "_CHECKPOINTABLE_OBJECT_GRAPH" in names:
            raise ValueError(
                "it is an object checkpoint of TensorFlow 2, whose names depend on the program that wrote it; take the "
                "model's TensorFlow 1 checkpoint, or its folder in Hugging Face's layout with model.safetensors"
            )
        # A slot of an optimizer stands under its variable: kernel/adam_m, kernel/Adam_1, kernel/lamb_v.
        ours = {name for name in names if name.startswith(scopes) and name.rpartition("/")[0] not in names}
        log_left_out(prefix, names - ours)
        return {name: reader.get_tensor(name) for name in ours}
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"The checkpoint {prefix} cannot be read ({error}). Expected its .index and all .data-* files, whole."
        ) from error


def _checkpoint(folder: str) -> str:
    """Returns the path of a folder's checkpoint, without the endings of its files."""
    found = [path.removesuffix(".index") for path in glob.glob(os.path.join(folder, "*.index"))]
    newest = tf.train.latest_checkpoint(folder) if len(found) > 1 else None
    if newest in found:
        return newest
    if len(found) != 1:
        raise ValueError(
            f"{folder} has {len(found)} checkpoints ({', '.join(map(os.path.basename, found)) or 'no *.index'}). "
            "Expected one, NAME.index and NAME.data-*, or a file `checkpoint` that names one of them."
        )
    return found[0]


def log_left_out(where: str, names: Iterable[str]) -> None:
    """Tells in the log which tensors of a file are not the model's."""
    # Heads and counters, with short names, before the slots of all variables.
    if names := sorted(names, key=lambda name: (name.count("/"), name)):
        logging.info("Left out of %s, as the encoder or decoder has no such weights: %s.", where, _listed(names))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def read_safetensors(folder: str, file_name: str = "model.safetensors") -> dict[str, np.ndarray]:
    """Reads all tensors of `model.safetensors`, or of the files that `model.safetensors.index.json` names.

    Raises:
      ValueError: no such file, or a damaged one.
    """
    index = os.path.join(folder, f"{file_name}.index.json")
    names = [file_name]
    if os.path.isfile(index):
        weight_map = files.read_json(index).get("weight_map")
        if not weight_map:
            raise ValueError(f"{index} has no weight_map. Expected {{tensor name: file}}; fetch it again.")
        names = sorted(set(weight_map.values()))
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            raise ValueError(f"{folder} has no {name}. Expected a finished model folder with its weights.")
        try:
            tensors |= safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, OSError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}). Fetch or write it again.") from error
    return tensors


def read_openai_gpt2(folder: str) -> dict[str, np.ndarray]:
    """Reads a GPT-2's TF1 checkpoint; the kernels of its convolutions, [1, in, out], become [in, out]."""
    tensors = read_tf1(folder, ("model/",))
    return {name: value[0] if name.endswith("/w") and value.ndim == 3 else value for name, value in tensors.items()}


def read_hugging_face_gpt2(folder: str) -> dict[str, np.ndarray]:
    """Reads a GPT-2's safetensors: the prefix `transformer.`, causal masks and the head, the token table, are left out.

    Raises:
      ValueError: the head is another table than that of the tokens.
    """
    tensors = {name.removeprefix("transformer."): value for name, value in read_safetensors(folder).items()}
    head = tensors.pop("lm_head.weight", None)
    if head is not None and not np.array_equal(head, tensors.get("wte.weight")):
        raise ValueError(f"{folder} has a head that is not the token table. Expected a GPT-2, whose head is.")
    return {name: value for name, value in tensors.items() if not _GPT2_MASK.fullmatch(name)}


def assign_from(layer: Any, tensors: Mapping[str, np.ndarray], sources: Mapping[str, Source], where: str) -> None:
    """Gives all variables of a built layer their values from a file with other names.

    Args:
      layer: a Keras layer or model.
      tensors: what the file holds.
      sources: for each of our names (the variable's path inside the layer), theirs.
      where: names the file in errors.

    Raises:
      ValueError: tensors are missing, not expected or of another shape; all are named, and no variable is changed.
    """
    _check_names({name for source in sources.values() for name in source.names}, tensors, where)
    variables = variables_by_name(layer)
    _check_names(variables, sources, "The table of names")
    expected = {}
    for ours, source in sources.items():
        *rows, columns = variables[ours].shape
        shape = (*rows, columns // len(source.names))
        expected |= dict.fromkeys(source.names, shape[::-1] if source.transpose else shape)
    _check_shapes(expected, tensors, where)
    for ours, source in sources.items():
        parts = [tensors[name].T if source.transpose else tensors[name] for name in source.names]
        variables[ours].assign(np.concatenate(parts, axis=-1))


def assign(layer: Any, values: Mapping[str, np.ndarray], where: str) -> None:
    """Gives all variables of a built layer their values.

    Args:
      layer: a Keras layer or model.
      values: for each variable its value, under the variable's path inside the layer.
      where: names the file in errors.

    Raises:
      ValueError: values are missing, not expected or of another shape; all are named, and no variable is changed.
    """
    variables = variables_by_name(layer)
    _check_names(variables, values, where)
    _check_shapes({name: variable.shape for name, variable in variables.items()}, values, where)
    for name, variable in variables.items():
        variable.assign(values[name])


def save(layer: Any, path: str) -> None:
    """Writes all variables of a layer to a safetensors file, under their paths inside the layer."""
    tensors = {name: np.asarray(variable.numpy()) for name, variable in variables_by_name(layer).items()}
    with files.whole_file(path) as partial, open(partial, "wb") as file:
        file.write(safetensors.numpy.save(tensors))


def fingerprint(layer: Any, *descriptions: str) -> str:
    """Returns the SHA-256 of texts that describe a layer, and of all its weights."""
    digest = hashlib.sha256("".join(descriptions).encode())
    for name, variable in sorted(variables_by_name(layer).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    return digest.hexdigest()


def variables_by_name(layer: Any) -> dict[str, Any]:
    """Returns {path inside the layer: variable}; random states are not among them."""
    return {variable.path.removeprefix(f"{layer.path}/"): variable for variable in layer.weights}


def _check_names(expected: Iterable[str], received: Iterable[str], where: str) -> None:
    missing, extra = sorted(set(expected) - set(received)), sorted(set(received) - set(expected))
    if missing or extra:
        parts = [f"missing: {_listed(missing)}"] * bool(missing) + [f"not expected: {_listed(extra)}"] * bool(extra)
        raise ValueError(
            f"{where} does not fit the model. {'; '.join(parts)}. Expected exactly the variables of its configuration."
        )


def _check_shapes(expected: Mapping[str, Iterable[int]], received: Mapping[str, np.ndarray], where: str) -> None:
    wrong = [
        f"{name} has shape {list(received[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if list(received[name].shape) != list(shape)
    ]
    if wrong:
        raise ValueError(
            f"{where}: {'; '.join(wrong)}. The configuration beside the weights must be the one they were made with."
        )
