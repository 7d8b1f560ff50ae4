"""The model of answerable questions: its fit, its promise over many splits, and what a manifest holds of it."""

import json
import math

import numpy as np
import pytest

from docproduct.search.answerable import OF_SEARCH, AnswerableModel, Signals, conformal
from docproduct.search.shared_words import WordWeights, words_of

WIDTH = len(OF_SEARCH)


def drawn(generator, questions):
    """Returns signals of questions with an answer and without, [2 * questions, WIDTH], whose means differ."""
    signals = generator.normal(size=(2 * questions, WIDTH))
    answered = np.arange(2 * questions) % 2 == 0
    signals[answered, :3] += [2.0, 0.5, 1.0]
    return signals * [0.1, 0.05, 0.2, 1, 2] + 0.3, answered


def test_the_fit_is_that_of_gradient_descent():
    signals, answered = drawn(np.random.default_rng(0), 60)
    model = AnswerableModel.fit(signals, answered)
    rows = np.clip((signals - signals.mean(axis=0)) / signals.std(axis=0), -3, 3)
    weights, bias = np.zeros(WIDTH), 0.0
    for _ in range(3_000):
        errors = 1 / (1 + np.exp(-rows @ weights - bias)) - answered
        weights -= 0.5 * (rows.T @ errors / len(rows) + 0.01 * weights)
        bias -= 0.5 * errors.mean()
    np.testing.assert_allclose(model.weights, weights, atol=1e-6)
    assert model.bias == pytest.approx(bias, abs=1e-6)
    np.testing.assert_allclose(model.log_odds(signals), rows @ weights + bias, atol=1e-5)


def test_a_row_of_weight_two_counts_as_two_rows():
    signals, answered = drawn(np.random.default_rng(3), 30)
    weighted = AnswerableModel.fit(signals, answered, np.where(np.arange(60) < 20, 2.0, 1.0))
    twice = AnswerableModel.fit(np.concatenate([signals, signals[:20]]), np.concatenate([answered, answered[:20]]))
    np.testing.assert_allclose(weighted.weights, twice.weights, rtol=1e-6)
    np.testing.assert_allclose(weighted.means, twice.means)


def test_a_signal_without_spread_and_far_signals_say_no_more_than_what_was_seen():
    signals, answered = drawn(np.random.default_rng(1), 60)
    signals[:, 3] = 0.0
    model = AnswerableModel.fit(signals, answered)
    assert np.isfinite(model.weights).all()
    far = np.array([signals.mean(axis=0)] * 2)
    far[:, 4] += np.array([3.0, 300.0]) * signals[:, 4].std()
    assert model.log_odds(far)[0] == pytest.approx(model.log_odds(far)[1])


def test_the_promise_holds_over_200_random_splits():
    """400 exchangeable questions: half fit, 100 set the threshold, 100 are new; the mean coverage is at least 0.95.

    Given the threshold, the coverage of a split is a Beta(96, 5) variable, of mean 96 / 101 and deviation 0.0215; that
    of 100 new questions adds 0.0217 of sampling. The mean of 200 splits of new data lies within 0.0022 of it.
    """
    generator = np.random.default_rng(0)
    coverage, refused = [], []
    for _ in range(200):
        signals, answered = drawn(generator, 400)
        model = AnswerableModel.fit(signals[:400], answered[:400])
        log_odds = model.log_odds(signals[400:])
        has_answer = answered[400:]
        least, guaranteed = conformal(log_odds[:200][has_answer[:200]], 0.95)
        assert guaranteed == pytest.approx(96 / 101)
        coverage.append((log_odds[200:][has_answer[200:]] >= least).mean())
        refused.append((log_odds[200:][~has_answer[200:]] < least).mean())
    assert np.mean(coverage) == pytest.approx(96 / 101, abs=3 * 0.0306 / math.sqrt(200))
    assert np.mean(coverage) > 0.95 - 3 * 0.0306 / math.sqrt(200)
    # The cosine alone separates by two deviations: Phi(-1.645 + 2) = 0.64 are refused. All signals: sqrt(5.25) = 2.29
    # deviations, 0.74.
    assert np.mean(refused) == pytest.approx(0.74, abs=0.04)


@pytest.mark.parametrize("n", [1, 18, 19, 39, 100])
@pytest.mark.parametrize("kept", [0.3, 0.95, 1.0])
def test_groups_of_one_or_of_equals_are_single_scores(n, kept):
    scores = np.random.default_rng(n).normal(size=n)
    rank = min(math.ceil(round((n + 1) * kept, 6)), n)
    expected = (np.sort(scores)[-rank], pytest.approx(rank / (n + 1)))
    assert conformal(scores, kept) == expected
    least, guaranteed = conformal(np.repeat(scores, 3), kept, np.repeat(np.arange(n), 3))
    assert least == expected[0]
    assert min(kept, n / (n + 1)) - 1e-9 <= guaranteed <= rank / (n + 1) + 1e-9  # a third of a group may be enough


def test_groups_by_hand():
    # Three groups: a has 4 and 1, b has 3, c has 2. From the highest, 1/2, 3/2, 5/2 and 3 groups reach a score.
    scores, groups = np.array([4.0, 1.0, 3.0, 2.0]), np.array([7, 7, 1, 2])
    assert conformal(scores, 0.3, groups) == (3.0, 1.5 / 4)  # 1.2 groups of 4
    assert conformal(scores, 0.5, groups) == (2.0, 2.5 / 4)  # 2 groups
    assert conformal(scores, 0.95, groups) == (1.0, 3 / 4)  # 3.8: more than there are


def test_the_promise_holds_for_a_new_group():
    """With 20 groups and kept = 0.8, a score of a new group passes with 0.8 or more, however large the groups are."""
    generator = np.random.default_rng(0)
    passed, guaranteed = [], []
    for _ in range(2_000):
        means, sizes = generator.normal(size=21), generator.integers(1, 6, 20)
        groups = np.repeat(np.arange(20), sizes)
        least, probability = conformal(means[groups] + generator.normal(0, 0.5, len(groups)), 0.8, groups)
        passed.append(means[20] + generator.normal(0, 0.5) >= least)
        guaranteed.append(probability)
    assert min(guaranteed) >= 0.8 - 1e-9
    assert np.mean(passed) > np.mean(guaranteed) - 3 * 0.009  # the standard error of 2,000 draws
    assert np.mean(passed) < np.mean(guaranteed) + 0.06  # 1 / 21 and the error


def test_a_manifest_holds_the_model():
    model = AnswerableModel.fit(*drawn(np.random.default_rng(2), 40))
    stored = json.loads(json.dumps(model.as_json()))
    assert AnswerableModel.from_json(stored) == model
    with pytest.raises(ValueError, match="decides by reranker_score, which this version does not know.*build"):
        AnswerableModel.from_json(stored | {"features": ["cosine", "reranker_score"]})
    # A model of fewer signals reads those by name.
    fewer = AnswerableModel(("length", "cosine"), (1.0, 0.5), (2.0, 0.1), (3.0, 4.0), -1.0)
    signals = np.array([[0.6, 9, 9, 9, 3.0]])
    assert fewer.log_odds(signals) == pytest.approx([3 * 1 + 4 * 1 - 1])
    # The cosine weighs 4 / 0.1; the length is not rounded.
    assert fewer.rounding(1e-3) == pytest.approx(0.04)


def test_shared_words_by_hand(tmp_path):
    words = WordWeights.build(["fever and cough", "fever, measles", "The FEVER", "cough"])
    # Of four texts, fever stands in three and cough in two; "what helps against" in none, which counts as one.
    fever, cough, unknown = math.log(1 + 4 / 3), math.log(1 + 4 / 2), math.log(1 + 4)
    assert words.shared("fever cough", ["A fever."]) == pytest.approx(fever / (fever + cough))
    assert words.shared("fever cough", ["A fever.", "Coughs, cough"]) == 1
    assert words.shared("fever zebra", ["fever"]) == pytest.approx(fever / (fever + unknown))
    assert words.shared("what is the", ["what is the"]) == words.shared("", ["a"]) == 0.0
    assert words.shared("fever", []) == 0.0
    # measels: " me", "mea", "eas", "ase", "sel", "els", "ls "; measles: " me", "mea", "eas", "asl", "sle", "les", "es "
    assert words.shared("measels", ["measles"]) == 0.0  # 3 of 7 are not more than half
    # measless: 8 trigrams, measles 7; all but "es " are shared: 2 * 6 / 15.
    assert words.shared("measless", ["measles"]) == pytest.approx(12 / 15)
    assert words.shared("reasless", ["measles"]) == 0.0  # another first letter
    words.save(str(tmp_path))
    assert WordWeights.load(str(tmp_path)).shared("fever zebra", ["fever"]) == words.shared("fever zebra", ["fever"])
    (tmp_path / "words.parquet").write_bytes(b"")
    with pytest.raises(ValueError, match="missing or damaged.*Build the index again"):
        WordWeights.load(str(tmp_path))


def test_the_signals_of_a_question_by_hand():
    words = WordWeights.build(["a fever", "a cough"])
    signals = Signals.of("Fever or cough", [0.8, 0.5], [0.3, 0.9], ("What is fever?", "It is heat."), words)
    assert signals == (0.8, pytest.approx(0.3), 0.9, pytest.approx(0.5), math.log(1 + 3), 0.0)
    assert signals.with_logits([-2.0, 1.5, 1.0]) == signals._replace(logit=1.5)
    assert words_of("Fever, or a cough?") == {"fever", "or", "cough"}
