import numpy as np
import pytest
import tensorflow as tf

from docproduct.systems.retriever.losses import LossSettings, RetrievalLoss, divergence
from tests import reference


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def batch_of(pair_id, question_group=None, answer_group=None, **more):
    groups = {"pair_id": pair_id, "question_group": question_group or pair_id, "answer_group": answer_group or pair_id}
    return {name: np.array(values, np.int64) for name, values in (groups | more).items()}


def loss(questions, answers, batch, negatives=None, **settings):
    return RetrievalLoss(LossSettings(**settings))(questions, answers, negatives, batch=batch).numpy()


EYE = np.eye(2, dtype=np.float32)


def test_symmetric_by_hand():
    # Cosines [[1, 0.6], [0, 0.8]]. Question 0: log(e^1 + e^0.6) - 1 = 0.51302; question 1: log(e^0 + e^0.8) - 0.8 =
    # 0.37110. The other way, columns: answer 0: log(e^1 + e^0) - 1 = 0.31326; answer 1: log(e^0.6 + e^0.8) - 0.8 =
    # 0.59814. Means: 0.41314 and 0.48462.
    answers = unit([[1, 0], [0.6, 0.8]])
    losses = loss(EYE, answers, batch_of([1, 2]), kind="symmetric", scale=1.0)
    assert losses == pytest.approx([0.41314, 0.48462], abs=1e-5)


def test_cosine_matrix_by_hand():
    # Cosines [[1, 0.6], [0, 0.8]] against [[1, -1], [-1, 1]]: rows (0, 1.6) and (1, -0.2): 1.6 and sqrt(1.04).
    answers = unit([[1, 0], [0.6, 0.8]])
    losses = loss(EYE, answers, batch_of([1, 2]), kind="cosine_matrix")
    assert losses == pytest.approx([1.6, 1.04**0.5], abs=1e-6)
    # With one answer text for both pairs, the other column is left out of each row: 0 and 0.2.
    losses = loss(EYE, answers, batch_of([1, 2], answer_group=[7, 7]), kind="cosine_matrix")
    assert losses == pytest.approx([0, 0.2], abs=1e-5)
    # At the minimum, where the root has no derivative, the gradient is still finite.
    questions = tf.Variable(unit([[1, 0], [-1, 0]]))
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(
            RetrievalLoss(LossSettings("cosine_matrix"))(questions + 0, questions + 0, None, batch=batch_of([1, 2]))
        )
    assert np.all(np.isfinite(tape.gradient(total, questions)))


def test_hard_negatives_of_all_pairs_are_candidates():
    # Question 0 sees answers 0 (cosine 1) and 1 (0), its negative (0.6) and that of pair 1 (0):
    # log(e + 1 + e^0.6 + 1) - 1 = log(6.54040) - 1 = 0.87800. Question 1: cosines 0, 1 | 0.8, 1:
    # log(1 + e + e^0.8 + e) - 1 = log(8.66210) - 1 = 1.15896.
    negatives = unit([[[0.6, 0.8]], [[0, 1]]])
    groups = {"negative_question_group": [[8], [9]], "negative_answer_group": [[8], [9]]}
    losses = loss(EYE, EYE, batch_of([1, 2], **groups), negatives, scale=1.0)
    assert losses == pytest.approx([0.87800, 1.15896], abs=1e-5)
    # The negative of pair 1 answers the same question, or is the text of its answer: it is excluded.
    for name in ("negative_question_group", "negative_answer_group"):
        losses = loss(EYE, EYE, batch_of([1, 2], **groups | {name: [[8], [2]]}), negatives, scale=1.0)
        assert losses[1] == pytest.approx(np.log(1 + np.e + np.e**0.8) - 1, abs=1e-5)


def test_a_candidate_far_above_the_own_answer_is_left_out():
    # Question 0 has the cosine 0.6 with its own answer and 0.8 with the other.
    questions, answers = unit([[1, 0], [0, 1]]), unit([[0.6, 0.8], [0.8, 0.6]])
    both = np.log(np.exp(0.6) + np.exp(0.8)) - 0.6
    for margin, expected in ((0.1, 0.0), (0.25, both)):
        losses = loss(questions, answers, batch_of([1, 2]), scale=1.0, false_negative_margin=margin)
        assert losses == pytest.approx([expected, expected], abs=1e-5)


def test_matryoshka_is_the_mean_over_lengths():
    rng = np.random.default_rng(1)
    questions, answers = unit(rng.normal(size=(5, 8))), unit(rng.normal(size=(5, 8)))
    ids = list(range(5))
    lengths = [
        reference.in_batch_softmax(unit(questions[:, :d]), unit(answers[:, :d]), ids, ids, ids, 20.0) for d in (8, 4, 2)
    ]
    losses = loss(questions, answers, batch_of(ids), matryoshka_dims=(4, 2))
    np.testing.assert_allclose(losses, np.mean(lengths, axis=0), atol=1e-4)


def test_distillation_by_hand():
    # Student [1, 0.6] and teacher [1, 0] at scale 1: teacher probabilities 0.731059, 0.268941; student's 0.598688,
    # 0.401312. KL = 0.731059 log(0.731059 / 0.598688) + 0.268941 log(0.268941 / 0.401312) = 0.038389.
    assert divergence([[1.0, 0.0]], [[1.0, 0.6]]).numpy() == pytest.approx([0.038389], abs=1e-6)
    negatives = unit([[[0.6, 0.8]], [[0.8, 0.6]]])
    groups = {"negative_question_group": [[8], [9]], "negative_answer_group": [[8], [9]]}
    batch = batch_of([1, 2], **groups) | {"teacher_scores": np.array([[1, 0], [1, 0]], np.float32)}
    settings = {"scale": 1.0, "teacher_scale": 1.0}
    plain = loss(EYE, EYE, batch, negatives, **settings)
    only = loss(EYE, EYE, batch, negatives, distillation_weight=1.0, **settings)
    assert only == pytest.approx([0.038389] * 2, abs=1e-6)
    mixed = loss(EYE, EYE, batch, negatives, distillation_weight=0.25, **settings)
    np.testing.assert_allclose(mixed, 0.75 * plain + 0.25 * only, atol=1e-6)


def test_a_learned_scale_starts_at_its_setting_and_has_a_gradient():
    layer = RetrievalLoss(LossSettings(scale=20.0, learn_scale=True))
    answers = unit([[1, 0], [0.6, 0.8]])
    fixed = loss(EYE, answers, batch_of([1, 2]), scale=20.0)
    with tf.GradientTape() as tape:
        losses = layer(EYE, answers, None, batch=batch_of([1, 2]))
    np.testing.assert_allclose(losses, fixed, atol=1e-5)
    assert float(tape.gradient(losses, layer.trainable_variables)[0]) != 0
    layer.log_scale.assign(50.0)
    assert float(layer.scale) == 100.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "hinge"}, "expected softmax, symmetric, cosine_matrix"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"kind": "cosine_matrix", "learn_scale": True}, "no scale to be learned"),
        ({"scale": 200.0, "learn_scale": True}, "at most 100"),
        ({"teacher_scale": -1.0}, "teacher_scale is -1.0"),
        ({"distillation_weight": 1.5}, "expected 0 to 1"),
        ({"matryoshka_dims": (0,)}, "expected 1 or more"),
        ({"false_negative_margin": -0.1}, "expected 0 or more"),
    ],
)
def test_invalid_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        LossSettings(**wrong)
