"""Results of multiple choice: groups, differences, calibration, series behind own answers, order bias."""

import numpy as np
import pytest

from data_pipeline import rows
from docproduct.systems.multiple_choice import evaluation, report
from docproduct.systems.multiple_choice.evaluation import Answers
from docproduct.systems.multiple_choice.questions import Asked


def asked(question, right=(0,), several=0, subject="", choices=("x", "y", "z"), earlier=()):
    row = rows.Choices(question, choices, right, several, "", question, focus=subject)
    return Asked(row, tuple(earlier))


def places(*groups):
    return [frozenset(group) for group in groups]


def test_results_by_hand():
    questions = [
        asked("a", subject="heart"),
        asked("b", subject="heart"),
        asked("c", (0, 1), 1, "skin"),
        asked("d", (1,), 0, "heart", earlier=[("a", "x")]),
    ]
    systems = {
        "base": Answers(places((1,), (0,), (0,), (0,))),  # right: b
        "model": Answers(places((0,), (0,), (0, 1), (0,))),  # right: a, b, c
    }
    result = evaluation.evaluate(systems, questions, against="base")
    assert result["questions"] == 4
    assert result["systems"]["model"]["accuracy"] == pytest.approx(2 / 3)
    assert result["systems"]["base"]["hamming"] == pytest.approx((0 + 1 + 0.5 + 0) / 4)
    assert result["above"]["system"] == "base"
    assert result["above"]["differences"]["model"]["exact_match"] == pytest.approx(0.5)
    of_subjects = result["subjects"]
    assert list(of_subjects) == ["heart", "skin"]  # the largest first
    assert of_subjects["heart"]["systems"]["model"]["exact_match"] == pytest.approx(2 / 3)
    assert of_subjects["skin"] == {
        "questions": 1,
        "systems": {name: {"exact_match": v, "interval": [v, v]} for name, v in (("base", 0.0), ("model", 1.0))},
    }
    assert {name: group["questions"] for name, group in result["kinds"].items()} == {
        "one answer": 2,
        "several answers": 1,
        "later in a series, one answer": 1,
    }
    assert "| heart | 3 |" in report.results(result | {"chance": 0.0})
    alone = evaluation.evaluate(systems, [asked(name) for name in "abcd"], against="base")
    assert (alone["kinds"], alone["subjects"]) == ({}, {})


def test_intervals_cover_the_mean():
    """Of 400 coins, 95 % of the means are within .049 of the share of heads."""
    random = np.random.default_rng(0)
    questions = [asked(f"q{i}") for i in range(400)]
    chosen = places(*[(int(heads),) for heads in random.random(400) < 0.5])
    result = evaluation.evaluate({"a": Answers(chosen), "b": Answers(chosen)}, questions, against="a")
    low, high = result["systems"]["a"]["accuracy_interval"]
    mean = result["systems"]["a"]["accuracy"]
    assert (mean - low, high - mean) == pytest.approx((0.049, 0.049), abs=0.006)
    assert result["above"]["differences"]["b"] == {"exact_match": 0.0, "interval": [0.0, 0.0]}  # paired


def test_calibration_by_hand():
    questions = [asked("a"), asked("b", (1,)), asked("c", (0, 2), 1)]
    probs = [np.array([0.75, 0.15, 0.1]), np.array([0.75, 0.2, 0.05]), np.array([0.9, 0.4, 0.3])]
    errors = evaluation.calibration_errors(probs, questions)
    # One answer: both in a bin with .75, one of two right. Several: bins of .9 (right), .4 (wrong), .3 (right).
    assert errors == pytest.approx({"ece": 0.25, "ece_several": (0.1 + 0.4 + 0.7) / 3})


def test_a_series_behind_own_answers():
    def of_series(name, size):
        texts = [f"{name}{step}" for step in range(size)]
        return [asked(text, earlier=[(before, "x") for before in texts[:i]]) for i, text in enumerate(texts)]

    questions = [*of_series("a", 3), asked("alone"), *of_series("b", 2)]
    calls = []

    def choose(some):
        calls.append([question.row.question for question in some])
        return places(*[(2,) if question.row.question == "a1" else (1, 2) for question in some])

    own = evaluation.behind_own_answers(questions, choose)
    assert [question.earlier for question in own] == [
        (),
        (("a0", "y; z"),),
        (("a0", "y; z"), ("a1", "z")),
        (),
        (),
        (("b0", "y; z"),),
    ]
    assert calls == [["a0", "b0"], ["a1"]]
    assert [question.row for question in own] == [question.row for question in questions]


def test_order_bias():
    questions = [asked("a", (1,)), asked("b", (0, 1), 1, choices=("x", "y"))]
    turned = evaluation.rotated(questions[0], 2)
    assert (turned.row.choices, turned.row.correct) == (("z", "x", "y"), (2,))

    def score(some):
        by_text = [np.array([{"x": 0.5, "y": 0.3, "z": 0.2}[text] for text in q.row.choices]) for q in some]
        by_place = [np.arange(len(q.row.choices), 0.0, -1) / 10 for q in some]
        return {"by text": by_text, "by place": by_place}

    bias = evaluation.order_bias(score, questions)
    assert bias["by text"] == {"largest_difference": 0.0, "changed": 0.0}
    assert bias["by place"] == pytest.approx({"largest_difference": 0.2, "changed": 1.0})
