"""A SavedModel in a graph and a session of its own, beside whatever else the process runs.

The only file that uses TensorFlow's first interface. A session runs nothing but its graph: neither another session nor
eager code sees its variables; the threads within a product are those of the process. Results may stay inside it, to be
given back by their name instead of being copied out and in: see `Kept`.
"""

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
_INITIALIZER = "__saved_model_init_op"  # a signature that is none


class Kept:
    """A tensor that stays in its session, as long as something refers to it."""

    def __init__(self, handle: Any):
        self.handle = handle  # a TensorHandle: its session gives the tensor up after it


class GraphSession:
    """Loads a SavedModel into a graph of its own and runs its signatures."""

    def __init__(self, folder: str, kept: Collection[str] = ()):
        """Loads the model.

        Args:
          folder: the SavedModel.
          kept: inputs that are given as `Kept`; outputs of these names are returned so.

        Raises:
          ValueError: the folder holds no SavedModel, or a damaged one.
        """
        self._preparing = threading.Lock()
        self._ready: set[str] = set()
        with tf.Graph().as_default() as graph:
            try:
                fed = _kept_inputs(folder, kept)
                values = {name: value for name, (_, value) in fed.items()}
                self._session = v1.Session(graph=graph, config=_config())
                with deprecation.silence():  # it is the one loader for sessions
                    meta = v1.saved_model.load(self._session, _TAGS, folder, input_map=values)
            except (OSError, RuntimeError, tf.errors.OpError) as error:
                raise ValueError(f"{folder} holds no whole SavedModel ({error}). Export the model again.") from error
            self._signatures = {}
            for signature, parts in meta.signature_def.items():
                if signature == _INITIALIZER:
                    continue
                find = graph.get_tensor_by_name
                feeds = {n: fed[t.name][0] if t.name in fed else find(t.name) for n, t in parts.inputs.items()}
                fetches = {n: find(t.name) for n, t in parts.outputs.items()}
                handles = {n: tf.raw_ops.GetSessionHandle(value=t) for n, t in fetches.items() if n in kept}
                self._signatures[signature] = feeds, fetches | handles, set(handles)

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
        # The first run of its kind prepares the graph, which takes seconds: once, not once in every thread.
        with contextlib.nullcontext() if signature in self._ready else self._preparing:
            found = self._session.run(fetches, values)
        self._ready.add(signature)
        return {name: Kept(v) if name in handles else v for name, v in found.items()}

    def close(self) -> None:
        """Ends the session."""
        self._session.close()


def _config() -> Any:
    threads = len(os.sched_getaffinity(0))
    # Operations run one after the other in the thread that asks: they are many and small, and each passing of one to
    # another thread takes longer than it does. Within a product all threads work.
    config = v1.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=-1)
    # The graph's optimizer takes seconds of the first run, and makes none of the later ones faster.
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    return config


def _kept_inputs(folder: str, kept: Collection[str]) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
    """Returns, for each input that is given as `Kept`, by its name in the graph, a handle to feed and its tensor."""
    meta = loader_impl.SavedModelLoader(folder).get_meta_graph_def_from_tags(_TAGS)
    fed = {}
    for parts in meta.signature_def.values():
        for name in set(parts.inputs) & set(kept):
            handle = v1.placeholder(tf.string, [], f"kept_{name}")
            fed[parts.inputs[name].name] = (
                handle,
                tf.raw_ops.GetSessionTensor(handle=handle, dtype=tf.as_dtype(parts.inputs[name].dtype)),
            )
    return fed
