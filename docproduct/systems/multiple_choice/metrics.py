"""Metrics of chosen places: accuracy, exact match and Hamming score, with standard errors.

accuracy     share of questions with a single answer whose one chosen place is right
exact match  share of questions whose chosen places are exactly the right ones
Hamming      mean of |chosen and right| / |chosen or right|, as in FrenchMedMCQA
"""

from collections.abc import Sequence

import numpy as np

from data_pipeline import cleaning
from docproduct.systems.multiple_choice.questions import Asked

Places = frozenset[int]


def right_places(questions: Sequence[Asked]) -> list[Places]:
    """Returns the right places of each question."""
    return [frozenset(asked.row.correct) for asked in questions]


def choose(scores: Sequence[np.ndarray], questions: Sequence[Asked], threshold: float) -> list[Places]:
    """Returns the chosen places.

    Args:
      scores: of the choices of each question.
      questions: of a question with a single answer, the highest score counts; see `best_place`.
      threshold: where several may be right, those with at least this score are chosen, and the highest in any case.
    """
    chosen = []
    for values, asked in zip(scores, questions, strict=True):
        places = {best_place(values, asked)}
        if asked.row.several:
            places |= set(np.flatnonzero(values >= threshold).tolist())
        chosen.append(frozenset(places))
    return chosen


def best_place(values: np.ndarray, asked: Asked) -> int:
    """Returns the place of the highest score; of equal ones, a hash of the texts decides, not the order."""
    row = asked.row
    places = np.flatnonzero(values == np.max(values)).tolist()
    return min(places, key=lambda place: cleaning.hash64(f"{row.question}\0{row.choices[place]}"))


def fit_threshold(scores: Sequence[np.ndarray], questions: Sequence[Asked]) -> float:
    """Returns the threshold with the most exact matches where several may be right; infinity without such questions.

    Of equally good ones, it is the middle of the widest range.
    """
    several = [i for i, asked in enumerate(questions) if asked.row.several]
    if not several:
        return float("inf")
    ranges = [_range(np.asarray(scores[i], np.float64), questions[i]) for i in several]
    lowest, highest = (np.sort(ends) for ends in np.array([ends for ends in ranges if ends] or [(0, 0)], float).T)
    limits = np.unique(np.concatenate([np.asarray(scores[i], np.float64) for i in several]))
    middles = np.array([limits[0] - 1.0, *(limits[:-1] + limits[1:]) / 2, limits[-1] + 1.0])
    matches = np.searchsorted(lowest, middles) - np.searchsorted(highest, middles)
    best = np.flatnonzero(matches == matches.max())
    widths = np.diff([limits[0], *limits, limits[-1]])
    return float(middles[best[np.argmax(widths[best])]])


def _range(values: np.ndarray, asked: Asked) -> tuple[float, float] | None:
    """Returns between which thresholds the chosen places are exactly the right ones; None if nowhere."""
    is_right = np.isin(np.arange(len(values)), asked.row.correct)
    if not is_right[best_place(values, asked)]:
        return None
    lowest = values[~is_right].max(initial=-np.inf)
    # The best one is chosen in any case.
    highest = np.inf if is_right.sum() == 1 else values[is_right].min()
    return (lowest, highest) if lowest < highest else None


def exact_matches(chosen: Sequence[Places], right: Sequence[Places]) -> np.ndarray:
    """Returns 1.0 for each question whose chosen places are exactly the right ones, else 0.0."""
    return np.array([float(a == b) for a, b in zip(chosen, right, strict=True)])


def hamming_scores(chosen: Sequence[Places], right: Sequence[Places]) -> np.ndarray:
    """Returns the Hamming score of each question."""
    return np.array([len(a & b) / len(a | b) for a, b in zip(chosen, right, strict=True)])


def metrics(chosen: Sequence[Places], questions: Sequence[Asked]) -> dict[str, float]:
    """Returns the metrics with their standard errors (`..._stderr`).

    `accuracy` is of questions with a single answer, and `exact_match_several` of the others; exact match and Hamming
    score are of all, and left out where all have a single answer: they would be the accuracy.
    """
    result = {}
    for name, values in columns(chosen, questions).items():
        result |= {name: float(values.mean()), f"{name}_stderr": standard_error(values)}
    return result


def columns(chosen: Sequence[Places], questions: Sequence[Asked]) -> dict[str, np.ndarray]:
    """Returns, for each metric, its value for each of the questions that it is of."""
    right = right_places(questions)
    several = np.array([bool(asked.row.several) for asked in questions])
    matches = exact_matches(chosen, right)
    result = {"accuracy": matches[~several]}
    if several.any():
        result |= {"exact_match_several": matches[several], "exact_match": matches}
        result["hamming"] = hamming_scores(chosen, right)
    return {name: values for name, values in result.items() if len(values)}


def standard_error(values: np.ndarray) -> float:
    """Returns the standard error of a mean, from the unbiased variance; 0 of a single value."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
