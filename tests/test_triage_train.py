"""Training of the triage model: its variants, its gradients, resuming, the folder, and rows that lack something."""

import dataclasses
import os

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.rows import TRIAGE
from docproduct.systems.triage import TrainedTriage, rows
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.labels import LabelSettings
from docproduct.systems.triage.losses import PAD
from docproduct.systems.triage.start import probe, start
from docproduct.systems.triage.task import TriageTask
from docproduct.systems.triage.train import train
from docproduct.training.step import make_optimizer, step_function
from tests.triage_models import DECODER, PARTS, SETTINGS, TABLE, config_in, prepare_table, write_table


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return config_in(tmp_path_factory.mktemp("triage"))


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("trained") / "m")
    return folder, train(config, folder)


def task_of(config, model_dir=""):
    prepared = PreparedFolder(config.prepared_dir, TRIAGE)
    triage = start(config, prepared)
    parts = [rows.read(config, triage, prepared, split) for split in ("train", "dev")]
    return TriageTask(config, prepared, triage, *parts, model_dir)


@pytest.fixture(scope="module")
def task(config):
    return task_of(dataclasses.replace(config, dropout=0.0, probe_first=False))


def some_batch(task):
    return task._rows.batch([0, 1, 2, 3, 4])


def test_batches_hold_each_row_once(task):
    batches = list(task.batches(0, 0))
    assert [len(batch["classes"]) for batch in batches[:-1]] == [16] * (len(batches) - 1)
    texts = [tuple(row[row != 0]) for batch in batches for row in batch["text_ids"].numpy()]
    assert sorted(texts) == sorted(tuple(ids) for ids in task._rows.text_ids)
    assert len(texts) == task.num_rows
    again = [batch["text_ids"].numpy() for batch in task.batches(0, 1)]
    assert all(np.array_equal(a, b["text_ids"]) for a, b in zip(again, batches[1:], strict=True))
    other = [tuple(row[row != 0]) for batch in task.batches(1, 0) for row in batch["text_ids"].numpy()]
    assert other != texts


def test_replies_have_a_beginning_and_an_end(task):
    tokenizer = task.triage.generator.tokenizer
    (ids,), (empty,) = (rows.ids_of_replies([text], tokenizer, 60) for text in ("see the skin doctor 1", ""))
    assert empty == []
    assert ids[-1] == tokenizer.end_ids[0]
    assert tokenizer.decode(ids[1:-1]).startswith("see the ")
    (cut,) = rows.ids_of_replies(["see the skin doctor 1"], tokenizer, 3)
    assert cut == ids[:4]  # three tokens behind the beginning, and no end


def test_both_losses_reach_the_encoder(task):
    """The gradient of each loss alone, by finite differences of one embedding."""
    batch = some_batch(task)
    table = task.triage.model.bert.token_embedding.embeddings
    token = int(batch["text_ids"][0, 1])
    start_values = [v.numpy() for v in task.triage.model.weights]
    task.triage.model.classifier.set_weights([np.random.default_rng(0).normal(size=(10, 3)), np.zeros(3)])
    for name in ("label_weights", "reply_weights"):
        ones, zeros = tf.ones([5]), tf.zeros([5])
        given = batch | {"label_weights": zeros, "reply_weights": zeros, "ones": ones} | {name: ones}

        def loss(given=given):
            return task.loss(given, lambda x: x)

        with tf.GradientTape() as tape:
            value = loss()
        gradient = tf.convert_to_tensor(tape.gradient(value, table.value)).numpy()[token]
        assert np.abs(gradient).max() > 1e-4
        before, step = table.numpy(), 1e-2
        for place in (0, 7):
            differences = []
            for sign in (1, -1):
                moved = before.copy()
                moved[token, place] += sign * step
                table.assign(moved)
                differences.append(float(loss()))
            table.assign(before)
            numeric = (differences[0] - differences[1]) / (2 * step)
            assert gradient[place] == pytest.approx(numeric, abs=2e-2 * float(np.abs(gradient).max()) + 1e-3)
    for variable, value in zip(task.triage.model.weights, start_values, strict=True):
        variable.assign(value)


def test_rows_and_tokens_count_alike(task, config):
    """The loop divides by all rows; the labels' loss is a mean over labeled rows, the replies' over tokens."""
    batch = task._rows.batch(list(range(8)))
    batch["classes"] = tf.constant([0, 1, -1, 2, 0, -1, 1, 1])
    lost = tf.where(tf.range(8)[:, None] < 3, PAD, batch["reply_ids"])
    batch["reply_ids"] = lost
    total, _ = task.gradients(batch, lambda x: x)
    num_tokens = int(tf.reduce_sum(tf.cast(lost[:, 1:] != PAD, tf.int32)))
    logits, states = task.triage.model(batch["text_ids"])
    log_probs = np.array(tf.nn.log_softmax(logits))
    labels = -np.mean([log_probs[row, c] for row, c in enumerate(batch["classes"].numpy()) if c >= 0])
    from docproduct.systems.triage.losses import reply_losses

    mask = tf.cast(batch["text_ids"] != 0, tf.int32)
    sums, _ = reply_losses(task.triage.generator.decoder, lost, states, mask)
    replies = float(tf.reduce_sum(sums)) / num_tokens
    assert float(total) / 8 == pytest.approx(labels + config.reply_weight * replies, abs=1e-4)


def test_chunks_give_the_gradients_of_the_whole(task, config, monkeypatch):
    batch = some_batch(task)
    total, gradients = task.gradients(batch, lambda x: x)
    monkeypatch.setattr(task, "_config", dataclasses.replace(task._config, chunk_size=2))
    in_chunks, of_chunks = task.gradients(batch, lambda x: x)
    assert float(in_chunks) == pytest.approx(float(total), rel=1e-5)
    for whole, part in zip(gradients, of_chunks, strict=True):
        assert np.allclose(whole, part, atol=1e-4)


def test_the_first_classifier_is_a_logistic_regression(config):
    task = task_of(config)
    rows = task._rows
    labeled = rows.classes >= 0
    assert labeled.sum() < len(labeled)
    vectors, classes = task.triage.vectors(rows.text_ids).astype(np.float64), rows.classes[labeled]
    weights = dict(enumerate(task.class_weights.tolist()))
    fits = []  # one for each strength of the regularization, chosen by cross-validation over the scaled vectors
    for strength in 10.0 ** np.arange(-4, 2):
        regression = LogisticRegression(C=strength, class_weight=weights, tol=1e-10, max_iter=5000)
        fits.append(make_pipeline(StandardScaler(), regression).fit(vectors[labeled], classes).predict_proba(vectors))
    probe(task.triage, rows, task.class_weights, 0)
    probabilities = scipy.special.softmax(task.triage.logits(rows.text_ids), axis=1)
    assert min(np.abs(probabilities - fit).max() for fit in fits) < 1e-3


def test_a_component_that_hardly_varies_does_not_drown_the_others(config, monkeypatch):
    task = task_of(config)
    vectors = task.triage.vectors(task._rows.text_ids)
    vectors[:, 3] = np.random.default_rng(0).normal(size=len(vectors)) * 1e-30
    monkeypatch.setattr(task.triage, "vectors", lambda ids: vectors[: len(ids)])
    probe(task.triage, task._rows, task.class_weights, 0)
    kernel, _ = task.triage.model.classifier.get_weights()
    assert np.abs(kernel).max() < 1e4


def test_trained_folder(trained, config):
    folder, history = trained
    assert history["best"]["reply_perplexity"] < history["epochs"][0]["reply_perplexity"]
    assert set(history["best"]) >= {"accuracy", "macro_f1", "ece", "reply_perplexity", "BLEU-2", "BLEU-4", "ROUGE-L"}
    assert set(os.listdir(folder)) == {
        *("README.md", "config.json", "confusion.png", "decoder", "learning_curve.png", "metrics.json"),
        *("report.json", "tokenizer_config.json", "triage.json", "vocab.txt", "weights.safetensors"),
    }
    card = files.read_text(f"{folder}/README.md")
    assert "nothing it says or writes is medical advice" in card
    assert "| heart |" in card
    report = files.read_json(f"{folder}/report.json")
    assert report["scores"]["accuracy"] == pytest.approx(history["best"]["accuracy"])
    low, high = report["intervals"]["accuracy"]
    assert low <= report["scores"]["accuracy"] <= high
    triage = TrainedTriage.load(folder)
    probs = triage.probs([row[0] for row in TABLE[:5]])
    assert probs.sum(axis=1) == pytest.approx(1, abs=1e-5)
    known = triage.model.known.numpy()
    assert np.linalg.norm(known, axis=1) == pytest.approx(1, abs=1e-5)
    dev = PreparedFolder(config.prepared_dir, TRIAGE).table(["text", "label"], "dev").to_pylist()
    near = triage.familiarity(triage.token_ids([row["text"] for row in dev if row["label"]]))
    assert triage.calibration.known_from == pytest.approx(np.quantile(near, 0.02), abs=1e-5)
    replies = triage.replies([row[0] for row in TABLE[:3]])
    assert len(replies) == 3
    assert triage.replies([TABLE[1][0]]) == replies[1:2]  # batch mates change no reply


def test_replies_fit_the_decoders_window(config):
    narrow = dataclasses.replace(config, random_decoder=dataclasses.replace(DECODER, max_positions=8))
    task = task_of(narrow)
    assert task.triage.config.max_reply_tokens == 7
    assert max(map(len, task._rows.reply_ids)) == 8  # with the mark that begins them
    assert len(task.triage.replies(["a cough"])) == 1


def test_uncertainty_weights_are_trained(config, tmp_path):
    task = task_of(dataclasses.replace(config, weighting="uncertainty"))
    assert task._task_weights in task.modules
    assert task_of(config)._task_weights is None
    optimizer = make_optimizer(task, config.settings, tf.distribute.get_strategy())
    step = step_function(task, optimizer, 1.0, tf.distribute.get_strategy())
    for batch in task.batches(0, 0):
        step(batch)
    # Both losses are above 1/2, where s = 0 would stay; that of the replies is the larger one, and counts less.
    labels, replies = task._task_weights.log_variances.numpy()
    assert replies > labels > 0.1


def test_rows_that_lack_something(tmp_path, caplog):
    dev = [("chest again", "heart", ""), ("an eye", "eye", ""), ("only a reply", "", "rest")]
    dev_path = write_table(tmp_path / "dev.csv", dev)
    folder = prepare_table(tmp_path, [*TABLE, ("word " * 60, "skin", "")], dev_inputs=(dev_path,), dev_share=0.0)
    config = TriageTraining(folder, **PARTS, settings=SETTINGS)
    caplog.set_level("INFO", logger="absl")
    task = task_of(config)
    assert "Labels of dev rows that are no classes: eye" in caplog.text
    assert "1 of 3 dev rows have nothing that this variant learns" in caplog.text
    assert "of 41 train texts fill --max_tokens=20: longer ones are cut" in caplog.text
    assert max(map(len, task._rows.text_ids)) == 20
    encoder = dataclasses.replace(config, variant="encoder")
    assert len(task_of(encoder)._evaluation.classes) == 1
    joined = dataclasses.replace(encoder, labels=LabelSettings(top_labels=2, other_label="other"))
    assert task_of(joined).triage.labels[-1] == "other"
    assert len(task_of(joined)._evaluation.classes) == 2  # the unknown label is one of the others


def test_one_class_only(tmp_path):
    folder = prepare_table(tmp_path, [(text, "heart", reply) for text, _, reply in TABLE])
    with pytest.raises(ValueError, match=r"have 1 labels to tell apart \(heart\); expected two or more"):
        train(TriageTraining(folder, **PARTS, settings=SETTINGS), str(tmp_path / "m"))


def test_rows_must_have_what_is_learned(tmp_path, config):
    folder = prepare_table(tmp_path, [(text, label, "") for text, label, _ in TABLE])
    config = dataclasses.replace(config, prepared_dir=folder)
    with pytest.raises(ValueError, match="No train row has a reply"):
        train(config, str(tmp_path / "m"))
    assert task_of(dataclasses.replace(config, variant="encoder")).num_rows == 30


def test_a_model_without_replies_is_no_decoder(config, tmp_path):
    encoder = task_of(dataclasses.replace(config, variant="encoder")).triage
    folder = tmp_path / "encoder"
    folder.mkdir()
    encoder.save_config(str(folder), {})
    encoder.save_weights(str(folder))
    with pytest.raises(ValueError, match="was trained without replies"):
        task_of(dataclasses.replace(config, decoder_dir=str(folder)))
