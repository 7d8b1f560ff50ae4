"""Reads weights from files into Keras variables, by a table of names. Every name and shape must match.

Formats: TensorFlow 1 checkpoints (.index + .data-*); safetensors, in one file or in several with an index.
"""

import dataclasses
import glob
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
import tensorflow as tf
from absl import logging

from data_pipeline.folders import files

Part = Callable[[str], bool]

_SHOWN = 6  # names in a message
HEAD = "lm_head.weight"  # of Hugging Face's decoders, without a prefix
_BUFFER = re.compile(r"h\.\d+\.(attn|crossattention)\.(masked_)?bias|(layers\.\d+\.self_attn\.)?rotary_emb\..+")


@dataclasses.dataclass(frozen=True)
class Source:
    """The tensors of a file that make up one of our variables.

    Attributes:
      names: Names of the tensors, concatenated along their last axis after transposing.
      transpose: Whether the file stores them as [out, in].
      columns: Width of each tensor on that axis; default: equal parts.
    """

    names: tuple[str, ...]
    transpose: bool = False
    columns: tuple[int, ...] | None = None

    def widths(self, total: int) -> tuple[int, ...]:
        """Returns the width of each tensor on the axis along which they are concatenated."""
        return self.columns or (total // len(self.names),) * len(self.names)


def read_tf1(folder: str, scopes: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Reads the TF1 checkpoint of a folder. If there are several, the file `checkpoint` must name one of them.

    Args:
      folder: The folder with the checkpoint.
      scopes: Prefixes of the model's variable names. Heads, step counters and optimizer slots are left out and logged.

    Raises:
      ValueError: There is no checkpoint, several and none is named, or a TensorFlow 2 object checkpoint.
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
            f"The checkpoint {prefix} cannot be read ({error}). Expected its .index and all .data-* files, complete."
        ) from error


def _checkpoint(folder: str) -> str:
    """Returns the prefix of a folder's checkpoint: its path without .index."""
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
    """Logs the tensors of a file that do not belong to the model."""
    # Heads and counters have short names and come before the many optimizer slots.
    if names := sorted(names, key=lambda name: (name.count("/"), name)):
        logging.info("Ignored in %s, because the model has no such weights: %s.", where, _listed(names))


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def read_safetensors(folder: str, file_name: str = "model.safetensors") -> dict[str, np.ndarray]:
    """Reads all tensors of `model.safetensors`, or of the files listed in `model.safetensors.index.json`.

    Raises:
      ValueError: A file is missing or damaged.
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
            raise ValueError(f"{folder} has no {name}. Expected a complete model folder.")
        try:
            tensors |= safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, OSError, TypeError) as error:
            raise ValueError(f"{path} cannot be read ({error}). Fetch or write it again.") from error
    return tensors


def read_openai_gpt2(folder: str) -> dict[str, np.ndarray]:
    """Reads a GPT-2's TF1 checkpoint. Convolution kernels [1, in, out] become [in, out]."""
    tensors = read_tf1(folder, ("model/",))
    return {name: value[0] if name.endswith("/w") and value.ndim == 3 else value for name, value in tensors.items()}


def decoder_tensors(
    tensors: Mapping[str, np.ndarray], prefix: str, table: str, ties_head: bool, where: str
) -> dict[str, np.ndarray]:
    """Returns the tensors of a decoder in Hugging Face's layout that make up its variables.

    Left out are the prefix of the names, buffers (causal masks, rotary frequencies), and the head if it is tied.

    Args:
      tensors: The tensors of the file, by name.
      prefix: Of all names but the head's, as in `transformer.wte.weight`; a file may be without.
      table: The token embeddings' name, without the prefix.
      ties_head: Whether the configuration says that the head is the token table.
      where: The file's name in errors.

    Raises:
      ValueError: The head should be tied to the token embeddings, but is not.
    """
    tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    if ties_head:
        head = tensors.pop(HEAD, None)
        if head is not None and not np.array_equal(head, tensors.get(table)):
            raise ValueError(
                f"{where} has a head of its own. Expected a head that is tied to the token embeddings, as its "
                "configuration says."
            )
    return {name: value for name, value in tensors.items() if not _BUFFER.fullmatch(name)}


def assign_from(layer: Any, tensors: Mapping[str, np.ndarray], sources: Mapping[str, Source], where: str) -> None:
    """Assigns all variables of a built layer from a file with other names.

    Args:
      layer: A Keras layer or model.
      tensors: The tensors of the file, by name.
      sources: For each variable, by its path inside the layer, its tensors in the file.
      where: The file's name in errors.

    Raises:
      ValueError: Tensors are missing, unexpected or of another shape. All are named, and no variable is changed.
    """
    _check_names({name for source in sources.values() for name in source.names}, tensors, where)
    variables = variables_by_name(layer)
    _check_names(variables, sources, "The table of names")
    expected = {}
    for ours, source in sources.items():
        *rows, columns = variables[ours].shape
        shapes = [(*rows, width) for width in source.widths(columns)]
        shapes = [shape[::-1] for shape in shapes] if source.transpose else shapes
        expected |= zip(source.names, shapes, strict=True)
    _check_shapes(expected, tensors, where)
    for ours, source in sources.items():
        parts = [tensors[name].T if source.transpose else tensors[name] for name in source.names]
        # float16 and bfloat16 become float32 here, a tensor at a time.
        variables[ours].assign(np.concatenate([np.asarray(part, np.float32) for part in parts], axis=-1))


def named_as(layer: Any, sources: Mapping[str, Source]) -> dict[str, np.ndarray]:
    """Returns the variables of a layer under a file's names: what `assign_from` reads."""
    variables, tensors = variables_by_name(layer), {}
    for ours, source in sources.items():
        value = np.asarray(variables[ours].numpy())
        parts = np.split(value, np.cumsum(source.widths(value.shape[-1]))[:-1], axis=-1)
        parts = [np.ascontiguousarray(part.T if source.transpose else part) for part in parts]
        tensors |= zip(source.names, parts, strict=True)
    return tensors


def assign(layer: Any, values: Mapping[str, np.ndarray], where: str, part: Part = lambda name: True) -> None:
    """Assigns the variables of a built layer.

    Args:
      layer: A Keras layer or model.
      values: The value of each variable, by its path inside the layer.
      where: The file's name in errors.
      part: Tells by its path whether a variable is assigned; default: all are.

    Raises:
      ValueError: Values are missing, unexpected or of another shape. All are named, and no variable is changed.
    """
    variables = {name: variable for name, variable in variables_by_name(layer).items() if part(name)}
    _check_names(variables, values, where)
    _check_shapes({name: variable.shape for name, variable in variables.items()}, values, where)
    for name, variable in variables.items():
        variable.assign(values[name])


def read_metadata(path: str) -> dict[str, str]:
    """Returns what `save` was given as the metadata of a safetensors file."""
    with safetensors.safe_open(path, "numpy") as file:
        return file.metadata() or {}


def save(
    layer: Any,
    path: str,
    part: Part = lambda name: True,
    dtype: Any = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes the variables of a layer to a safetensors file, under their paths inside the layer.

    Args:
      layer: A Keras layer or model.
      path: The file.
      part: Tells by its path whether a variable is written; default: all are.
      dtype: NumPy dtype in the file; default: the variable's.
      metadata: Texts to store with the tensors.
    """
    variables = variables_by_name(layer)
    tensors = {name: np.asarray(variables[name].numpy(), dtype) for name in filter(part, variables)}
    with files.whole_file(path) as partial, open(partial, "wb") as file:
        file.write(safetensors.numpy.save(tensors, dict(metadata) if metadata else None))


def fingerprint(layer: Any, *descriptions: str) -> str:
    """Returns the SHA-256 of a layer's weights and of texts that describe it."""
    digest = hashlib.sha256("".join(descriptions).encode())
    for name, variable in sorted(variables_by_name(layer).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(variable.numpy()).data)
    return digest.hexdigest()


def variables_by_name(layer: Any) -> dict[str, Any]:
    """Returns {path inside the layer: variable}, without random states."""
    return {variable.path.removeprefix(f"{layer.path}/"): variable for variable in layer.weights}


def _check_names(expected: Iterable[str], received: Iterable[str], where: str) -> None:
    missing, extra = sorted(set(expected) - set(received)), sorted(set(received) - set(expected))
    if missing or extra:
        parts = [f"missing: {_listed(missing)}"] * bool(missing) + [f"not expected: {_listed(extra)}"] * bool(extra)
        raise ValueError(
            f"{where} does not match the model. {'; '.join(parts)}. Expected exactly its configuration's variables."
        )


def _check_shapes(expected: Mapping[str, Iterable[int]], received: Mapping[str, np.ndarray], where: str) -> None:
    wrong = [
        f"{name} has shape {list(received[name].shape)}, expected {list(shape)}"
        for name, shape in expected.items()
        if list(received[name].shape) != list(shape)
    ]
    if wrong:
        raise ValueError(f"{where}: {'; '.join(wrong)}. The weights must be those of the configuration beside them.")
