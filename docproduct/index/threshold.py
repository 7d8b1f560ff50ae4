"""From which cosine on a question counts as answered by an index: calibrated on questions whose answers are known."""

import math
from typing import Any

import numpy as np

MOST_QUESTIONS = 1_000
_CHUNK = 128  # questions whose cosines are in memory together


def calibrate(
    question_vectors: np.ndarray,
    question_keys: np.ndarray,
    answer_vectors: np.ndarray,
    answer_keys: np.ndarray,
    kept: float,
) -> dict[str, Any]:
    """Finds the highest threshold that keeps a share of the questions that have an answer.

    Every question is asked twice: with its answers among the candidates, where the best cosine should pass, and
    without them, where it should not.

    Args:
      question_vectors: [Q, D] float32, unit norm; one or more.
      question_keys: [2, Q] int64, question group and answer group of each.
      answer_vectors: [P, D] float32, unit norm.
      answer_keys: [2, P] int64, the same of each candidate; equal in one of them means that it answers the question.
      kept: share of the questions with an answer that shall pass, 0 to 1.

    Returns:
      {"cosine": the threshold, "precision": share of those that pass that have an answer, "recall": share of those with
      an answer that pass, "refused": share of those without one that do not, "questions": Q}.
    """
    with_answer, without = np.empty(len(question_vectors)), np.empty(len(question_vectors))
    for start in range(0, len(question_vectors), _CHUNK):
        rows = slice(start, start + _CHUNK)
        scores = question_vectors[rows] @ answer_vectors.T  # [C, P]
        own = (question_keys[:, rows, None] == answer_keys[:, None, :]).any(axis=0)
        with_answer[rows] = scores.max(axis=1)
        without[rows] = np.where(own, -1.0, scores).max(axis=1)
    least = math.ceil(round(kept * len(with_answer), 6))  # questions that must pass
    cosine = float(np.sort(with_answer)[-least])
    passed, wrong = int((with_answer >= cosine).sum()), int((without >= cosine).sum())
    return {
        "cosine": cosine,
        "precision": passed / (passed + wrong),
        "recall": passed / len(with_answer),
        "refused": 1 - wrong / len(without),
        "questions": len(with_answer),
    }
