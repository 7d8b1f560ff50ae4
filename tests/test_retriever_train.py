import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from absl import logging

from data_pipeline.folders.prepared import PreparedFolder
from docproduct import model_folder
from docproduct.systems.retriever import Retriever, TrainedRetriever
from docproduct.systems.retriever.dev import DevEvaluation, text_vectors
from docproduct.systems.retriever.losses import LossSettings
from docproduct.systems.retriever.start import start
from docproduct.systems.retriever.task import RetrieverTask
from docproduct.systems.retriever.train import train
from docproduct.training import loop, step
from docproduct.training.devices import set_up
from tests.conftest import SETTINGS

logging.set_verbosity(logging.WARNING)


@pytest.fixture(scope="session")
def first_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("models") / "first"


@pytest.fixture(scope="session")
def first_run(config, first_folder):
    set_up(deterministic=True)  # for the rest of the process
    return train(config, str(first_folder))


def test_a_run_leaves_a_complete_folder(config, first_run, first_folder):
    assert sorted(os.listdir(first_folder)) == [
        "README.md", "config.json", "hybrid.json", "learning_curve.png", "metrics.json", "tokenizer_config.json",
        "vocab.txt", "weights.safetensors",
    ]  # fmt: skip
    assert json.loads((first_folder / "metrics.json").read_text()) == first_run
    stored = json.loads((first_folder / "config.json").read_text())
    assert stored["training"] == json.loads(json.dumps(dataclasses.asdict(config)))
    steps = -(-PreparedFolder(config.prepared_dir).num_rows("train") // 16)
    assert len(first_run["losses"]) == 2 * steps
    assert [entry["epoch"] for entry in first_run["epochs"]] == [0, 1, 2]
    assert (first_folder / "learning_curve.png").read_bytes().startswith(b"\x89PNG")


def test_training_lowers_the_loss(config, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=30, learning_rate=2e-2)
    config = dataclasses.replace(config, dropout=0.0, head_dropout=0.0, settings=settings)
    history = train(config, str(tmp_path / "m"))
    first, *_, last = (entry["loss"] for entry in history["epochs"][1:])
    assert last < 0.7 * first


def test_the_best_epoch_is_kept(config, first_run, first_folder):
    best = max(entry["RR@10"] for entry in first_run["epochs"])
    assert first_run["best"]["RR@10"] == best
    retriever = TrainedRetriever.load(str(first_folder))
    evaluate = DevEvaluation(PreparedFolder(config.prepared_dir), 2_000, text_vectors(retriever))
    assert evaluate()["RR@10"] == pytest.approx(best)
    hybrid, tried = evaluate.choose_hybrid()
    assert retriever.hybrid == hybrid
    assert json.loads((first_folder / "hybrid.json").read_text())["dev_RR@10"] == pytest.approx(tried)


@pytest.mark.long
def test_two_runs_of_one_seed_are_equal(config, first_run, tmp_path):
    again = train(config, str(tmp_path / "again"))
    np.testing.assert_allclose(again["losses"], first_run["losses"], atol=1e-6)


def test_another_seed_gives_other_losses(config, first_run, tmp_path):
    settings = dataclasses.replace(SETTINGS, seed=6)
    other = train(dataclasses.replace(config, settings=settings), str(tmp_path / "other"))
    assert np.abs(np.subtract(other["losses"], first_run["losses"])).max() > 0.01


@pytest.mark.parametrize(
    "stop_after", [pytest.param(1, marks=pytest.mark.long), 3, pytest.param(5, marks=pytest.mark.long)]
)
def test_a_resumed_run_has_the_losses_of_an_undisturbed_one(config, first_run, tmp_path, monkeypatch, stop_after):
    folder = str(tmp_path / "stopped")
    make = loop.step_function

    def failing(*args):
        do_step, num_done = make(*args), [0]

        def run(batch):
            if num_done[0] == stop_after:
                raise KeyboardInterrupt
            num_done[0] += 1
            return do_step(batch)

        return run

    monkeypatch.setattr(loop, "step_function", failing)
    with pytest.raises(KeyboardInterrupt):
        train(config, folder)
    monkeypatch.undo()
    assert os.path.exists(f"{folder}/{loop.CHECKPOINT_FILE}") == (stop_after >= 2)
    resumed = train(config, folder, resume=True)
    np.testing.assert_allclose(resumed["losses"], first_run["losses"], atol=1e-6)
    assert [entry["RR@10"] for entry in resumed["epochs"]] == pytest.approx([e["RR@10"] for e in first_run["epochs"]])
    assert not os.path.exists(f"{folder}/{loop.CHECKPOINT_FILE}")


def test_a_finished_run_is_not_repeated(config, first_run, first_folder, monkeypatch):
    monkeypatch.setattr(loop, "fit", None)
    assert train(config, str(first_folder), resume=True) == first_run


def test_a_folder_is_not_overwritten_or_resumed_by_mistake(config, first_run, first_folder):
    folder = str(first_folder)
    with pytest.raises(FileExistsError, match="--resume"):
        train(config, folder)
    other = dataclasses.replace(config, loss=LossSettings(scale=10.0))
    with pytest.raises(ValueError, match=r"loss.scale was 20.0, is 10.0"):
        train(other, folder, resume=True)


@pytest.mark.long
def test_replicas_give_the_losses_of_one_device(small, tmp_path):
    """Two logical devices get half of each batch; embeddings are gathered, so that all answers are candidates."""
    code = f"""
import json, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0],
                                           [tf.config.LogicalDeviceConfiguration()] * 2)
import dataclasses
from docproduct.layers.bert import BertConfig
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.train import train
from docproduct.training.settings import TrainingSettings
bert = BertConfig(width=10, num_layers=2, num_heads=2, inner_width=14, max_positions=40, initializer_range=0.3,
                  dropout=0.0, attention_dropout=0.0)
settings = TrainingSettings(epochs=1, batch_size=16, learning_rate=5e-3, precision="float32", seed=5)
config = RetrieverTraining({small!r}, random_bert=bert, max_tokens=20, head_dropout=0.0, settings=settings)
one = train(config, {str(tmp_path / "one")!r})
two = train(config, {str(tmp_path / "two")!r}, strategy=tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
print(json.dumps([one["losses"], two["losses"]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.long
def test_a_strategy_with_one_device_gives_the_same_losses(config, tmp_path, monkeypatch):
    monkeypatch.setattr(step, "_WORTH_COMPILING", 1)
    one_epoch = dataclasses.replace(config, settings=dataclasses.replace(SETTINGS, epochs=1))
    plain = train(one_epoch, str(tmp_path / "plain"))
    mirrored = train(one_epoch, str(tmp_path / "mirrored"), strategy=tf.distribute.MirroredStrategy(["/cpu:0"]))
    np.testing.assert_allclose(mirrored["losses"], plain["losses"], atol=1e-5)


def test_a_run_that_learns_nothing_is_reported(config, tmp_path, caplog):
    settings = dataclasses.replace(SETTINGS, epochs=1, learning_rate=10.0)
    config = dataclasses.replace(config, freeze_bert=True, head="residual", settings=settings)
    history = train(config, str(tmp_path / "m"))
    assert history["best"]["epoch"] == 0
    assert "No epoch had a better RR@10" in caplog.text


def test_a_run_stopped_before_its_model_card_is_resumed(config, tmp_path, monkeypatch):
    settings = dataclasses.replace(SETTINGS, epochs=1, precision="bfloat16")
    one_epoch = dataclasses.replace(config, settings=settings)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(RetrieverTask, "report", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(one_epoch, str(tmp_path / "m"))
    monkeypatch.undo()
    # Settings that do not change the results may change.
    with pytest.raises(ValueError, match="dtype_policy was 'mixed_bfloat16', is 'float32'"):
        train(
            dataclasses.replace(one_epoch, settings=dataclasses.replace(settings, precision="float32")),
            str(tmp_path / "m"),
            resume=True,
        )
    # What auto chooses now, float32, does not matter: the run goes on as it was begun.
    settings = dataclasses.replace(settings, precision="auto", checkpoint_steps=7)
    train(dataclasses.replace(one_epoch, settings=settings), str(tmp_path / "m"), resume=True)
    assert (tmp_path / "m/README.md").exists()
    assert (tmp_path / "m/metrics.json").exists()


def test_frozen_bert_does_not_change(config, tmp_path, monkeypatch):
    trained, fit = [], loop.fit
    monkeypatch.setattr(loop, "fit", lambda task, *rest: trained.append(task.modules[0]) or fit(task, *rest))
    settings = dataclasses.replace(SETTINGS, epochs=1)
    config = dataclasses.replace(config, freeze_bert=True, settings=settings)
    train(config, str(tmp_path / "frozen"))
    (model,) = trained
    fresh = Retriever(model.config, seed=SETTINGS.seed)
    for ours, before in zip(model.bert.weights, fresh.bert.weights, strict=True):
        np.testing.assert_array_equal(ours, before)
    for side in ("question_head", "answer_head"):
        for ours, before in zip(getattr(model, side).weights, getattr(fresh, side).weights, strict=True):
            assert np.abs(ours - before).max() > 1e-4, ours.path


def test_a_diverged_run_names_a_remedy_and_keeps_its_last_weights(config, tmp_path):
    # The first step, at full rate, makes weights of 1e37, whose products are beyond float32 in the second.
    settings = dataclasses.replace(SETTINGS, learning_rate=1e37, warmup_share=0.0)
    with pytest.raises(ValueError, match="loss of step 2 is nan.*lower --learning_rate.*--precision=float32"):
        train(dataclasses.replace(config, settings=settings), str(tmp_path / "m"))
    retriever = TrainedRetriever.load(str(tmp_path / "m"))
    fresh = Retriever(retriever.config, seed=SETTINGS.seed)
    for ours, before in zip(retriever.model.weights, fresh.weights, strict=True):
        np.testing.assert_array_equal(ours, before)
    assert not {model_folder.METRICS_FILE, loop.CHECKPOINT_FILE} & set(os.listdir(tmp_path / "m"))


def test_a_wrong_setting_leaves_the_older_model_alone(config, first_run, first_folder):
    before = {path.name: path.read_bytes() for path in first_folder.iterdir()}
    for wrong in ({"num_buckets": 0}, {"boundaries": (5, 5)}):
        with pytest.raises(ValueError, match="expected"):
            train(dataclasses.replace(config, **wrong), str(first_folder), overwrite=True)
    with pytest.raises(ValueError, match="contradict each other"):
        train(config, str(first_folder), resume=True, overwrite=True)
    assert {path.name: path.read_bytes() for path in first_folder.iterdir()} == before


def test_the_model_card_describes_data_settings_and_scores(first_run, first_folder, config):
    card = (first_folder / "README.md").read_text()
    assert "nothing it finds is medical advice" in card
    prepared = PreparedFolder(config.prepared_dir)
    assert f"{prepared.num_rows('train'):,} train, {prepared.num_rows('dev'):,} dev" in card
    assert f"{first_run['best']['RR@10']:.4g}" in card
    assert card.count("(kept)") == 1
    assert "| batch_size | `16` |" in card
    assert "pairs.csv" in card
    assert str(first_folder) not in card
    assert config.prepared_dir not in card


@pytest.mark.parametrize("head", [pytest.param("residual", marks=pytest.mark.long), "plain", "none"])
def test_each_kind_of_head_trains(head, config, tmp_path):
    settings = dataclasses.replace(SETTINGS, epochs=1)
    loss = LossSettings(matryoshka_dims=(4,), learn_scale=True)
    changed = {"head": head, "head_depth": 2, "head_width": 6, "loss": loss}
    history = train(dataclasses.replace(config, settings=settings, **changed), str(tmp_path / "m"))
    before, after = (entry["scale"] for entry in history["epochs"])
    assert before == pytest.approx(loss.scale)
    assert after != before
    retriever = TrainedRetriever.load(str(tmp_path / "m"))
    assert retriever.config.matryoshka_dims == (4,)
    sizes = {"residual": 2 * (10 * 6 + 6 + 6 * 10 + 10), "plain": 10 * 6 + 6 + 6 * 6 + 6 + 6 * 10 + 10, "none": 0}
    assert sum(int(np.prod(weight.shape)) for weight in retriever.model.question_head.weights) == sizes[head]
    with pytest.raises(ValueError, match="head is .* asked for was"):
        TrainedRetriever.load(str(tmp_path / "m"), head="residual" if head != "residual" else "none")
    # A second round takes these settings from the model, and may change those that no weight depends on.
    second = dataclasses.replace(config, encoder_dir=str(tmp_path / "m"), max_tokens=30, head_dropout=0.3)
    again = start(second, PreparedFolder(second.prepared_dir)).config
    assert again == dataclasses.replace(retriever.config, max_tokens=30, head_dropout=0.3)
    if head == "none":
        with pytest.raises(ValueError, match="nothing is trained"):
            start(dataclasses.replace(second, freeze_bert=True), PreparedFolder(second.prepared_dir))
