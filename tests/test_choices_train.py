"""The trained multiple-choice model: its loss by hand, what never changes a score, its training and folder."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy
import scipy.special
import tensorflow as tf

from data_pipeline import rows
from data_pipeline.corpora.choices import CHOICE_ROWS
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.answering.choices import ChoiceAnswerer
from docproduct.choices import Chooser
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.multiple_choice import questions
from docproduct.systems.multiple_choice.config import ChoiceTraining
from docproduct.systems.multiple_choice.folder import TrainedChooser
from docproduct.systems.multiple_choice.losses import choice_losses
from docproduct.systems.multiple_choice.metrics import choose, metrics
from docproduct.systems.multiple_choice.task import ChoiceTask
from docproduct.systems.multiple_choice.train import train
from docproduct.training import loop
from docproduct.training.settings import TrainingSettings
from tests.test_bert import randomize

SIZES = GPT2Config(vocab_size=290, width=32, num_layers=2, num_heads=2, max_positions=160, dropout=0.0)
WORDS = ("what", "is", "the", "cause", "x", "z", "helps", "against", "y")
SETTINGS = TrainingSettings(
    epochs=100, batch_size=8, learning_rate=5e-3, precision="float32", checkpoint_steps=5, seed=3
)


@pytest.fixture(scope="module")
def prepared_dir(tmp_path_factory):
    """32 questions to learn by heart, half of them with several right choices, and 32 others as dev."""
    folder, random = tmp_path_factory.mktemp("exam"), np.random.default_rng(0)

    def lines(first):
        for i in range(first, first + 32):
            choices = random.permutation(WORDS)[: 3 + i % 3].tolist()
            right = [0, 2] if i % 2 else [i // 2 % 3]
            question = f"{i} {' '.join(random.permutation(WORDS)[:2])}?"
            yield json.dumps({"question": question, "choices": choices, "correct": right, "several": bool(i % 2)})

    for name, first in (("train", 0), ("dev", 32)):
        (folder / f"{name}.jsonl").write_text("\n".join(lines(first)))
    inputs = {"inputs": (str(folder / "train.jsonl"),), "dev_inputs": (str(folder / "dev.jsonl"),)}
    prepare(PrepareSettings(**inputs, dev_share=0.0), str(folder / "out"), num_workers=0, reader=CHOICE_ROWS)
    return str(folder / "out")


@pytest.fixture(scope="module")
def config(prepared_dir, bpe, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("base") / "gpt2")
    TrainedGenerator.make(SIZES, bpe, seed=1).save(folder)
    return ChoiceTraining(prepared_dir, folder, 0.0, 120, settings=SETTINGS)


@pytest.fixture(scope="module")
def task(config):
    generator = TrainedGenerator.load(config.base_dir, dropout=0.0)
    randomize(generator.decoder)
    chooser = TrainedChooser(generator, config.row_tokens)
    chooser.head.score.kernel.assign(np.random.default_rng(0).normal(size=(32, 1)))
    prepared = PreparedFolder(config.prepared_dir, rows.CHOICES)
    asked = [questions.read(prepared, split) for split in ("train", "dev")]
    return ChoiceTask(config, prepared, chooser, *asked, "")


def test_scores_are_those_of_each_choice_read_alone(task):
    chooser, encoded = task.chooser, task._encoded[:5]
    for row, values in zip(encoded, chooser.scores(encoded), strict=True):
        for ids, value in zip(row.choice_ids, values, strict=True):
            state = chooser.generator.decoder(tf.constant([[*row.prompt_ids, *ids]]))[:, -1]
            assert value == pytest.approx(float(chooser.head(state)[0]), abs=1e-4)


def test_permuted_choices_have_permuted_scores_whatever_is_read_beside_them(task):
    asked = task._train[:4]
    orders = [np.random.default_rng(i).permutation(len(a.row.choices)) for i, a in enumerate(asked)]
    permuted = [
        questions.Asked(dataclasses.replace(a.row, choices=tuple(a.row.choices[i] for i in order)))
        for a, order in zip(asked, orders, strict=True)
    ]
    together = task.chooser.scores(task.chooser.encode(asked))
    for question, order, values in zip(permuted, orders, together, strict=True):
        (alone,) = task.chooser.scores(task.chooser.encode([question]))
        np.testing.assert_allclose(alone, values[order], atol=1e-4)


def test_the_loss_is_the_one_by_hand():
    scores = np.array([[1.0, -2.0, 0.5], [0.3, 2.0, 9.0]], np.float32)
    right, exists = np.array([[0, 0, 1], [1, 0, 0]], np.float32), np.array([[True] * 3, [True, True, False]])
    found = choice_losses(scores, right, exists, tf.constant([False, True])).numpy()
    one = -scipy.special.log_softmax(scores[0])[2]
    each = [-np.log(scipy.special.expit(0.3)), -np.log(1 - scipy.special.expit(2.0))]
    np.testing.assert_allclose(found, [one, np.mean(each)], rtol=1e-5)
    one = -scipy.special.log_softmax(scores[1, :2])[0]
    np.testing.assert_allclose(choice_losses(scores, right, exists, tf.constant([False, False]))[1], one, rtol=1e-5)


def test_chunks_give_the_gradients_of_the_whole(task, monkeypatch):
    batch = task.batch(range(8))
    total, gradients = task.gradients(batch, lambda x: x)
    monkeypatch.setattr(task, "_config", dataclasses.replace(task._config, chunk_size=3))
    in_chunks, of_chunks = task.gradients(batch, lambda x: x)
    assert float(in_chunks) == pytest.approx(float(total), rel=1e-5)
    for whole, part in zip(gradients, of_chunks, strict=True):
        assert np.allclose(whole, part, atol=1e-3)


@pytest.mark.long
def test_32_questions_are_learned_by_heart(config, tmp_path):
    """Dev is train here: in the epoch that is kept, all are right, of one answer and of several."""
    prepared = PreparedFolder(config.prepared_dir, rows.CHOICES)
    chooser = TrainedChooser(TrainedGenerator.load(config.base_dir, dropout=0.0), config.row_tokens)
    asked = questions.read(prepared, "train")
    assert len(asked) == 32
    chooser.save_config(str(tmp_path), {})
    task = ChoiceTask(config, prepared, chooser, asked, asked, str(tmp_path))
    history = loop.fit(task, config.settings, str(tmp_path), tf.distribute.get_strategy())
    assert history["best"]["exact_match"] == history["best"]["accuracy"] == 1.0
    assert history["epochs"][0]["exact_match"] < 0.4


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("trained") / "chooser")
    short = dataclasses.replace(config, settings=dataclasses.replace(config.settings, epochs=2))
    return short, folder, train(short, folder)


def test_trained_folder(trained, config):
    _, folder, history = trained
    first, second = np.mean(np.reshape(history["losses"], (2, 4)), axis=1)  # epochs of four batches
    assert second < 0.99 * first
    assert set(os.listdir(folder)) == {
        *("README.md", "choices.json", "config.json", "generator"),
        *("learning_curve.png", "metrics.json", "weights.safetensors"),
    }
    card = files.read_text(f"{folder}/README.md")
    assert "not medical advice" in card
    assert "| TF-IDF |" in card
    assert f"| this model | {history['best']['accuracy']:.3f} ± " in card
    chooser = TrainedChooser.load(folder)
    dev = questions.read(PreparedFolder(config.prepared_dir, rows.CHOICES), "dev")
    chosen = choose(chooser.probabilities(dev), dev, chooser.threshold)
    assert metrics(chosen, dev)["exact_match"] == pytest.approx(history["best"]["exact_match"])
    answers = Chooser(folder).answers([], dev)["trained"]
    assert metrics(answers.chosen, dev)["hamming"] == pytest.approx(history["best"]["hamming"])
    answer = ChoiceAnswerer.load(folder).ask(dev[1].row.question, dev[1].row.choices, several=True)
    best = max(choice.probability for choice in answer.choices)
    for choice in answer.choices:
        assert choice.chosen == (choice.probability >= min(best, chooser.threshold))
    for values, question in zip(chooser.probabilities(dev), dev, strict=True):
        assert question.row.several or values.sum() == pytest.approx(1)


def test_a_resumed_training_equals_an_undisturbed_one(trained, tmp_path, monkeypatch):
    config, folder, history = trained
    again, batches = str(tmp_path / "again"), ChoiceTask._batches

    def dying(self, epoch, skip):
        for number, batch in enumerate(batches(self, epoch, skip)):
            if epoch == 1 and number == 2:
                raise KeyboardInterrupt
            yield batch

    monkeypatch.setattr(ChoiceTask, "_batches", dying)
    with pytest.raises(KeyboardInterrupt):
        train(config, again)
    monkeypatch.setattr(ChoiceTask, "_batches", batches)
    resumed = train(config, again, resume=True)
    assert resumed["best"]["loss"] == pytest.approx(history["best"]["loss"], abs=1e-6)
    for name in ("weights.safetensors", "generator/weights.safetensors"):
        ours, theirs = (safetensors.numpy.load_file(f"{path}/{name}") for path in (again, folder))
        for key in ours:
            np.testing.assert_allclose(ours[key], theirs[key], atol=1e-6)


def test_damaged_or_unfit_input_is_told(trained, config, tmp_path):
    with pytest.raises(ValueError, match="A row may have 161 tokens; expected at most 160"):
        train(dataclasses.replace(config, row_tokens=161), str(tmp_path / "a"))
    with pytest.raises(ValueError, match="holds no multiple-choice model"):
        TrainedChooser.load(config.base_dir)
    with pytest.raises(ValueError, match="A row may have 500 tokens"):
        Chooser(trained[1], max_tokens=500)
    with pytest.raises(ValueError, match="holds a whole model, and --base_dir"):
        Chooser(trained[1], config.base_dir)
    copy = str(tmp_path / "copy")
    shutil.copytree(trained[1], copy)
    os.remove(f"{copy}/choices.json")
    with pytest.raises(ValueError, match=r"has no choices.json with a threshold"):
        TrainedChooser.load(copy)
