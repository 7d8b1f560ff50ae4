"""Exports in the layout of TensorFlow Serving: numbered versions of a SavedModel, each with warm-up requests.

    EXPORT/1/  saved_model.pb  variables/  assets/
               assets.extra/   tf_serving_warmup_requests; config.json and tokenizer, which our own programs read
    EXPORT/2/  ...

A server that watches EXPORT takes the highest number, and ignores names that are not numbers.
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
      export_dir: holds the versions; is made if it does not exist.
      kind: kind of the export, as the version's config.json will name it.

    Raises:
      FileExistsError: `export_dir` is a file, or holds anything but versions of this kind.
    """
    _check_holds(export_dir, kind)  # before a lock is put there
    with files.taking_turns(os.path.join(export_dir, _LOCK)):
        _check_holds(export_dir, kind)
        number = max(_numbers(export_dir), default=0) + 1
        with files.whole_folder(os.path.join(export_dir, str(number))) as partial:
            yield partial


def versions(export_dir: str) -> list[str]:
    """Returns the folders of an export's versions, the oldest first; an empty list if there is no such folder."""
    return [os.path.join(export_dir, str(number)) for number in sorted(_numbers(export_dir))]


def newest(folder: str) -> str:
    """Returns the folder of an export's newest version; a folder without versions counts as a version."""
    return next(reversed(versions(folder)), folder)


def own_files(version: str) -> str:
    """Returns the folder in a version that holds our own files."""
    return os.path.join(version, _EXTRA_FOLDER)


def save(folder: str, module: tf.Module, functions: Functions, requests: Requests) -> None:
    """Writes the SavedModel of a version.

    Args:
      folder: what `new_version` yielded.
      module: holds the variables that the functions use.
      functions: the signatures.
      requests: a small request for each signature. Servers run it before the first real one, as the first run of a
        graph takes seconds.
    """
    logger = tf.get_logger()
    level, verbosity = logger.level, logging.get_verbosity()
    logger.setLevel("ERROR")  # it would list hundreds of names of inputs that it changes inside
    logging.set_verbosity(logging.ERROR)
    # Nobody trains an export: the gradients of layers that have their own would double the time of saving.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    try:
        tf.saved_model.save(module, folder, functions, options)
    finally:
        logger.setLevel(level)
        logging.set_verbosity(verbosity)
    os.makedirs(own_files(folder), exist_ok=True)
    with tf.io.TFRecordWriter(os.path.join(own_files(folder), WARMUP_FILE)) as file:
        for signature, inputs in requests.items():
            file.write(_prediction_log(functions[signature], signature, inputs))


@contextlib.contextmanager
def without_graph_optimizer() -> Iterator[None]:
    """Functions that are traced and saved inside are run as they are: TensorFlow's graph optimizer leaves them alone.

    It takes up to half of the time from loading a large graph to its first result. A SavedModel keeps the choice: it is
    stored in the nodes that call functions, so that a session's own options do not change it.
    """
    option = "disable_meta_optimizer"
    before = tf.config.optimizer.get_experimental_options().get(option, False)
    tf.config.optimizer.set_experimental_options({option: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({option: before})


def traced(function: Any, inputs: Mapping[str, tf.TensorSpec]) -> tf.types.experimental.ConcreteFunction:
    """Traces a function of keyword arguments, which keep their names in a signature, as its outputs do."""
    named = {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in inputs.items()}

    @tf.function(autograph=False)
    def by_name(**tensors: tf.Tensor) -> Any:
        return function(**tensors)

    return by_name.get_concrete_function(**named)


def _numbers(export_dir: str) -> list[int]:
    if not os.path.isdir(export_dir):
        return []
    names = (entry.name for entry in os.scandir(export_dir) if entry.is_dir())
    return [int(name) for name in names if name.isdecimal() and str(int(name)) == name]


def _check_holds(export_dir: str, kind: str) -> None:
    """Raises a FileExistsError for a folder that holds anything but versions of this kind."""
    if not os.path.exists(export_dir):
        return
    if not os.path.isdir(export_dir):
        raise FileExistsError(f"{export_dir} is a file. Give the path of a folder.")
    existing = versions(export_dir)
    if not existing:
        ours = (f"{_LOCK}.lock", ".partial")  # of an export that did not end
        others = sorted(name for name in os.listdir(export_dir) if not name.endswith(ours))
        if others:
            raise FileExistsError(
                f"{export_dir} holds something else ({others[0]}, ...) than versions of an export. Give another folder."
            )
        return
    stored = (files.read_json(os.path.join(own_files(existing[-1]), CONFIG_FILE)) or {}).get("kind")
    if stored != kind:
        raise FileExistsError(
            f"{existing[-1]} is of the kind {stored!r}; expected {kind!r}: a server takes all versions for one model. "
            "Give another folder."
        )


def _prediction_log(
    function: tf.types.experimental.ConcreteFunction, signature: str, inputs: Mapping[str, Any]
) -> bytes:
    """Returns TensorFlow Serving's PredictionLog of a request, serialized.

    Its few fields are written here, so that the package tensorflow-serving-api is not needed:
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
    """Returns a length-delimited field of a protobuf message."""
    return varints(np.array([number << 3 | 2, len(content)])).tobytes() + content


def _tensor(value: Any, dtype: tf.DType) -> Any:
    """Returns a TensorProto; if all numbers are equal, it holds only one of them, which stands for all."""
    array = np.asarray(value, dtype.as_numpy_dtype)
    if array.size > 1 and dtype != tf.string and (array == array.flat[0]).all():
        return tf.make_tensor_proto(array.flat[0], dtype, array.shape)
    return tf.make_tensor_proto(array, dtype)
