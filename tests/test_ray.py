"""Preparing and embedding on a Ray cluster of this machine: the same results as without one."""

import dataclasses
import filecmp
import os

import numpy as np
import pytest
import ray
import tensorflow as tf

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare, ray_workers
from data_pipeline.prepare.workers import RAY
from docproduct.index import Index, build, ray_embedding
from docproduct.index.ray_embedding import RayEncoder, placement
from docproduct.systems.retriever.start import start

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def encoder(config, tmp_path_factory):
    """A random encoder in a folder, and its config."""
    folder = str(tmp_path_factory.mktemp("encoder"))
    retriever = start(config, PreparedFolder(config.prepared_dir))
    retriever.save_config(folder, {})
    retriever.save_weights(folder)
    return retriever, folder


def test_preparing_gives_the_same_files(corpus, vocab_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = PrepareSettings((corpus,), os.path.relpath(vocab_file, tmp_path), dev_share=0.2)
    for name, engine in (("one", "local"), ("cluster", RAY)):
        prepare(settings, name, num_workers=0, engine=engine)
    compared = filecmp.dircmp("one", "cluster")
    assert compared.common_files == sorted(os.listdir("one")) == sorted(os.listdir("cluster"))
    assert filecmp.cmpfiles("one", "cluster", compared.common_files, shallow=False)[1:] == ([], [])


def test_an_error_of_a_call_is_raised_as_it_is():
    with ray_workers.RayWorkers() as workers:
        assert list(workers.map(divmod, [(7, 2), (9, 4)] * 5)) == [(3, 1), (2, 1)] * 5
        with pytest.raises(ZeroDivisionError):
            list(workers.map(divmod, [(7, 2), (7, 0)]))
    assert ray.is_initialized()  # a cluster that was joined before stays joined


def test_an_index_has_the_same_vectors_and_a_killed_run_goes_on(encoder, config, tmp_path, monkeypatch):
    retriever, folder = encoder
    prepared, work = PreparedFolder(config.prepared_dir), tmp_path / "work"
    monkeypatch.setattr(ray_embedding, "_SHARD", 3)
    build(retriever, prepared, str(tmp_path / "one"))
    with pytest.raises(KeyboardInterrupt), RayEncoder(retriever, folder, str(work)) as cluster:
        cluster.embed_prepared(prepared, "question")
        raise KeyboardInterrupt
    written = {path: path.stat().st_mtime_ns for path in work.iterdir()}
    assert written
    with RayEncoder(retriever, folder, str(work)) as cluster:
        build(retriever, prepared, str(tmp_path / "cluster"), encoder=cluster)
        assert written.items() <= {path: path.stat().st_mtime_ns for path in work.iterdir()}.items()
    assert not work.exists()
    one, cluster = (Index(str(tmp_path / name), retriever) for name in ("one", "cluster"))
    for side in ("question", "answer"):
        np.testing.assert_allclose(cluster.vectors(side), one.vectors(side), atol=1e-5)


def test_windows_of_texts_have_the_same_vectors(encoder, tmp_path, monkeypatch):
    retriever, folder = encoder
    monkeypatch.setattr(ray_embedding, "_SHARD", 2)
    ids = retriever.token_ids(["the cause", "what helps against x?", "z", "", "y y y"], "answer")
    with RayEncoder(retriever, folder, str(tmp_path / "work")) as cluster:
        found = cluster.embed_ids(ids, "answer")
    for name, vectors in retriever.embed_ids(ids, "answer")._asdict().items():
        np.testing.assert_allclose(getattr(found, name), vectors, atol=1e-5)


def test_every_actor_fits_on_a_machine():
    def node(alive=True, **resources):
        return {"Alive": alive, "Resources": resources}

    # A head node without processors, a machine that is gone, and two unequal ones: an actor of 4 fits on each.
    assert placement([node(), node(False, CPU=64.0), node(CPU=60.0), node(CPU=4.0)]) == (2, {"num_cpus": 4})
    assert placement([node(CPU=8.0), node(CPU=8.0, GPU=2.0), node(CPU=8.0, GPU=1.0)]) == (3, {"num_gpus": 1})


def test_another_model_on_a_machine_is_refused(encoder, config, tmp_path):
    _, folder = encoder
    seeded = dataclasses.replace(config, settings=dataclasses.replace(config.settings, seed=7))
    other, ids = start(seeded, PreparedFolder(config.prepared_dir)), tf.ragged.constant([[2, 3]], tf.int32)
    refused = pytest.raises(ValueError, match="cannot run the encoder: .*another model")
    with refused, RayEncoder(other, folder, str(tmp_path / "work")) as cluster:
        cluster.embed_ids(ids, "answer")
