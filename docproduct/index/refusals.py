"""Calibrates which questions an index answers, on questions of the table and on the same questions in other words.

Each is asked with its answers among the candidates, without them, and without all of its topic. One half of the
questions fits a model (docproduct/search/answerable.py), the other half sets its threshold.

    N pairs, P passages, Q questions, D width
"""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from tqdm import tqdm

from data_pipeline import cleaning, splits
from data_pipeline.other_words import KINDS, SUBJECT_ALONE, SYNONYM, by_another_name, rewordings, topic
from docproduct.index.content import OTHER_NAMES, Content
from docproduct.search.answerable import DEPTH, OF_SEARCH, AnswerableModel, Signals, conformal
from docproduct.search.shared_words import WordWeights
from docproduct.search.threshold import LEAST_QUESTIONS

Embed = Callable[[Sequence[str]], np.ndarray]
Logits = Callable[[Sequence[tuple[str, Sequence[str]]]], Sequence[np.ndarray]]  # see TrainedReranker.logits_many
TABLE = "table"  # kind of a question that is asked in the table's own words
OTHER_WORDS = "other words"  # all other kinds together, except SYNONYM
WITH_ANSWER, OTHER_ASPECT, OTHER_TOPIC = "with its answers", "other aspect", "other topic"
LEAST_FITTING = 100  # questions: with fewer, the cosine decides alone
_MOST_FITTING, _MOST_CALIBRATING = 300, 500  # questions: each is asked in up to seven ways
_FIRST_LOOK = 64  # passages among which DEPTH different answers are expected
_QUESTIONS_READ = 50  # by a reranker together
_SEED = 0


class Asked(NamedTuple):
    """A question of the calibration.

    Attributes:
      row: Row of the pair that it is made of.
      text: The question.
      kind: TABLE, or a kind of other_words.py.
    """

    row: int
    text: str
    kind: str


class Observed(NamedTuple):
    """What searches told: R rows.

    Attributes:
      signals: [R, F].
      kinds: [R], of the questions.
      cases: [R], WITH_ANSWER, OTHER_ASPECT or OTHER_TOPIC.
      rows: [R] int, the pairs that the questions are made of.
    """

    signals: np.ndarray
    kinds: np.ndarray
    cases: np.ndarray
    rows: np.ndarray


class Evidence(NamedTuple):
    """What the questions of the calibration tell.

    Attributes:
      fitting: Of the questions that fit the model.
      calibrating: Of the others, which set the threshold.
      source: Where those are from: `dev` or `all`.
    """

    fitting: Observed
    calibrating: Observed
    source: str


def gather(
    content: Content,
    words: WordWeights,
    embed: Embed,
    correct: Callable[[str], str],
    hide_questions: bool = False,
    logits: Logits | None = None,
) -> Evidence | None:
    """Asks an index the questions of its calibration.

    Args:
      content: Pairs of the index, with vectors of both sides.
      words: Word weights of its texts.
      embed: Encodes questions, [Q] texts -> [Q, D] float32, unit norm.
      correct: Corrects the spelling of a question that is asked in other words, as the index will.
      hide_questions: Whether the pairs stand for passages of documents, which have no question to compare with.
      logits: Returns a reranker's logits, see `TrainedReranker.logits_many`; None: there is no reranker.

    Returns:
      What the searches told; None if there are too few questions.
    """
    fitting, calibrating, source = halves(content.pairs["question_group"].to_numpy(), content.split_names)
    if not len(fitting):
        logging.warning("There are too few questions to fit when one is answerable: its best cosine decides alone.")
        return None
    draw, searches = random.Random(_SEED), Searches(content, words, embed, hide_questions, logits)
    asked = [asked_questions(content, rows, draw, correct) for rows in (fitting, calibrating)]
    return Evidence(*map(searches.observe, asked), source)


def calibrate(evidence: Evidence, keep_share: float, features: Sequence[str] = OF_SEARCH) -> dict[str, Any]:
    """Fits the model and its threshold; returns what the manifest holds under `answerable` or `answerable_reranked`.

    Args:
      evidence: What `gather` returned.
      keep_share: Share of the new questions with an answer that should count as answerable, 0 to 1.
      features: Names of the signals that the model reads.
    """
    model = _fit(evidence.fitting, features)
    fitted = len(np.unique(evidence.fitting.rows))
    stored = {"model": model.as_json(), "of": evidence.source, "fitted": fitted}
    return stored | _threshold(model, evidence.calibrating, keep_share)


def halves(groups: np.ndarray, split_names: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Chooses the pairs whose questions fit the model, and those whose questions set its threshold.

    Both are of dev if it has enough questions. A smaller dev sets the threshold, and other questions fit. Without dev,
    all questions are halved.

    Args:
      groups: [N] int64, question group of each pair.
      split_names: [N], split of each pair.

    Returns:
      Two arrays of rows, no question twice, and what the threshold's are: `dev` or `all`. Empty if there are too few.
    """
    rows = np.sort(np.unique(groups, return_index=True)[1])
    rows = np.random.default_rng(_SEED).permutation(rows)
    of_dev = split_names[rows] == splits.DEV
    dev, others, source = rows[of_dev], rows[~of_dev], splits.DEV
    if len(dev) < LEAST_QUESTIONS:
        dev, others, source = rows, rows[:0], "all"
    if len(dev) >= 2 * LEAST_FITTING:
        half = min(len(dev) // 2, _MOST_FITTING)
        others, dev = dev[:half], dev[half:]
    if len(others) < LEAST_FITTING:
        return rows[:0], rows[:0], source
    return np.sort(others[:_MOST_FITTING]), np.sort(dev[:_MOST_CALIBRATING]), source


def asked_questions(
    content: Content, rows: np.ndarray, draw: random.Random, correct: Callable[[str], str]
) -> list[Asked]:
    """Returns the question of each row in the table's words, and in every kind of other words that fits, corrected."""
    stored = set(content.pairs["question_group"].to_pylist())
    named = OTHER_NAMES in content.pairs.column_names
    asked = []
    for row in rows.tolist():
        question, focus = (content.pairs[name][row].as_py() or "" for name in ("question", "focus"))
        asked.append(Asked(row, question, TABLE))
        reworded = rewordings(question, focus, draw, stored)
        asked += [Asked(row, correct(text), kind) for text, kind in reworded]
        synonyms = (content.pairs[OTHER_NAMES][row].as_py() or "").split("|") if named else ()
        if text := by_another_name(question, focus, synonyms, random.Random(row)):
            asked.append(Asked(row, correct(text), SYNONYM))
    return asked


class Searches:
    """Asks an index that is not written yet: by brute force, with candidates left out."""

    def __init__(
        self,
        content: Content,
        words: WordWeights,
        embed: Embed,
        hide_questions: bool = False,
        logits: Logits | None = None,
    ):
        """Takes what `gather` takes."""
        self._hide_questions, self._logits = hide_questions, logits
        self._questions, self._answers = content.vectors["question"], content.vectors["answer"]
        columns = {name: content.pairs[name].to_pylist() for name in ("question", "answer", "focus")}
        # A passage is found under its title, which names its topic.
        self._texts = list(zip(columns["focus" if hide_questions else "question"], columns["answer"], strict=True))
        self._question_groups = content.pairs["question_group"].to_numpy()
        self._answer_groups = content.pairs["answer_group"].to_numpy()
        topics = [
            topic(question, focus or "") for question, focus in zip(columns["question"], columns["focus"], strict=True)
        ]
        self._topics = np.array([cleaning.hash64(text) for text in topics], np.int64)
        self._rows, self._words, self._embed = content.rows, words, embed

    def observe(self, asked: Sequence[Asked]) -> Observed:
        """Asks each question in each case that it fits."""
        vectors = np.stack([self._questions[row] for row, _, _ in asked])  # [Q, D]
        others = [number for number, (_, _, kind) in enumerate(asked) if kind != TABLE]
        if others:
            vectors[others] = self._embed([asked[number].text for number in others])
        observed, read = [], []
        for question, vector in zip(asked, vectors, strict=True):
            for case, left_out in self._cases(question):
                if not left_out.all():
                    signals, rows = self._signals(question, vector, left_out)
                    observed.append((signals, question.kind, case, question.row))
                    read.append((question.text, [self._texts[row][1] for row in rows.tolist()]))
        if self._logits:
            each = zip(observed, self._read(read), strict=True)
            observed = [(signals.with_logits(logits), *rest) for (signals, *rest), logits in each]
        return Observed(*map(np.array, zip(*observed, strict=True)))

    def _read(self, asked: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        """Returns the reranker's logits of each question's answers; it reads no answer twice for one question."""
        answers: dict[str, dict[str, None]] = {}  # by question
        for question, nearest in asked:
            answers.setdefault(question, {}).update(dict.fromkeys(nearest))
        pairs = [(question, list(own)) for question, own in answers.items()]
        logit_of: dict[tuple[str, str], float] = {}
        with tqdm(desc="reranking", total=len(pairs), unit=" questions") as bar:
            for start in range(0, len(pairs), _QUESTIONS_READ):
                part = pairs[start : start + _QUESTIONS_READ]
                for (question, own), logits in zip(part, self._logits(part), strict=True):
                    logit_of |= {(question, answer): logit for answer, logit in zip(own, logits.tolist(), strict=True)}
                bar.update(len(part))
        return [[logit_of[question, answer] for answer in nearest] for question, nearest in asked]

    def _cases(self, question: Asked) -> list[tuple[str, np.ndarray]]:
        """Returns the cases that a question is asked in, with the pairs that are left out, [N] bool."""
        own = self._question_groups == self._question_groups[question.row]
        own = np.isin(self._answer_groups, self._answer_groups[own])
        of_topic = own | (self._topics == self._topics[question.row])
        cases = [(WITH_ANSWER, np.zeros_like(own)), (OTHER_TOPIC, of_topic)]
        # A question about the subject as a whole is answered by any of its pairs.
        return cases if question.kind in SUBJECT_ALONE else [*cases, (OTHER_ASPECT, own)]

    def _signals(self, question: Asked, vector: np.ndarray, left_out: np.ndarray) -> tuple[Signals, np.ndarray]:
        """Returns what a search without some pairs tells, and the rows of its nearest answers."""
        cosines = self._answers @ vector  # [P]
        cosines[left_out[self._rows]] = -np.inf
        nearest = self._nearest(cosines)  # passages
        rows = self._rows[nearest]
        stored, answer = self._texts[rows[0]]
        if self._hide_questions:
            best, none = (stored or "", answer), [0.0]
            return Signals.of(question.text, cosines[nearest].tolist(), none, best, self._words), rows
        question_cosines = self._questions[rows] @ vector
        if question.kind == TABLE:  # it stands for a new question: the stored one is itself, and does not count
            itself = self._question_groups[rows] == self._question_groups[question.row]
            question_cosines[itself] = question_cosines[~itself].max(initial=0.0)
            stored = "" if itself[0] else stored
        best = (stored, answer)
        signals = Signals.of(question.text, cosines[nearest].tolist(), question_cosines.tolist(), best, self._words)
        return signals, rows

    def _nearest(self, cosines: np.ndarray) -> np.ndarray:
        """Returns the nearest passages of DEPTH different answers, or of all."""
        order = np.argsort(-cosines) if len(cosines) <= _FIRST_LOOK else _best(cosines, _FIRST_LOOK)
        first = self._first_of_each_answer(order, cosines)
        return first if len(first) == DEPTH else self._first_of_each_answer(np.argsort(-cosines), cosines)

    def _first_of_each_answer(self, order: np.ndarray, cosines: np.ndarray) -> np.ndarray:
        order = order[np.isfinite(cosines[order])]
        first = np.unique(self._answer_groups[self._rows[order]], return_index=True)[1]
        return order[np.sort(first)[:DEPTH]]


def _best(cosines: np.ndarray, k: int) -> np.ndarray:
    best = np.argpartition(-cosines, k)[:k]
    return best[np.argsort(-cosines[best])]


def _fit(observed: Observed, features: Sequence[str]) -> AnswerableModel:
    """Fits a model for which the table's words count as much as all other words together, synonyms left out."""
    observed = Observed(*(column[observed.kinds != SYNONYM] for column in observed))
    _, pool, sizes = np.unique(observed.kinds == TABLE, return_inverse=True, return_counts=True)
    return AnswerableModel.fit(observed.signals, observed.cases == WITH_ANSWER, 1 / sizes[pool], features)


def _threshold(model: AnswerableModel, observed: Observed, keep_share: float) -> dict[str, Any]:
    """Returns the log odds that keep the promise for the table's words and for other words, and what they refuse.

    Nothing is promised for questions by a synonym, which the texts may not contain: they are only counted.
    """
    log_odds = model.log_odds(observed.signals)
    has_answer, of_table = observed.cases == WITH_ANSWER, observed.kinds == TABLE
    in_other_words = ~of_table & (observed.kinds != SYNONYM)
    pools = [has_answer & pool for pool in (of_table, in_other_words)]
    calibrated = [conformal(log_odds[pool], keep_share, observed.rows[pool]) for pool in pools if pool.any()]
    least = min(score for score, _ in calibrated)
    passes = log_odds >= least

    def share(rows: np.ndarray) -> float | None:
        return float(passes[rows].mean()) if rows.any() else None

    of_kind = {kind: observed.kinds == kind for kind in (TABLE, *KINDS, SYNONYM) if kind in observed.kinds}
    return {
        "least_log_odds": least,
        "guaranteed": min(probability for _, probability in calibrated),
        "questions": int((has_answer & of_table).sum()),
        "answered": {kind: share(has_answer & rows) for kind, rows in of_kind.items()},
        "answered_other_words": share(has_answer & in_other_words),
        "refused": {
            case: {
                words: _not(share(rows & (observed.cases == case)))
                for words, rows in {TABLE: of_table, OTHER_WORDS: in_other_words, **of_kind}.items()
            }
            for case in (OTHER_ASPECT, OTHER_TOPIC)
        },
    }


def _not(share: float | None) -> float | None:
    return None if share is None else 1 - share


def report(calibrated: dict[str, Any]) -> None:
    """Logs what `calibrate` returned, for each kind of question."""
    logging.info(
        "Answerable: fitted on %d questions, threshold of %d others (%s). A new question like these, with an answer in "
        "the index, counts as answerable with a probability of %.1f%% or more.",
        calibrated["fitted"],
        calibrated["questions"],
        calibrated["of"],
        100 * calibrated["guaranteed"],
    )
    answered = {kind: share for kind, share in calibrated["answered"].items() if share is not None}
    logging.info("Answered, by kind of words: %s.", _listed(answered))
    for case, shares in calibrated["refused"].items():
        logging.info("Refused, %s: %s.", case, _listed({words: s for words, s in shares.items() if s is not None}))


def summary(calibrated: dict[str, Any]) -> str:
    """Returns in one sentence what `calibrate` returned."""
    answered, refused = calibrated["answered"][TABLE], calibrated["refused"][OTHER_TOPIC][TABLE]
    parts = [f"{answered:.1%} are answered" if answered is not None else ""]
    parts.append(f"{refused:.1%} are refused where nothing on their topic is stored" if refused is not None else "")
    return f"Of these, {' and '.join(filter(None, parts)) or 'none was asked'}."


def _listed(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in shares.items()) or "none asked"
