"""Several answers to one question: how many there are, and how much they have in common."""

import collections
import itertools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipeline.report.corpus import Row
from data_pipeline.report.hashes import Hashes, distinct_pairs
from data_pipeline.report.personal_data import shown
from data_pipeline.report.tally import share
from data_pipeline.report.words import words_of

_MOST_ANSWERS = 10  # of a question, that are compared
_MANY = 5  # answers, and more
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)
_BUCKETS = 5


def answers_a_question(hashes: Hashes) -> dict[str, Any]:
    """Returns how many questions have one answer, two, ..., and the mean."""
    pairs = distinct_pairs(Hashes(*(column[hashes.has_answer] for column in hashes)))
    _, answers = np.unique(pairs[:, 0], return_counts=True)
    numbers = collections.Counter(min(count, _MANY) for count in answers.tolist())
    counted = [{"answers": number, "questions": numbers[number]} for number in range(1, _MANY + 1)]
    return {
        "questions": len(answers),
        "with_several": int((answers > 1).sum()),
        "mean": round(float(answers.mean()), 3) if len(answers) else 0.0,
        "by_number": counted,
    }


def agreement(questions: Sequence[Sequence[Row]], num_examples: int) -> dict[str, Any]:
    """Returns how much the answers to each question agree.

    Two answers agree by the share of words that are in both, among those in either (Jaccard); a question by the mean
    over its answers. Shared words are not the same meaning: "yes" and "no" are counted besides.

    Args:
      questions: the rows of each question.
      num_examples: number of examples.
    """
    scores, opposed, several_foci = [], [], 0
    for rows in questions:
        several_foci += len({row.focus for row in rows if row.focus}) > 1
        answers = list({row.answer_group: row for row in rows if row.answer}.values())[:_MOST_ANSWERS]
        if len(answers) < 2:
            continue
        scores.append((_mean_overlap(answers), answers))
        said = {match[1].lower() for row in answers if (match := _YES_NO.match(row.answer))}
        if len(said) > 1:
            opposed.append((0.0, answers))
    values = [score for score, _ in scores]
    buckets = collections.Counter(min(int(value * _BUCKETS), _BUCKETS - 1) for value in values)
    lowest = sorted(scores, key=lambda item: (item[0], item[1][0].question_group))[:num_examples]
    return {
        "questions": len(scores),
        "mean": round(sum(values) / len(values), 3) if values else None,
        "buckets": [{"from": i / _BUCKETS, "to": (i + 1) / _BUCKETS, "questions": buckets[i]} for i in range(_BUCKETS)],
        "yes_and_no": len(opposed),
        "yes_and_no_share": share(len(opposed), len(scores)),
        "several_foci": several_foci,
        "yes_and_no_examples": [_example(answers, _opposed(answers)) for _, answers in opposed[:num_examples]],
        "lowest": [{"overlap": round(score, 3), **_example(answers, answers[:2])} for score, answers in lowest],
    }


def _mean_overlap(answers: Sequence[Row]) -> float:
    sets = [set(words_of(row.answer)) for row in answers]
    overlaps = [len(a & b) / max(1, len(a | b)) for a, b in itertools.combinations(sets, 2)]
    return sum(overlaps) / len(overlaps)


def _opposed(answers: Sequence[Row]) -> list[Row]:
    """Returns the first answer that says yes, and the first that says no."""
    first: dict[str, Row] = {}
    for row in answers:
        if match := _YES_NO.match(row.answer):
            first.setdefault(match[1].lower(), row)
    return [first["yes"], first["no"]]


def _example(answers: Sequence[Row], chosen: Sequence[Row]) -> dict[str, Any]:
    return {
        "question": shown(answers[0].question),
        "answers": [shown(row.answer) for row in chosen],
        "where": answers[0].where,
    }
