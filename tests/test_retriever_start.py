"""What a training of the retriever starts from: its data, its encoder, and the settings of a run that is resumed."""

import dataclasses
import json
import os
import shutil

import pytest

from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.systems.retriever import train as train_module
from docproduct.systems.retriever.config import RetrieverTraining
from docproduct.systems.retriever.losses import LossSettings
from docproduct.systems.retriever.start import start
from docproduct.systems.retriever.train import train
from docproduct.training import loop
from tests.conftest import SETTINGS, SIZES, VOCAB
from tests.test_checkpoints import google_tensors, write_hugging_face


def test_overwrite_replaces_only_model_folders(config, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "training_pairs", None)
    write_hugging_face(tmp_path / "encoder", google_tensors())
    before = sorted(os.listdir(tmp_path / "encoder"))
    with pytest.raises(FileExistsError, match="holds something else"):
        train(config, str(tmp_path / "encoder"), overwrite=True)
    started = dataclasses.replace(config, encoder_dir=str(tmp_path / "encoder"))
    with pytest.raises(FileExistsError, match="is an input of this training"):
        train(started, f"{tmp_path}/encoder/", overwrite=True)
    with pytest.raises(FileExistsError, match="is an input of this training"):
        train(config, config.prepared_dir, overwrite=True)
    assert sorted(os.listdir(tmp_path / "encoder")) == before


def test_a_resumed_run_must_have_the_same_start_weights(small, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(loop, "fit", lambda *_: calls.append("fit") or {})
    tensors = google_tensors()
    write_hugging_face(tmp_path / "encoder", tensors)
    # Clusters of 1, here and below: others need the vectors of all questions, which are no part of the test.
    config = RetrieverTraining(
        small, encoder_dir=str(tmp_path / "encoder"), max_tokens=20, cluster_size=1, settings=SETTINGS
    )
    train(config, str(tmp_path / "m"))
    os.rename(tmp_path / "encoder", tmp_path / "moved")
    moved = dataclasses.replace(config, encoder_dir=str(tmp_path / "moved"))
    train(moved, str(tmp_path / "m"), resume=True)
    assert len(calls) == 2
    tensors["bert/encoder/layer_1/output/dense/bias"][3] += 1
    write_hugging_face(tmp_path / "moved", tensors)
    with pytest.raises(ValueError, match="cannot be resumed with other settings: start was '"):
        train(moved, str(tmp_path / "m"), resume=True)
    assert len(calls) == 2


def test_a_corpus_without_dev_pairs_is_refused(corpus, vocab_file, tmp_path):
    prepare(PrepareSettings((corpus,), vocab_file, dev_share=0.0), str(tmp_path / "p"))
    with pytest.raises(ValueError, match="no dev pairs.*--dev_share"):
        train(RetrieverTraining(str(tmp_path / "p")), str(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_texts_longer_than_the_model_takes_are_refused(small, corpus, vocab_file, tmp_path):
    longest = PreparedFolder(small).longest()
    config = RetrieverTraining(small, random_bert=SIZES, max_tokens=longest - 1, settings=SETTINGS)
    with pytest.raises(
        ValueError, match=rf"up to {longest} tokens; this model takes at most {longest - 1}.*--max_tokens"
    ):
        train(config, str(tmp_path / "m"))
    assert not os.path.exists(tmp_path / "m")


def test_max_tokens_defaults_to_the_length_of_the_prepared_pairs(config, small, tmp_path, caplog):
    assert PreparedFolder(small).cut_at() == 20
    uncut = dataclasses.replace(config, max_tokens=None)
    write_hugging_face(tmp_path, google_tensors())
    with pytest.raises(ValueError, match="There is no folder .*names on a hub are not looked up"):
        start(dataclasses.replace(uncut, encoder_dir="a/b"), PreparedFolder(small))
    assert start(uncut, PreparedFolder(small)).config.max_tokens == 20
    encoder = dataclasses.replace(uncut, encoder_dir=str(tmp_path))
    assert start(encoder, PreparedFolder(small)).config.max_tokens == 20
    assert "were cut at" not in caplog.text
    start(dataclasses.replace(encoder, max_tokens=25), PreparedFolder(small))
    assert "were cut at 20 tokens" in caplog.text


def test_another_vocabulary_than_the_encoders_is_refused(small, tmp_path):
    write_hugging_face(tmp_path, google_tensors())
    vocab = [*VOCAB]
    vocab[-1] = "other"
    (tmp_path / "vocab.txt").write_text("\n".join(vocab) + "\n")
    with pytest.raises(ValueError, match="prepared with another vocabulary.*--tokenizer="):
        train(RetrieverTraining(small, encoder_dir=str(tmp_path)), str(tmp_path / "m"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"chunk_size": -1}, "chunk_size is -1"),
        ({"cluster_size": 0}, "cluster_size is 0"),
        ({"chunk_size": 65}, "chunk_size is 65; expected 0 to 64, the batch size"),
        ({"num_negatives": 2}, "num_negatives is 2, but there are no hard negatives"),
        ({"dropout": 1.0}, "^dropout is 1.0"),
        ({"head_dropout": -0.1}, "head_dropout is -0.1"),
        ({"loss": LossSettings(distillation_weight=0.1)}, "Give --negatives_dir"),
    ],
)
def test_contradictory_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        RetrieverTraining("p", **wrong)


def test_a_run_with_boundaries_is_resumed(config, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(loop, "fit", lambda *_: calls.append("fit") or {})
    for resume in (False, True):
        train(dataclasses.replace(config, boundaries=(9, 12), cluster_size=1), str(tmp_path / "m"), resume=resume)
    assert len(calls) == 2


def test_a_run_of_an_earlier_version_is_resumed(config, tmp_path, monkeypatch):
    """A setting missing in config.json had its default; an unknown one is refused by name."""
    monkeypatch.setattr(loop, "fit", lambda *_: {"best": {}})
    train(config, str(tmp_path))
    path = tmp_path / "config.json"
    whole = path.read_text()

    def change(**values):
        stored = json.loads(whole)
        for name, value in values.items():
            stored["training"][name] = value
        for part in (stored["training"], stored["training"]["loss"], stored["training"]["settings"]):
            for name in [name for name, value in part.items() if value == "removed"]:
                del part[name]
        path.write_text(json.dumps(stored))

    changed = {"learn_scale": "removed", "kind": "softmax", "scale": 20.0}
    change(cluster_size="removed", loss=changed, num_negatives="removed")
    train(config, str(tmp_path), resume=True)
    with pytest.raises(ValueError, match="cluster_size was 2, is 4"):
        train(dataclasses.replace(config, cluster_size=4), str(tmp_path), resume=True)
    change(pairs_of_pairs=True)
    with pytest.raises(ValueError, match=r"config\.json has settings that this version does not know: pairs_of_pairs"):
        train(config, str(tmp_path), resume=True)


def test_settings_that_change_no_results_may_change(config, tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "fit", lambda *_: {"best": {}})
    config = dataclasses.replace(config, cluster_size=1)
    train(config, str(tmp_path / "m"))
    settings = dataclasses.replace(config.settings, checkpoint_steps=9, patience=3)
    train(dataclasses.replace(config, settings=settings), str(tmp_path / "m"), resume=True)
    prepared_dir = shutil.copytree(config.prepared_dir, tmp_path / "moved")
    train(dataclasses.replace(config, prepared_dir=str(prepared_dir)), str(tmp_path / "m"), resume=True)
    for name, value in {"epochs": 3, "seed": 6, "max_steps": 2}.items():
        other = dataclasses.replace(config, settings=dataclasses.replace(config.settings, **{name: value}))
        with pytest.raises(ValueError, match=f"settings: {name} was .*, is {value}"):
            train(other, str(tmp_path / "m"), resume=True)
