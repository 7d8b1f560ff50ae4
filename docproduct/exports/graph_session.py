"""Runs a SavedModel in a graph and a session of its own.

The only file that uses the API of TensorFlow 1. A session runs its own graph only: neither another session nor
eager code sees its variables; the threads within a matrix product are those of the process. Results may stay inside the
session, to be passed back by name instead of being copied out and in: see `ResidentTensor`.
"""

import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.saved_model import loader_impl
from tensorflow.python.util import deprecation

v1 = tf.compat.v1

_TAGS = ["serve"]
_INITIALIZER = "__saved_model_init_op"  # listed among the signatures, but is none


class ResidentTensor:
    """A tensor that stays in its session as long as something refers to it."""

    def __init__(self, handle: Any):
        self.handle = handle  # a TensorHandle; its session drops the tensor after it


class GraphSession:
    """Loads a SavedModel into a graph of its own and runs its signatures."""

    def __init__(self, folder: str, resident: Collection[str] = ()):
        """Loads the model.

        Args:
          folder: the SavedModel.
          resident: names of inputs that are given, and of outputs that are returned, as `ResidentTensor`.

        Raises:
          ValueError: the folder holds no SavedModel, or a damaged one.
        """
        self._ready: set[str] = set()
        with tf.Graph().as_default() as graph:
            try:
                fed = _resident_inputs(folder, resident)
                values = {name: value for name, (_, value, _) in fed.items()}
                self._session = v1.Session(graph=graph, config=_config())
                with deprecation.silence():  # there is no other loader for sessions
                    meta = v1.saved_model.load(self._session, _TAGS, folder, input_map=values)
            except (OSError, RuntimeError, tf.errors.OpError) as error:
                raise ValueError(f"{folder} holds no whole SavedModel ({error}). Export the model again.") from error
            self._signatures, self._zeros = {}, {}
            for signature, parts in meta.signature_def.items():
                if signature == _INITIALIZER:
                    continue
                find = graph.get_tensor_by_name
                feeds = {n: fed[t.name][0] if t.name in fed else find(t.name) for n, t in parts.inputs.items()}
                fetches = {n: find(t.name) for n, t in parts.outputs.items()}
                self._zeros[signature] = {n: fed[t.name][2] for n, t in parts.inputs.items() if t.name in fed}
                handles = {n: tf.raw_ops.GetSessionHandle(value=t) for n, t in fetches.items() if n in resident}
                self._signatures[signature] = feeds, fetches | handles, set(handles)
        self._preparing = {signature: threading.Lock() for signature in self._signatures}

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a signature.

        Args:
          signature: its name.
          inputs: a value for each input: an array, or a resident tensor that another run returned. A resident tensor
            may be overwritten: it is used once.

        Returns:
          {name of an output: array or ResidentTensor}.

        Raises:
          ValueError: inputs are missing or not expected.
        """
        feeds, fetches, handles = self._signatures[signature]
        if set(inputs) != set(feeds):
            raise ValueError(
                f"{signature} needs the inputs {', '.join(sorted(feeds))}; received {', '.join(sorted(inputs))}."
            )
        values = {feeds[name]: v.handle.handle if isinstance(v, ResidentTensor) else v for name, v in inputs.items()}
        # The first run of a signature prepares its graph, which takes seconds: once, not once in every thread.
        with contextlib.nullcontext() if signature in self._ready else self._preparing[signature]:
            outputs = self._session.run(fetches, values)
        self._ready.add(signature)
        return {name: ResidentTensor(v) if name in handles else v for name, v in outputs.items()}

    def prepare(self, requests: Mapping[str, Mapping[str, Any]]) -> None:
        """Runs signatures for the first time, which takes seconds, all at the same time.

        Args:
          requests: {signature: its inputs}; resident ones are zeros, of size 1 where the signature allows any size.
        """
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            list(pool.map(self._run_on_zeros, requests, requests.values()))

    def _run_on_zeros(self, signature: str, inputs: Mapping[str, Any]) -> None:
        handles = self._session.run(self._zeros[signature])
        self.run(signature, inputs | {name: ResidentTensor(handle) for name, handle in handles.items()})

    def close(self) -> None:
        """Ends the session."""
        self._session.close()


def _config() -> Any:
    threads = len(os.sched_getaffinity(0))
    # Operations run one after the other in the calling thread: they are many and small, and passing one of them to
    # another thread takes longer than running it. Within a matrix product all threads work.
    config = v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=-1)
    # The graph optimizer adds seconds to the first run, and makes none of the later runs faster.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def _resident_inputs(folder: str, resident: Collection[str]) -> dict[str, tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Returns for each resident input, by its name in the graph: a placeholder for its handle, the tensor, zeros."""
    meta = loader_impl.SavedModelLoader(folder).get_meta_graph_def_from_tags(_TAGS)
    fed = {}
    for parts in meta.signature_def.values():
        for name in set(parts.inputs) & set(resident):
            handle = v1.placeholder(tf.string, [], f"resident_{name}")
            info = parts.inputs[name]
            dtype = tf.as_dtype(info.dtype)
            shape = [size or 1 for size in tf.TensorShape(info.tensor_shape)]
            zeros = tf.raw_ops.GetSessionHandle(value=tf.zeros(shape, dtype))
            fed[info.name] = handle, tf.raw_ops.GetSessionTensor(handle=handle, dtype=dtype), zeros
    return fed
