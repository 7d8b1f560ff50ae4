"""Bulk embedding on a Ray cluster: every actor holds the encoder, and writes the vectors of whole shards of texts.

All machines see the same files under the same paths, and have this package. A run that was killed goes on with the
shards that are missing. Vectors differ from those of one machine by rounding alone, as texts are batched with others.

    N texts, D width
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import tensorflow as tf
from tqdm import tqdm

from data_pipeline.folders import files, prepared
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare.ray_workers import joined
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.folder import Embeddings, Side

_SHARD = 8_192  # texts, at least; a shard of a Parquet file has whole row groups


class RayEncoder:
    """Embeds as the encoder's `embed_prepared` and `embed_ids` do, on a cluster.

    Leaving the context without an error removes the shards; after an error they stay for the next run.
    """

    def __init__(self, retriever: TrainedRetriever, model_dir: str, work_dir: str):
        """Joins the cluster and starts the actors, as `placement` says.

        Args:
          retriever: the encoder, as `TrainedRetriever.load_for_many` returns it.
          model_dir: the folder that it was loaded from.
          work_dir: folder of the shards; it may hold those of a run that was killed.

        Raises:
          ValueError: Ray is not installed.
          ConnectionError: there is no cluster at RAY_ADDRESS.
        """
        self._ray, self._joined = joined()
        self._retriever, self._model = retriever, (os.path.abspath(model_dir), retriever.dtype_policy)
        self._work_dir = os.path.abspath(work_dir)
        num_actors, needs = placement(self._ray.nodes())
        options = {"scheduling_strategy": "SPREAD", "max_restarts": 3, "max_task_retries": 3}
        actor = self._ray.remote(**needs, **options)(_Encoder)
        self._actors = [actor.remote(*self._model, retriever.fingerprint()) for _ in range(num_actors)]

    def __enter__(self) -> "RayEncoder":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            shutil.rmtree(self._work_dir, ignore_errors=True)
        for actor in self._actors:
            self._ray.kill(actor)
        if self._joined:
            self._ray.shutdown()

    def embed_prepared(self, folder: PreparedFolder, side: Side, progress: str | None = None) -> Embeddings:
        """Encodes one side of all pairs of a prepared folder, in the order of its Parquet file."""
        path = os.path.abspath(os.path.join(folder.path, prepared.table_file(folder.schema)))
        tasks = [("write_rows", path, side, groups) for groups in _row_groups(path)]
        return self._embed(tasks, [folder.fingerprint(), side], progress)

    def embed_ids(self, ids: tf.RaggedTensor, side: Side, progress: str | None = None) -> Embeddings:
        """Encodes tokenized texts, [N, (T)] int32."""
        values, ends = ids.flat_values.numpy(), ids.row_splits.numpy()
        tasks = []
        for start in range(0, len(ends) - 1, _SHARD):
            splits = ends[start : start + _SHARD + 1]
            tasks.append(("write_ids", values[splits[0] : splits[-1]], splits - splits[0], side))
        hashes = [hashlib.sha256(array.tobytes()).hexdigest() for array in (values, ends)]
        return self._embed(tasks, [*hashes, side], progress)

    def _embed(self, tasks: Sequence[tuple[Any, ...]], of_what: list[str], progress: str | None) -> Embeddings:
        """Returns the vectors of all tasks, one behind the other; those of an earlier run are read."""
        state = files.fingerprint([self._retriever.fingerprint(), self._retriever.dtype_policy, _SHARD, *of_what])[:16]
        paths = [os.path.join(self._work_dir, f"{state}-{number:06d}.npz") for number in range(len(tasks))]
        os.makedirs(self._work_dir, exist_ok=True)
        missing = [(path, task) for path, task in zip(paths, tasks, strict=True) if not os.path.isfile(path)]
        pool = self._ray.util.ActorPool(self._actors)
        done = pool.map_unordered(_write, missing)
        for _ in tqdm(self._without_wrapping(done), progress, len(missing), unit=" shards", disable=progress is None):
            pass
        return Embeddings(*map(np.concatenate, zip(*map(_load, paths), strict=True)))

    def _without_wrapping(self, results: Iterable[None]) -> Iterable[None]:
        try:
            yield from results
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayActorError as error:  # it failed at the start, or too often
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(f"A machine of the cluster cannot run the encoder: {reason}") from error


def placement(nodes: Sequence[Mapping[str, Any]]) -> tuple[int, dict[str, int]]:
    """Returns how many actors a cluster gets, and what each reserves.

    One for each GPU; without GPUs, one for each machine with processors, small enough to fit on every one of them.

    Args:
      nodes: the machines, as `ray.nodes` returns them; some may be gone, and a head node may have no processors.
    """
    machines = [node["Resources"] for node in nodes if node["Alive"]]
    if num_gpus := sum(int(resources.get("GPU", 0)) for resources in machines):
        return num_gpus, {"num_gpus": 1}
    processors = [int(resources["CPU"]) for resources in machines if resources.get("CPU", 0) >= 1]
    return max(1, len(processors)), {"num_cpus": min(processors, default=1)}


def _write(actor: Any, path_and_task: tuple[str, tuple[Any, ...]]) -> Any:
    path, (method, *arguments) = path_and_task
    return getattr(actor, method).remote(path, *arguments)


def _row_groups(path: str) -> list[list[int]]:
    """Returns the row groups of each shard of a Parquet file."""
    metadata = pq.ParquetFile(path).metadata
    shards: list[list[int]] = []
    rows = _SHARD
    for group in range(metadata.num_row_groups):
        if rows >= _SHARD:
            shards.append([])
            rows = 0
        shards[-1].append(group)
        rows += metadata.row_group(group).num_rows
    return shards


class _Encoder:
    """A copy of the encoder in a process of the cluster."""

    def __init__(self, model_dir: str, dtype_policy: str, fingerprint: str):
        self._retriever = TrainedRetriever.load(model_dir, dtype=dtype_policy)
        self._retriever.compile_for_many()
        if self._retriever.fingerprint() != fingerprint:
            raise ValueError(
                f"A machine of the cluster finds another model in {model_dir}. Expected all to see the same files."
            )

    def write_rows(self, path: str, table: str, side: Side, groups: list[int]) -> None:
        """Writes the vectors of some row groups."""
        texts = pq.ParquetFile(table).read_row_groups(groups, columns=[side])[side].to_pylist()
        _save(path, self._retriever.embed(texts, side))

    def write_ids(self, path: str, values: np.ndarray, row_splits: np.ndarray, side: Side) -> None:
        """Writes the vectors of some tokenized texts."""
        ids = tf.RaggedTensor.from_row_splits(values, row_splits)
        _save(path, self._retriever.embed_ids(ids, side))


def _load(path: str) -> Embeddings:
    with np.load(path) as stored:  # closed at once: there may be more shards than files that may be open
        return Embeddings(**stored)


def _save(path: str, vectors: Embeddings) -> None:
    with files.whole_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, **vectors._asdict())
