"""A SavedModel in a graph and a session of its own, beside whatever else the process runs.

The only file that uses TensorFlow's first interface. A session runs nothing but its graph: another session, or eager
code, neither sees its variables nor its threads. Results may stay inside it, to be given back by their name instead of
being copied out and in: see `Kept`.
"""

import contextlib
import os
import threading
from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2
from tensorflow.python.framework import convert_to_constants

v1 = tf.compat.v1

_TAGS = ["serve"]


class Kept:
    """A tensor that stays in its session, as long as something refers to it."""

    def __init__(self, handle: Any):
        self.handle = handle  # a TensorHandle: its session gives the tensor up after it


class GraphSession:
    """Loads a SavedModel into a graph of its own and runs its signatures."""

    def __init__(self, folder: str, kept: Collection[str] = (), num_threads: int | None = None):
        """Loads the model.

        Args:
          folder: the SavedModel.
          kept: inputs that are given as `Kept`; outputs of these names are returned so.
          num_threads: for a product, and for products at once; None: one for each core.

        Raises:
          ValueError: the folder holds no SavedModel.
        """
        self._preparing = threading.Lock()
        self._ready: set[str] = set()
        graph_def, signatures = _constant_graph(folder, num_threads)
        self._graph = tf.Graph()
        with self._graph.as_default():
            fed: dict[str, tuple[tf.Tensor, tf.Tensor]] = {}
            for inputs, _ in signatures.values():
                for name, tensor in inputs.items():
                    if name in kept and tensor.name not in fed:
                        handle = v1.placeholder(tf.string, [], f"kept_{name}")
                        fed[tensor.name] = handle, tf.raw_ops.GetSessionTensor(handle=handle, dtype=tensor.dtype)
            replaced = {name: value for name, (_, value) in fed.items()}
            tf.graph_util.import_graph_def(graph_def, input_map=replaced, name="")
            find = self._graph.get_tensor_by_name
            self._signatures = {}
            for signature, (inputs, outputs) in signatures.items():
                feeds = {n: fed[t.name][0] if t.name in fed else find(t.name) for n, t in inputs.items()}
                fetches = {n: find(t.name) for n, t in outputs.items()}
                handles = {n: tf.raw_ops.GetSessionHandle(value=t) for n, t in fetches.items() if n in kept}
                self._signatures[signature] = feeds, fetches | handles, set(handles)
        self._session = v1.Session(graph=self._graph, config=_config(num_threads))

    def run(self, signature: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs a signature.

        Args:
          signature: its name.
          inputs: a value for each input: an array, or what another run has kept. What is kept may be written into:
            it is used once.

        Returns:
          {name of an output: array or Kept}.

        Raises:
          ValueError: inputs are missing or not expected.
        """
        feeds, fetches, handles = self._signatures[signature]
        if set(inputs) != set(feeds):
            raise ValueError(
                f"{signature} needs the inputs {', '.join(sorted(feeds))}; received {', '.join(sorted(inputs))}."
            )
        values = {feeds[name]: v.handle.handle if isinstance(v, Kept) else v for name, v in inputs.items()}
        # The first run of its kind optimizes the graph, which takes seconds: once, not once in every thread.
        with contextlib.nullcontext() if signature in self._ready else self._preparing:
            found = self._session.run(fetches, values)
        self._ready.add(signature)
        return {name: Kept(v) if name in handles else v for name, v in found.items()}

    def close(self) -> None:
        """Ends the session."""
        self._session.close()


def _config(num_threads: int | None) -> Any:
    threads = num_threads or len(os.sched_getaffinity(0))
    config = v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
    # A second pass of the graph's optimizer takes seconds and finds nothing.
    config.graph_options.rewrite_options.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    return config


def _constant_graph(folder: str, num_threads: int | None) -> tuple[Any, dict[str, tuple[dict, dict]]]:
    """Returns the graph of a SavedModel with its variables as constants, and the tensors of its signatures."""
    with tf.Graph().as_default(), v1.Session(config=_config(num_threads)) as session:
        try:
            meta = v1.saved_model.load(session, _TAGS, folder)
        except (OSError, RuntimeError) as error:
            raise ValueError(f"{folder} holds no SavedModel ({error}). Export the model again.") from error
        signatures = {
            name: tuple(
                {key: session.graph.get_tensor_by_name(info.name) for key, info in part.items()}
                for part in (signature.inputs, signature.outputs)
            )
            for name, signature in meta.signature_def.items()
            if name != "__saved_model_init_op"
        }
        outputs = {tensor.op.name for _, outputs in signatures.values() for tensor in outputs.values()}
        graph_def = convert_to_constants.convert_variables_to_constants_from_session_graph(
            session, session.graph.as_graph_def(), sorted(outputs)
        )
    return graph_def, signatures
