"""Training of the triage model: its variants, its gradients, resuming, the folder, and rows that lack something."""

import csv
import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.corpora.triage import TRIAGES
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from data_pipeline.rows import TRIAGE
from docproduct.systems.generator.cross_attention import SmallDecoder
from docproduct.systems.triage import TrainedTriage, grid, rows
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.labels import LabelSettings
from docproduct.systems.triage.losses import PAD
from docproduct.systems.triage.start import probe, start
from docproduct.systems.triage.task import TriageTask
from docproduct.systems.triage.train import train
from docproduct.training import devices
from docproduct.training.settings import TrainingSettings
from tests.conftest import TINY_BERT

SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, learning_rate=3e-3, precision="float32", checkpoint_steps=1, seed=5, keep="last"
)
BERT = dataclasses.replace(TINY_BERT, max_positions=40)
DECODER = SmallDecoder(width=8, num_layers=1, num_heads=2, max_positions=24)
PARTS = {"random_bert": BERT, "random_decoder": DECODER, "max_tokens": 20, "max_reply_tokens": 10, "num_replies": 3}
WORDS = {"heart": ("chest", "pulse"), "skin": ("rash", "itch"), "lung": ("cough", "breath")}


def write_table(path, table):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "reply"), *table])
    return str(path)


def prepare_table(folder, table, **settings):
    path = write_table(folder / "table.csv", table)
    settings = {"dev_share": 0.25, "seed": 1} | settings
    prepare(PrepareSettings((path,), **settings), str(folder / "prepared"), reader=TRIAGES)
    return str(folder / "prepared")


@pytest.fixture(scope="module")
def table():
    names = sorted(WORDS)
    return [
        (
            f"{WORDS[names[i % 3]][i % 2]} pain number {i} for {'many ' * (i % 5)}days",
            names[i % 3],
            f"see the {names[i % 3]} doctor {i % 4}",
        )
        for i in range(40)
    ]


@pytest.fixture(scope="module")
def prepared_dir(table, tmp_path_factory):
    # One row has a label only, one a reply only.
    more = [("a label alone", "skin", ""), ("a reply alone", "", "rest a while")]
    return prepare_table(tmp_path_factory.mktemp("triage"), [*table, *more])


@pytest.fixture(scope="module")
def config(prepared_dir):
    return TriageTraining(prepared_dir, **PARTS, settings=SETTINGS)


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


def test_the_first_classifier_is_a_logistic_regression(config, tmp_path):
    task = task_of(config)
    before = task.evaluate()["accuracy"]
    probe(task.triage, task._rows, task.class_weights, 0)
    logits = task.triage.logits(task._rows.text_ids)
    labeled = task._rows.classes >= 0
    assert np.mean(logits.argmax(axis=1) == task._rows.classes) > 0.6 > before
    assert labeled.sum() < len(labeled)


def test_a_component_that_hardly_varies_does_not_drown_the_others(config, monkeypatch):
    task = task_of(config)
    vectors = task.triage.vectors(task._rows.text_ids)
    vectors[:, 3] = np.random.default_rng(0).normal(size=len(vectors)) * 1e-30
    monkeypatch.setattr(task.triage, "vectors", lambda ids: vectors[: len(ids)])
    probe(task.triage, task._rows, task.class_weights, 0)
    kernel, _ = task.triage.model.classifier.get_weights()
    assert np.abs(kernel).max() < 1e4


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("trained") / "m")
    return folder, train(config, folder)


def test_trained_folder(trained, table):
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
    probs = triage.probs([row[0] for row in table[:5]])
    assert probs.sum(axis=1) == pytest.approx(1, abs=1e-5)
    replies = triage.replies([row[0] for row in table[:3]])
    assert len(replies) == 3
    assert triage.replies([table[1][0]]) == replies[1:2]  # batch mates change no reply


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


@pytest.mark.long
@pytest.mark.parametrize("weighting", ["fixed", "uncertainty"])
def test_replicas_give_the_losses_of_one_device(weighting, trained, prepared_dir, tmp_path):
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
config = TriageTraining({prepared_dir!r}, {trained[0]!r}, {trained[0]!r}, weighting={weighting!r}, dropout=0.0,
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


def test_joint_from_trained_parts(trained, config, tmp_path):
    """The fifth experiment of the paper: encoder and decoder come from models that were trained alone."""
    folder, _ = trained
    parts = dataclasses.replace(config, encoder_dir=folder, decoder_dir=folder, probe_first=False)
    triage, first = start(parts, PreparedFolder(config.prepared_dir, TRIAGE)), TrainedTriage.load(folder)
    for path, value in weights_of(first).items():
        assert np.array_equal(value, weights_of(triage)[path])
    for ours, theirs in zip(triage.generator.decoder.weights, first.generator.decoder.weights, strict=True):
        assert np.array_equal(ours, theirs)


def test_replies_fit_the_decoders_window(config):
    narrow = dataclasses.replace(config, random_decoder=dataclasses.replace(DECODER, max_positions=8))
    task = task_of(narrow)
    assert task.triage.config.max_reply_tokens == 7
    assert max(map(len, task._rows.reply_ids)) == 8  # with the mark that begins them
    assert len(task.triage.replies(["a cough"])) == 1


def test_uncertainty_weights_are_trained(config, tmp_path):
    task = task_of(dataclasses.replace(config, weighting="uncertainty"))
    assert task._task_weights in task.modules
    _, gradients = task.gradients(some_batch(task), lambda x: x)
    assert np.abs(gradients[-1].numpy()).min() > 0


def test_rows_that_lack_something(tmp_path, table, caplog):
    dev = [("chest again", "heart", ""), ("an eye", "eye", ""), ("only a reply", "", "rest")]
    dev_path = write_table(tmp_path / "dev.csv", dev)
    folder = prepare_table(tmp_path, [*table, ("word " * 60, "skin", "")], dev_inputs=(dev_path,), dev_share=0.0)
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


def test_one_class_only(tmp_path, table):
    folder = prepare_table(tmp_path, [(text, "heart", reply) for text, _, reply in table])
    with pytest.raises(ValueError, match=r"have 1 labels to tell apart \(heart\); expected two or more"):
        train(TriageTraining(folder, **PARTS, settings=SETTINGS), str(tmp_path / "m"))


@pytest.mark.long
def test_grid_goes_on_where_it_stopped(config, tmp_path, monkeypatch):
    folder = str(tmp_path / "grid")
    config = dataclasses.replace(
        config, variant="encoder", probe_first=False, settings=dataclasses.replace(SETTINGS, epochs=1)
    )
    values = {"learning_rate": [1e-4, 1e-2]}
    trained, trains = [], grid.train

    def counting(config, run_dir, **options):
        if len(trained) == 1:
            trained.append("killed")
            raise KeyboardInterrupt
        trained.append(config.settings.learning_rate)
        return trains(config, run_dir, **options)

    monkeypatch.setattr(grid, "train", counting)
    with pytest.raises(KeyboardInterrupt):
        grid.search(config, values, folder)
    best = grid.search(config, values, folder)
    content = files.read_json(f"{folder}/grid.json")
    scores = [run["scores"]["accuracy"] for run in content["runs"]]
    assert scores == sorted(scores, reverse=True)
    assert best["best"]["accuracy"] == scores[0]
    kept = TrainedTriage.load(f"{folder}/best")
    assert kept.fingerprint() == TrainedTriage.load(f"{folder}/runs/{content['runs'][0]['name']}").fingerprint()
    with pytest.raises(FileExistsError, match="holds no search"):
        grid.search(config, values, config.prepared_dir)
