"""The parts of triage that can be checked by hand: labels, calibration, losses, scores, the classifier."""

import math

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score

from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.metrics import expected_calibration_error
from docproduct.systems.triage import TriageClassifier, TriageConfig, grid
from docproduct.systems.triage.calibration import Calibration
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.dev import Sample, confusion, label_scores, per_class, reply_scores
from docproduct.systems.triage.fit_calibration import cross_fitted_probs, fit, fit_temperature, sure_from
from docproduct.systems.triage.label_report import macro_f1, score_intervals
from docproduct.systems.triage.labels import LabelSettings, choose, classes_of, weights_of
from docproduct.systems.triage.losses import PAD, TaskWeights, label_losses, reply_losses
from tests.conftest import TINY_BERT
from tests.test_bert import randomize

LABELS = ["heart", "skin", "heart", "", "lung", "skin", "heart", "eye"]


def test_labels_by_frequency():
    assert choose(LABELS, LabelSettings()) == ("heart", "skin", "eye", "lung")
    assert choose(LABELS, LabelSettings(top_labels=1)) == ("heart",)
    assert choose(LABELS, LabelSettings(least_rows=2, other_label="rare")) == ("heart", "skin", "rare")
    assert choose(LABELS, LabelSettings(other_label="rare")) == ("heart", "skin", "eye", "lung")  # none to join
    with pytest.raises(ValueError, match="other_label is 'skin'"):
        choose(LABELS, LabelSettings(top_labels=2, other_label="skin"))


def test_classes_of_labels():
    assert classes_of(["skin", "", "bone", "heart"], ("heart", "skin")).tolist() == [1, -1, -1, 0]
    # A label that joins the others does so on dev, too, where train has never seen it.
    assert classes_of(["skin", "", "bone"], ("heart", "skin", "rare"), "rare").tolist() == [1, -1, 2]


def test_class_weights_have_a_mean_of_one_over_the_rows():
    classes = np.array([0, 0, 0, 1, -1])
    # balanced: 4 / (2 * 3) and 4 / (2 * 1); over the rows (3 * 2/3 + 2) / 4 = 1
    assert weights_of(classes, 2, "balanced") == pytest.approx([2 / 3, 2.0])
    # sqrt: the roots, divided by their mean over the rows
    roots = np.sqrt([2 / 3, 2.0])
    assert weights_of(classes, 2, "sqrt") == pytest.approx(roots * 4 / (3 * roots[0] + roots[1]))
    assert weights_of(classes, 3, "none").tolist() == [1, 1, 0]  # a class without rows


def test_temperature_undoes_a_scale():
    random = np.random.default_rng(0)
    logits = random.normal(size=(4_000, 3))
    probs = Calibration().probs(logits)
    classes = np.array([random.choice(3, p=row / row.sum()) for row in probs.astype(np.float64)])
    assert fit_temperature(logits, classes) == pytest.approx(1, abs=0.1)
    assert fit_temperature(5 * logits, classes) == pytest.approx(5, abs=0.5)
    right = logits.argmax(axis=1) == classes
    assert expected_calibration_error(Calibration().probs(5 * logits).max(axis=1), right) > 0.2
    probs = cross_fitted_probs(5 * logits, classes)
    assert expected_calibration_error(probs.max(axis=1), probs.argmax(axis=1) == classes) < 0.05


def test_calibration_error_by_hand():
    # Two bins of 15: [.6, .667) holds .6 (right), [.8, .867) holds .8 (wrong) and .84 (right).
    error = expected_calibration_error(np.array([0.6, 0.8, 0.84]), np.array([True, False, True]))
    # 1/3 * |1 - .6| + 2/3 * |.5 - .82|
    assert error == pytest.approx(0.4 / 3 + 0.32 * 2 / 3, abs=1e-6)


def test_sure_from_is_the_lowest_probability_with_the_accuracy():
    probs = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], np.float32)
    right = np.array([0, 0, 1, 0])  # accuracy of the first n: 1, 1, 2/3, 3/4
    assert sure_from(probs, right, 1.0) == pytest.approx(0.8)
    assert sure_from(probs, right, 0.75) == pytest.approx(0.6)
    wrong = np.array([1, 1, 1, 1])
    assert sure_from(probs, wrong, 0.5) > 0.9  # never
    # Of two equal probabilities one is wrong: neither is sure.
    assert sure_from(np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2]], np.float32), np.array([0, 0, 1]), 0.9) > 0.8


def test_a_fitted_calibration_keeps_its_accuracy():
    random = np.random.default_rng(1)
    logits = random.normal(size=(500, 4)) * 3
    classes = np.array([random.choice(4, p=row / row.sum()) for row in Calibration().probs(logits).astype(np.float64)])
    chosen = fit(logits, classes, 0.9)
    probs = chosen.probs(logits)
    sure = probs.max(axis=1) >= chosen.sure_from
    assert 0.1 < sure.mean() < 1
    assert np.mean(probs[sure].argmax(axis=1) == classes[sure]) >= 0.9
    assert fit(logits, classes, 0.9, 0.99).sure_from == pytest.approx(0.99)
    assert fit(logits, classes, 0.9, 0.01) == chosen


def test_label_loss_by_numpy():
    logits = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    # smoothing .1: .9 of the right label, and .1 / 5 of each
    expected = -(0.9 * log_probs[[0, 2], [4, 1]] + 0.1 * log_probs[[0, 2]].mean(axis=1))
    losses = label_losses(tf.constant(logits), tf.constant([4, -1, 1]), 0.1).numpy()
    assert losses == pytest.approx([expected[0], 0.0, expected[1]], abs=1e-5)


@pytest.fixture(scope="module")
def decoder():
    config = GPT2Config(23, 8, 1, 2, max_positions=12, initializer_range=0.5, cross_attention=True, encoder_width=6)
    return GPT2(config.with_dropout(0.0), seed=4).make_variables()


def test_reply_loss_by_numpy(decoder):
    random = np.random.default_rng(3)
    states = random.normal(size=(3, 4, 6)).astype(np.float32)
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], np.int32)
    replies = np.array([[5, 7, 9, 2], [5, 3, PAD, PAD], [PAD] * 4], np.int32)
    sums, counts = reply_losses(decoder, tf.constant(replies), tf.constant(states), tf.constant(mask))
    assert counts.numpy().tolist() == [3, 1, 0]
    for row, length in ((0, 4), (1, 2)):
        ids, real = replies[row, :length], int(mask[row].sum())
        hidden = decoder(tf.constant(ids[None]), encoder_states=tf.constant(states[row : row + 1, :real]))
        logits = decoder.logits(hidden).numpy()[0]
        log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected = -sum(log_probs[place, ids[place + 1]] for place in range(length - 1))
        assert sums.numpy()[row] == pytest.approx(expected, abs=1e-4)
    assert sums.numpy()[2] == 0


def test_learned_task_weights_by_hand():
    weights = TaskWeights(2)
    assert float(weights(tf.constant([2.0, 3.0]))) == pytest.approx(5.0)
    weights.scaled.assign([math.log(2.0) / 200, 0.0])
    assert weights.log_variances.numpy() == pytest.approx([math.log(2.0), 0.0])
    # 2 / 2 + log(2) / 2 + 3
    assert float(weights(tf.constant([2.0, 3.0]))) == pytest.approx(4 + math.log(2) / 2)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_padding_and_batch_mates_change_no_logit(pooling):
    model = TriageClassifier(TriageConfig(TINY_BERT, ("a", "b", "c"), pooling, max_tokens=20), seed=6)
    first, _ = model(tf.constant([[2, 9, 3]]))
    assert first.numpy().tolist() == [[0, 0, 0]]  # untrained: all labels are equally likely
    randomize(model)
    logits, states = model(tf.constant([[2, 9, 3]]))
    mates, _ = model(tf.constant([[2, 9, 3, 0, 0], [2, 11, 12, 8, 3]]))
    assert mates.numpy()[0] == pytest.approx(logits.numpy()[0], abs=1e-5)
    kernel, bias = model.classifier.get_weights()
    vector = states.numpy()[0].mean(axis=0) if pooling == "mean" else states.numpy()[0, 0]
    assert logits.numpy()[0] == pytest.approx(vector @ kernel + bias, abs=1e-5)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": ("a",)}, "two or more different"),
        ({"labels": ("a", "a")}, "two or more different"),
        ({"max_tokens": 41}, "expected 3 to 40"),
        ({"pooling": "sum"}, "pooling is 'sum'"),
    ],
)
def test_config_errors(changed, message):
    with pytest.raises(ValueError, match=message):
        TriageConfig(TINY_BERT, **{"labels": ("a", "b"), "max_tokens": 20} | changed)


def test_scores_by_hand_and_by_scikit_learn():
    classes = np.array([0, 0, 0, 1, 2])
    predicted = np.array([0, 0, 1, 1, 0])
    logits = np.eye(4)[predicted] * 5
    scores = label_scores(logits, classes)
    assert scores["accuracy"] == pytest.approx(3 / 5)
    # F1: label 0 2/3 and 2/3 -> 2/3; label 1 1/2 and 1 -> 2/3; label 2 0. Label 3 does not occur.
    assert scores["macro_f1"] == pytest.approx((2 / 3 + 2 / 3 + 0) / 3)
    assert scores["weighted_f1"] == pytest.approx((3 * 2 / 3 + 2 / 3 + 0) / 5)
    assert macro_f1(predicted, classes) == pytest.approx(f1_score(classes, predicted, average="macro"))
    assert confusion(logits, classes).tolist() == [[2, 1, 0, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    rows = per_class(logits, classes, "abcd")
    assert rows[1] == {"label": "b", "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "rows": 1}
    low, high = score_intervals(logits, classes)["accuracy"]
    assert low < 3 / 5 < high


def test_reply_scores():
    same = [Sample("t", "rest and drink water", "rest and drink water")] * 2
    assert reply_scores(same) == {"BLEU-2": pytest.approx(100), "BLEU-4": pytest.approx(100), "ROUGE-L": 1.0}
    # Characters are Chinese words: 2 of 4 unigrams and 1 of 3 bigrams are right. 100 * sqrt(1/2 * 1/3)
    chinese = reply_scores([Sample("t", "多喝开水", "多喝牛奶")])
    assert chinese["BLEU-2"] == pytest.approx(100 * math.sqrt(1 / 6), abs=1e-3)
    assert chinese["ROUGE-L"] == pytest.approx(0.5)
    assert reply_scores([]) == {}


def test_grid_flag():
    parsed = grid.parse("learning_rate=1e-5, 5e-5; dropout=0.1;class_weights=sqrt,none; batch_size=8;probe_first=false")
    assert parsed == {
        "learning_rate": [1e-5, 5e-5],
        "dropout": [0.1],
        "class_weights": ["sqrt", "none"],
        "batch_size": [8],
        "probe_first": [False],
    }
    config = grid.with_values(TriageTraining("p"), {"learning_rate": 2.0, "class_weights": "sqrt", "dropout": 0.2})
    assert (config.settings.learning_rate, config.labels.class_weights, config.dropout) == (2.0, "sqrt", 0.2)
    for text, message in (
        ("", "names no setting"),
        ("dropout", "the part 'dropout'"),
        ("rate=1", "names 'rate'"),
        ("variant=joint", "share"),
    ):
        with pytest.raises(ValueError, match=message):
            grid.parse(text)
    with pytest.raises(ValueError, match="gives batch_size the value 'x'"):
        grid.parse("batch_size=x")
