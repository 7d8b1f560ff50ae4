"""The fit of the check of support."""

import json

import numpy as np
import pytest

from docproduct import fit_support
from docproduct.answering.evidence.scoring import Fitted, Scoring
from docproduct.answering.evidence.sources import SIGNS
from docproduct.planted_errors import Planted
from tests.test_planted_errors import pairs


def rows(signs, supported, kinds):
    planted = [Planted("", (), flag, kind) for flag, kind in zip(supported, kinds, strict=True)]
    padded = [np.pad(np.array(row, float), ((0, 0), (0, len(SIGNS) - len(row[0])))) for row in signs]
    return fit_support.Rows(planted, padded)


def test_the_best_candidate_decides_and_no_weight_is_negative():
    # The first sign tells errors; the second would be a sign of support, which no sign may be.
    signs = [[[0, 1], [5, 5]], [[9, 9], [0, 1]], [[3, 0], [3, 0]], [[4, 0], [3, 0]]] * 5
    fitted = fit_support.fit(rows(signs, [True, True, False, False] * 5, ["copy", "copy", "number", "unit"] * 5))
    assert fitted.weights[0] > 0.5
    assert (fitted.weights[1:] == 0).all()
    results = fit_support.judge(
        fitted, rows(signs, [True, True, False, False] * 5, ["copy", "copy", "number", "unit"] * 5)
    )
    assert [(row["kind"], row["passed"], row["auc"]) for row in results] == [
        ("number", 0, 1),
        ("unit", 0, 1),
        ("copy", 1, None),
    ]


def test_kinds_count_alike():
    # Of 9 "number" and 1 "unit" errors, each kind weighs a quarter, the supported half together.
    made = rows([[[0]]] * 12, [True] * 2 + [False] * 10, ["copy"] * 2 + ["number"] * 9 + ["unit"])
    np.testing.assert_allclose(fit_support._row_weights(made), [0.25] * 2 + [1 / 36] * 9 + [0.25])


def test_rare_words_weigh_more():
    weights = fit_support.word_weights([*pairs()] * 5)  # 50 texts
    assert weights["asthma"] > weights["fever"] > weights["the"]
    assert all(0 <= weight <= 1 for weight in weights.values())


def test_scores_are_a_logistic_regression():
    weights = np.zeros(len(SIGNS))
    weights[:2] = 2, 1
    scoring = Scoring(1.0, weights, 4.0, 0.5)
    signs = np.zeros(len(SIGNS))
    signs[:2] = 0.25, 1
    # 1 - 2/4 - 1 - 4/8 = -1; 1 / (1 + e)
    assert scoring.score(signs, 0.125) == pytest.approx(1 / (1 + np.e))


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "pairs.jsonl"
    rows = [{"question": pair.question, "answer": pair.answer, "focus": pair.focus} for pair in pairs()] * 5
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_command_writes_weights(corpus, tmp_path, capsys):
    def fit(name):
        files = {"train_file": str(corpus), "dev_file": str(corpus), "output": str(tmp_path / name)}
        return fit_support.run(fit_support.FitSettings(**files, words_only=True, num_train=40, num_dev=20))

    results = fit("fitted.json")["by_words"]
    assert {"copy", "number", "negation"} <= {row["kind"] for row in results}
    assert all(row["passed"] == 1 for row in results if row["kind"] == "copy")
    assert "ROC-AUC" in capsys.readouterr().out
    assert fit("again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "fitted.json").read_bytes()
    assert Fitted.load(tmp_path / "fitted.json").by_words.threshold < 1
