"""How well systems answer questions: all of them, by kind and by subject, with bootstrap intervals and calibration.

Q questions
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from docproduct.evaluate.bootstrap import intervals
from docproduct.metrics import expected_calibration_error
from docproduct.systems.multiple_choice.metrics import Places, columns, exact_matches, metrics, right_places
from docproduct.systems.multiple_choice.questions import Asked, answer_of

Scores = list[np.ndarray]
Choose = Callable[[Sequence[Asked]], list[Places]]


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a system answered.

    Attributes:
      chosen: the chosen places of each question.
      probs: probabilities of the choices of each question; None for a system without probabilities.
    """

    chosen: list[Places]
    probs: Scores | None = None


def evaluate(systems: Mapping[str, Answers], questions: Sequence[Asked], against: str) -> dict[str, Any]:
    """Scores systems.

    Args:
      systems: the answers by the name of the system, each to all questions.
      questions: one or more.
      against: the system that the others are compared with.

    Returns:
      "questions": their number. "systems": metrics by system, with standard errors (`..._stderr`), 95 % bootstrap
      intervals (`..._interval`), and expected calibration errors. "above": the difference of each system's exact match
      from that of `against`, with the interval of a paired bootstrap. "kinds" and "subjects": for each group, the
      number of questions, and each system's exact match and interval.
    """
    right = right_places(questions)
    matches = {name: exact_matches(answers.chosen, right) for name, answers in systems.items()}  # [Q] each
    others = [name for name in systems if name != against]
    return {
        "questions": len(questions),
        "systems": {name: _scores(answers, questions) for name, answers in systems.items()},
        "above": {
            "system": against,
            "differences": _exact({name: matches[name] - matches[against] for name in others}),
        },
        "kinds": _by(list(map(kind, questions)), matches),
        "subjects": _by([asked.row.focus for asked in questions], matches),
    }


def kind(asked: Asked) -> str:
    """Returns the kind of a question: alone or later in a series, with one answer or several."""
    number = "several answers" if asked.row.several else "one answer"
    return f"later in a series, {number}" if asked.earlier else number


def _scores(answers: Answers, questions: Sequence[Asked]) -> dict[str, Any]:
    result: dict[str, Any] = metrics(answers.chosen, questions)
    for name, values in columns(answers.chosen, questions).items():
        result[f"{name}_interval"] = intervals(values[None])[0].tolist()
    return result | (calibration_errors(answers.probs, questions) if answers.probs else {})


def calibration_errors(probs: Scores, questions: Sequence[Asked]) -> dict[str, float]:
    """Returns the expected calibration errors.

    `ece` is of the likeliest choice where one is right. `ece_several` is of every choice where several may be.
    """
    one = [(values, asked) for values, asked in zip(probs, questions, strict=True) if not asked.row.several]
    several = [(values, asked) for values, asked in zip(probs, questions, strict=True) if asked.row.several]
    result = {}
    if one:
        highest = np.array([values.max() for values, _ in one])
        right = np.array([int(values.argmax()) in asked.row.correct for values, asked in one])
        result["ece"] = expected_calibration_error(highest, right)
    if several:
        each = np.concatenate([values for values, _ in several])
        right = np.concatenate([np.isin(np.arange(len(values)), asked.row.correct) for values, asked in several])
        result["ece_several"] = expected_calibration_error(each, right)
    return result


def _by(groups: Sequence[str], matches: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the exact match by group, the largest group first; empty if there is only one."""
    names, sizes = np.unique(np.array(groups), return_counts=True)
    if len(names) < 2:
        return {}
    result = {}
    for place in np.argsort(-sizes, kind="stable").tolist():
        inside = np.array(groups) == names[place]
        values = {name: values[inside] for name, values in matches.items()}
        result[str(names[place])] = {"questions": int(sizes[place]), "systems": _exact(values)}
    return result


def _exact(values: Mapping[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """Returns mean and interval of rows with a value for each question."""
    if not values:
        return {}
    bounds = intervals(np.stack(list(values.values()))).tolist()
    return {
        name: {"exact_match": float(row.mean()), "interval": interval}
        for (name, row), interval in zip(values.items(), bounds, strict=True)
    }


def behind_own_answers(questions: Sequence[Asked], choose: Choose) -> list[Asked]:
    """Returns questions behind the answers that a system itself gave to the earlier ones of their series.

    Args:
      questions: as `questions.read` returns them.
      choose: the system.
    """
    result = list(questions)
    for step in range(1, 1 + max(len(asked.earlier) for asked in questions)):
        places = [place for place, asked in enumerate(questions) if len(asked.earlier) == step]
        before = [result[place - 1] for place in places]
        for place, asked, chosen in zip(places, before, choose(before), strict=True):
            own = (asked.row.question, answer_of(asked.row, sorted(chosen)))
            result[place] = dataclasses.replace(result[place], earlier=(*asked.earlier, own))
    return result


def order_bias(
    score: Callable[[Sequence[Asked]], dict[str, Scores]], questions: Sequence[Asked]
) -> dict[str, dict[str, float]]:
    """Asks each question with its choices rotated, in every way.

    Args:
      score: returns the probabilities of the choices of each question, by the name of the score.
      questions: one or more.

    Returns:
      By the name of the score, "largest_difference": that of a choice's probability in two orders; and "changed": the
      share of rotated questions whose likeliest choice is another text.
    """
    straight = score(questions)
    differences, changed = ({name: list[float]() for name in straight} for _ in range(2))
    for turn in range(1, max(len(asked.row.choices) for asked in questions)):
        places = [i for i, asked in enumerate(questions) if turn < len(asked.row.choices)]
        for name, turned in score([rotated(questions[i], turn) for i in places]).items():
            for i, values in zip(places, turned, strict=True):
                before, after = straight[name][i], np.roll(values, turn)
                differences[name].append(float(np.abs(after - before).max()))
                changed[name].append(float(after[before.argmax()] < after.max()))
    return {
        name: {"largest_difference": max(differences[name]), "changed": float(np.mean(changed[name]))}
        for name in straight
    }


def rotated(asked: Asked, turn: int) -> Asked:
    """Returns a question with its first `turn` choices moved to the end."""
    row, size = asked.row, len(asked.row.choices)
    correct = tuple(sorted((place - turn) % size for place in row.correct))
    choices = row.choices[turn:] + row.choices[:turn]
    return dataclasses.replace(asked, row=dataclasses.replace(row, choices=choices, correct=correct))
