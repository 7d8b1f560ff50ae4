"""The cosine from which an index can answer a question: calibrated on questions whose answers are known.

Source: Vovk et al. 2005 and Papadopoulos et al. 2002, split conformal prediction: of n + 1 exchangeable cosines, each
rank is equally likely for the last one.

    Q calibration questions, P candidates (passages), C questions of a chunk, G answer groups, D width
"""

from typing import Any

import numpy as np
from absl import logging

from data_pipeline import splits
from docproduct.search.answerable import conformal

MOST_QUESTIONS = 1_000
LEAST_QUESTIONS = 50  # with fewer, a single question moves the guarantee by 2 %
# For an index without calibration questions: every question counts as answerable.
UNCALIBRATED = {"cosine": -1.0, "precision": None, "recall": None, "refused": None, "questions": 0, "unseen": 0}
UNCALIBRATED |= {"guaranteed": 1.0, "of": "none"}
_CHUNK = 128  # questions whose cosines are in memory together

# An index may be made in batches, compiled, in bfloat16, on a GPU; a question is encoded alone, in float32. Of 444
# questions and answers (all-MiniLM-L6-v2) the cosines differed by 4e-7 at most in float32 on a processor and by 3e-3 in
# bfloat16 (the best of each question by 2e-3); float32 on a GPU multiplies in TF32, 8 times as fine as bfloat16.
_MARGINS = {"float32": 1e-3}
_COARSE_MARGIN = 5e-3


def margin(dtype_policy: str) -> float:
    """Returns how much a cosine may lose by rounding, for an index that was made in this Keras dtype policy."""
    return _MARGINS.get(dtype_policy, _COARSE_MARGIN)


def choose(question_groups: np.ndarray, split_names: np.ndarray) -> tuple[np.ndarray, str]:
    """Chooses the pairs whose questions calibrate.

    If dev has LEAST_QUESTIONS questions, they calibrate alone. Otherwise all questions do, so that one unusual question
    does not decide.

    Args:
      question_groups: [N] int64, of each pair.
      split_names: [N], of each pair.

    Returns:
      The rows of the pairs, [Q] int, each question once, MOST_QUESTIONS or fewer, spread over the pairs; and their
      source, `dev` or `all`.
    """
    rows = np.sort(np.unique(question_groups, return_index=True)[1])
    of_dev = split_names[rows] == splits.DEV
    if of_dev.sum() >= LEAST_QUESTIONS:
        return _spread(rows[of_dev], MOST_QUESTIONS), splits.DEV
    others = _spread(rows[~of_dev], MOST_QUESTIONS - int(of_dev.sum()))
    return np.sort(np.concatenate([rows[of_dev], others])), "all"


def _spread(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)]


def calibrate(
    question_vectors: np.ndarray,
    question_keys: np.ndarray,
    answer_vectors: np.ndarray,
    answer_keys: np.ndarray,
    keep_share: float,
    unseen: np.ndarray | None = None,
) -> dict[str, Any]:
    """Computes the highest threshold that a share of the new questions with an answer reaches.

    Every question is asked twice: with its answers among the candidates, where the best cosine should pass, and
    without them, where it should not. A model gives higher cosines to the questions that it was trained on, so the
    threshold is the lower one of all questions' and of the unseen ones' alone.

    Args:
      question_vectors: [Q, D] float32, unit norm; one or more, no question twice.
      question_keys: [2, Q] int64, question group and answer group of each.
      answer_vectors: [P, D] float32, unit norm.
      answer_keys: [2, P] int64, the same of each candidate. A question's answers are those of all candidates with its
        question group, its own answer group, and every candidate that is equal to one of these.
      keep_share: Share of the questions with an answer that should pass, 0 to 1.
      unseen: [Q] bool, the questions that the model was not trained on; None if that is unknown.

    Returns:
      {"cosine": the threshold, "precision": share of the passing questions that have an answer, "recall": share of the
      questions with an answer that pass, "refused": share of the questions without an answer that do not pass,
      "questions": Q, "unseen": number of unseen questions, "guaranteed": probability that a new question with an answer
      passes, if it and all Q are exchangeable. It is `keep_share` or a little more, and less if Q is too small}.
    """
    with_answer, without = _best_cosines(question_vectors, question_keys, answer_vectors, answer_keys)
    cosine, guaranteed = conformal(with_answer, keep_share)
    unseen_cosines = with_answer[unseen] if unseen is not None else with_answer[:0]
    if len(unseen_cosines):
        cosine = min(cosine, conformal(unseen_cosines, keep_share)[0])
    passed, wrong = int((with_answer >= cosine).sum()), int((without >= cosine).sum())
    return {
        "cosine": cosine,
        "precision": passed / (passed + wrong),
        "recall": passed / len(with_answer),
        "refused": 1 - wrong / len(without),
        "questions": len(with_answer),
        "unseen": len(unseen_cosines),
        "guaranteed": guaranteed,
    }


def report(calibrated: dict[str, Any], keep_share: float) -> None:
    """Logs what `calibrate` returned and how reliable it is; warns if there were few questions."""
    share = (
        f"a new question like these, with an answer in the index, passes with a probability of "
        f"{calibrated['guaranteed']:.1%} or more"
    )
    questions = f"{calibrated['questions']} questions ({calibrated['of']}; {calibrated['unseen']} of dev)"
    logging.info("Threshold: cosine %.3f, calibrated on %s: %s.", calibrated["cosine"], questions, share)
    if calibrated["questions"] < LEAST_QUESTIONS:
        logging.warning(
            "The threshold is calibrated on only %s; %d or more are advised. With --kept=%g, %s. Prepare more pairs, "
            "or choose a cosine yourself with --threshold of serve.py. Stored questions are always answered.",
            questions,
            LEAST_QUESTIONS,
            keep_share,
            share,
        )


def _best_cosines(
    question_vectors: np.ndarray, question_keys: np.ndarray, answer_vectors: np.ndarray, answer_keys: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the best cosine of each question with all candidates, [Q], and with those that do not answer it, [Q]."""
    with_answer, without = np.empty(len(question_vectors)), np.empty(len(question_vectors))
    unique_answers, answers = np.unique(answer_keys[1], return_inverse=True)  # [G], [P]
    for start in range(0, len(question_vectors), _CHUNK):
        rows = slice(start, start + _CHUNK)
        scores = question_vectors[rows] @ answer_vectors.T  # [C, P]
        right = question_keys[1, rows, None] == unique_answers  # [C, G]
        questions, candidates = np.nonzero(question_keys[0, rows, None] == answer_keys[0])
        right[questions, answers[candidates]] = True
        with_answer[rows] = scores.max(axis=1)
        without[rows] = np.where(right[:, answers], -np.inf, scores).max(axis=1)
    return with_answer, without
