"""Trainings of the triage model from begin to end: its variants, parts trained alone, resuming, replicas, a grid."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import TRIAGE
from docproduct.systems.triage import TrainedTriage, grid
from docproduct.systems.triage.labels import LabelSettings
from docproduct.systems.triage.start import start
from docproduct.systems.triage.task import TriageTask
from docproduct.systems.triage.train import train
from docproduct.training import devices
from tests.triage_models import SETTINGS, config_in


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return config_in(tmp_path_factory.mktemp("triage"))


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("trained") / "m")
    return folder, train(config, folder)


def weights_of(triage):
    return {v.path: v.numpy() for v in triage.model.bert.weights}


@pytest.mark.parametrize("variant", ["encoder", "frozen", "decoder"])
def test_variants(variant, config, tmp_path):
    config = dataclasses.replace(config, variant=variant, settings=dataclasses.replace(SETTINGS, epochs=1))
    folder = str(tmp_path / "m")
    history = train(config, folder)
    triage = TrainedTriage.load(folder)
    before = weights_of(start(config, PreparedFolder(config.prepared_dir, TRIAGE)))
    changed = any(not np.array_equal(before[path], value) for path, value in weights_of(triage).items())
    assert changed == (variant == "encoder")
    assert triage.has_replies == (variant == "decoder")
    assert bool(triage.labels) == (variant != "decoder")
    assert ("accuracy" in history["best"]) == (variant != "decoder")
    with pytest.raises(ValueError, match="no labels" if variant == "decoder" else "no decoder"):
        triage.probs(["a"]) if variant == "decoder" else triage.replies(["a"])


def test_joint_from_trained_parts(trained, config, tmp_path):
    """The fifth experiment of the paper: encoder and decoder come from models that were trained alone."""
    folder, _ = trained
    parts = dataclasses.replace(config, encoder_dir=folder, decoder_dir=folder, probe_first=False)
    triage, first = start(parts, PreparedFolder(config.prepared_dir, TRIAGE)), TrainedTriage.load(folder)
    for path, value in weights_of(first).items():
        assert np.array_equal(value, weights_of(triage)[path])
    assert np.array_equal(triage.model.classifier.kernel, first.model.classifier.kernel)
    other_labels = dataclasses.replace(parts, labels=LabelSettings(top_labels=2))
    assert not start(other_labels, PreparedFolder(config.prepared_dir, TRIAGE)).has_classifier()
    for ours, theirs in zip(triage.generator.decoder.weights, first.generator.decoder.weights, strict=True):
        assert np.array_equal(ours, theirs)


@pytest.mark.long
def test_resumed_is_undisturbed(trained, config, tmp_path, monkeypatch):
    # The encoder's folder has a vocabulary: one that is learned from texts is not always the same.
    config = dataclasses.replace(config, encoder_dir=trained[0], num_replies=0)
    undisturbed = train(config, str(tmp_path / "undisturbed"))
    again = str(tmp_path / "m")
    evaluate, calls = TriageTask.evaluate, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(self)

    with monkeypatch.context() as patch:
        patch.setattr(TriageTask, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(config, again)
    resumed = train(config, again, resume=True)
    assert resumed["losses"] == pytest.approx(undisturbed["losses"], abs=1e-5)
    assert resumed["best"]["accuracy"] == undisturbed["best"]["accuracy"]
    assert train(config, again, resume=True) == resumed  # nothing is left to do


@pytest.mark.long
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_replicas_give_the_losses_of_one_device(weighting, trained, config, tmp_path):
    """Two logical devices get half of each batch; labels and tokens of replies count alike over both."""
    code = f"""
import json
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.train import train
from docproduct.training import devices
from docproduct.training.settings import TrainingSettings
settings = TrainingSettings(epochs=1, batch_size=8, learning_rate=3e-3, precision="float32", seed=5)
config = TriageTraining({config.prepared_dir!r}, {trained[0]!r}, {trained[0]!r}, weighting={weighting!r}, dropout=0.0,
                        max_tokens=20, max_reply_tokens=10, num_replies=0, settings=settings)
one = train(config, {str(tmp_path / "one")!r})
two = train(config, {str(tmp_path / "two")!r}, strategy=tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
print(json.dumps([one["losses"], two["losses"]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_several_workers_need_a_vocabulary(config, tmp_path, monkeypatch):
    monkeypatch.setattr(devices, "num_workers", lambda strategy: 2)
    with pytest.raises(ValueError, match="Several workers need --encoder_dir"):
        train(config, str(tmp_path / "m"))


@pytest.mark.long
def test_grid_goes_on_where_it_stopped(trained, config, tmp_path, monkeypatch):
    """It is killed inside its second training, behind the last step."""
    folder = str(tmp_path / "grid")
    config = dataclasses.replace(
        config,
        variant="encoder",
        encoder_dir=trained[0],  # has a vocabulary: one that is learned from texts is not always the same
        probe_first=False,
        settings=dataclasses.replace(SETTINGS, epochs=1),
    )
    values = {"learning_rate": [1e-4, 1e-2]}
    evaluate, calls = TriageTask.evaluate, []

    def interrupted(self):
        calls.append(1)
        if len(calls) == 4:  # before and after each training
            raise KeyboardInterrupt
        return evaluate(self)

    with monkeypatch.context() as patch:
        patch.setattr(TriageTask, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            grid.search(config, values, folder)
    best = grid.search(config, values, folder)
    undisturbed = train(grid.with_values(config, {"learning_rate": 1e-2}), str(tmp_path / "undisturbed"))
    losses = files.read_json(f"{folder}/runs/learning_rate=0.01/metrics.json")["losses"]
    assert losses == pytest.approx(undisturbed["losses"], abs=1e-5)
    content = files.read_json(f"{folder}/grid.json")
    scores = [run["scores"]["accuracy"] for run in content["runs"]]
    assert scores == sorted(scores, reverse=True)
    assert best["best"]["accuracy"] == scores[0]
    kept = TrainedTriage.load(f"{folder}/best")
    assert kept.fingerprint() == TrainedTriage.load(f"{folder}/runs/{content['runs'][0]['name']}").fingerprint()
    with pytest.raises(FileExistsError, match="holds no search"):
        grid.search(config, values, config.prepared_dir)
