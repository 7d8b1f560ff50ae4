"""The inputs of training: batches, hard negatives, stored vectors."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.negatives import MiningSettings, mine
from docproduct.systems.retriever import TrainedRetriever
from docproduct.systems.retriever.dev import DevEvaluation, text_vectors
from docproduct.systems.retriever.embedding_store import open_store
from docproduct.systems.retriever.losses import LossSettings
from docproduct.systems.retriever.start import start
from docproduct.systems.retriever.task import RetrieverTask
from docproduct.systems.retriever.train import train
from tests.conftest import SETTINGS


@pytest.mark.long
def test_a_second_round_with_hard_negatives_trains(config, tmp_path):
    """Mines with a trained model, then trains from it: plain, with gradient caching, and with a frozen encoder."""
    settings = dataclasses.replace(SETTINGS, epochs=1)
    first = dataclasses.replace(config, settings=settings)
    train(first, str(tmp_path / "first"))
    prepared = PreparedFolder(config.prepared_dir)
    trained = TrainedRetriever.load(str(tmp_path / "first"))
    mine(trained, prepared, str(tmp_path / "n"), MiningSettings(relative_margin=1.0))
    before = DevEvaluation(prepared, 2_000, text_vectors(trained))()
    hard = dataclasses.replace(
        first,
        encoder_dir=str(tmp_path / "first"),
        negatives_dir=str(tmp_path / "n"),
        num_negatives=2,
        loss=LossSettings("symmetric", distillation_weight=0.2, false_negative_margin=0.3),
    )
    for name, frozen, chunk in (("hard", False, 0), ("cached", False, 5), ("frozen", True, 0)):
        second = dataclasses.replace(hard, freeze_bert=frozen, chunk_size=chunk)
        history = train(second, str(tmp_path / name))
        assert len(history["losses"]) == 4
        assert history["epochs"][0]["RR@10"] == pytest.approx(before["RR@10"])
        stored = json.loads((tmp_path / name / "config.json").read_text())
        assert stored["negatives"] == files.sha256(str(tmp_path / "n" / "negatives.parquet"))


def test_clustered_batches_hold_the_same_pairs(config):
    prepared, strategy = PreparedFolder(config.prepared_dir), tf.distribute.get_strategy()
    plain, clustered = (
        RetrieverTask(sized, prepared, start(sized, prepared), strategy, "").batches
        for sized in (
            dataclasses.replace(config, cluster_size=size, num_buckets=2, reworded_share=0.0) for size in (1, 4)
        )
    )

    def pairs(batches):
        return {
            pair_id: {
                name: batch[name][i].numpy()[batch[name][i] != 0].tolist() for name in ("question_ids", "answer_ids")
            }
            for batch in batches
            for i, pair_id in enumerate(batch["pair_id"].numpy())
        }

    assert pairs(plain(0, 0)) == pairs(clustered(0, 0)) == pairs(clustered(1, 0))
    assert all(
        spec.is_compatible_with(clustered(0, 0).element_spec[name]) for name, spec in plain(0, 0).element_spec.items()
    )
    whole_epoch, later = list(clustered(1, 0)), list(clustered(1, 2))
    assert [batch["pair_id"].numpy().tolist() for batch in whole_epoch[2:]] == [
        batch["pair_id"].numpy().tolist() for batch in later
    ]


def test_the_step_is_traced_once(config, tmp_path, monkeypatch):
    traces, encode = [], RetrieverTask.encode
    monkeypatch.setattr(RetrieverTask, "encode", lambda task, batch: traces.append(1) or encode(task, batch))
    train(config, str(tmp_path / "m"))
    assert len(traces) == 1


def test_a_store_missing_on_another_worker_is_reported(config, retriever, tmp_path):
    prepared = PreparedFolder(shutil.copytree(config.prepared_dir, tmp_path / "p"))
    with pytest.raises(FileNotFoundError, match="the first worker.*the same --prepared_dir"):
        open_store(retriever, prepared, "question", make=False)
    written = open_store(retriever, prepared, "question")
    np.testing.assert_array_equal(open_store(retriever, prepared, "question", make=False), written)
