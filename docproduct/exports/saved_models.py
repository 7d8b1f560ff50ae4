"""Exports in the layout of TensorFlow Serving: numbered versions of a SavedModel, each with requests to warm it up.

    EXPORT/1/  saved_model.pb  variables/  assets/
               assets.extra/   tf_serving_warmup_requests, and what our own programs read: config.json, tokenizer
    EXPORT/2/  ...

A server that watches EXPORT takes the highest number, and looks at no name that is not a number.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from data_pipeline.folders import files
from data_pipeline.varints import varints

CONFIG_FILE = "config.json"
WARMUP_FILE = "tf_serving_warmup_requests"
_EXTRA_FOLDER = "assets.extra"
_MODEL_FILE = "saved_model.pb"
_LOCK = "version"  # files.taking_turns adds its ending

Functions = dict[str, tf.types.experimental.ConcreteFunction]
Requests = Mapping[str, Mapping[str, Any]]  # {signature: {input: value}}


@contextlib.contextmanager
def new_version(export_dir: str, kind: str) -> Iterator[str]:
    """Yields a folder that becomes the next version of an export when the block ends without an error.

    Args:
      export_dir: holds the versions; is made if it is not there.
      kind: what the version's config.json will say it is.

    Raises:
      FileExistsError: `export_dir` is a file, or holds something else than versions of this kind.
    """
    _check_holds(export_dir, kind)  # before a lock is put there
    with files.taking_turns(os.path.join(export_dir, _LOCK)):
        _check_holds(export_dir, kind)
        number = max(_numbers(export_dir), default=0) + 1
        with files.whole_folder(os.path.join(export_dir, str(number))) as partial:
            yield partial


def versions(export_dir: str) -> list[str]:
    """Returns the folders of an export's versions, the oldest first; none where there is no such folder."""
    return [os.path.join(export_dir, str(number)) for number in sorted(_numbers(export_dir))]


def newest(folder: str) -> str:
    """Returns the folder of an export's newest version; a folder without versions is taken for one itself."""
    return next(reversed(versions(folder)), folder)


def own_files(version: str) -> str:
    """Returns the folder of a version where our own files are."""
    return os.path.join(version, _EXTRA_FOLDER)


def save(folder: str, module: tf.Module, functions: Functions, requests: Requests) -> None:
    """Writes the SavedModel of a version.

    Args:
      folder: of `new_version`.
      module: holds the variables that the functions use.
      functions: the signatures.
      requests: for each signature a small request, which is run before the first real one: the first run of a graph
        takes seconds.
    """
    logger = tf.get_logger()
    level, verbosity = logger.level, logging.get_verbosity()
    logger.setLevel("ERROR")  # it would tell which names of inputs it changes inside, hundreds of them
    logging.set_verbosity(logging.ERROR)
    try:
        tf.saved_model.save(module, folder, functions)
    finally:
        logger.setLevel(level)
        logging.set_verbosity(verbosity)
    os.makedirs(own_files(folder), exist_ok=True)
    with tf.io.TFRecordWriter(os.path.join(own_files(folder), WARMUP_FILE)) as file:
        for signature, inputs in requests.items():
            file.write(_prediction_log(functions[signature], signature, inputs))


def traced(function: Any, inputs: Mapping[str, tf.TensorSpec]) -> tf.types.experimental.ConcreteFunction:
    """Traces a function of keyword arguments; they and its outputs keep their names in a signature."""
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()}

    @tf.function(autograph=False)
    def by_name(**tensors: tf.Tensor) -> Any:
        return function(**tensors)

    return by_name.get_concrete_function(**named)


def _numbers(export_dir: str) -> list[int]:
    if not os.path.isdir(export_dir):
        return []
    found = (entry.name for entry in os.scandir(export_dir) if entry.is_dir())
    return [int(name) for name in found if name.isdecimal() and str(int(name)) == name]


def _check_holds(export_dir: str, kind: str) -> None:
    """Raises a FileExistsError if a version of this kind has no place in a folder."""
    if not os.path.exists(export_dir):
        return
    if not os.path.isdir(export_dir):
        raise FileExistsError(f"{export_dir} is a file. Give the path of a folder.")
    if not (found := versions(export_dir)):
        ours = (f"{_LOCK}.lock", ".partial")  # of an export that did not end
        others = sorted(name for name in os.listdir(export_dir) if not name.endswith(ours))
        if others:
            raise FileExistsError(
                f"{export_dir} holds something else ({others[0]}, ...) than versions of an export. Give another folder."
            )
        return
    stored = (files.read_json(os.path.join(own_files(found[-1]), CONFIG_FILE)) or {}).get("kind")
    if stored != kind:
        raise FileExistsError(
            f"{found[-1]} is of the kind {stored!r}; expected {kind!r}: a server takes all versions for one model. "
            "Give another folder."
        )


def _prediction_log(
    function: tf.types.experimental.ConcreteFunction, signature: str, inputs: Mapping[str, Any]
) -> bytes:
    """Returns TensorFlow Serving's PredictionLog of a request, serialized.

    Its few fields are written by hand, so that the package tensorflow-serving-api is not needed:
    PredictionLog.predict_log = 6, PredictLog.request = 1, PredictRequest.model_spec = 1 and .inputs = 2 (a map: key 1,
    value 2), ModelSpec.signature_name = 3. Source: tensorflow_serving/apis/*.proto.
    """
    specs = function.structured_input_signature[1]
    request = _field(1, _field(3, signature.encode()))
    for name, value in inputs.items():
        tensor = _tensor(value, specs[name].dtype).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    return varints(np.array([number << 3 | 2, len(content)])).tobytes() + content


def _tensor(value: Any, dtype: tf.DType) -> Any:
    """Returns a TensorProto; of equal numbers only the first is written, which stands for the others, too."""
    array = np.asarray(value, dtype.as_numpy_dtype)
    if array.size > 1 and dtype != tf.string and (array == array.flat[0]).all():
        return tf.make_tensor_proto(array.flat[0], dtype, array.shape)
    return tf.make_tensor_proto(array, dtype)
