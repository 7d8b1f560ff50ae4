"""Evaluation of a retriever on dev: metrics while it is trained, and the questions that it gets wrong."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from absl import logging

from data_pipeline.folders.prepared import PreparedFolder
from docproduct import metrics
from docproduct.search.fusion import Hybrid, choose, fuse
from docproduct.search.words import WordIndex
from docproduct.systems.retriever import dev_sets
from docproduct.systems.retriever.dev_sets import DevQuestions
from docproduct.systems.retriever.folder import TrainedRetriever
from docproduct.systems.retriever.model import Retriever, unit

_QUESTIONS_TOGETHER = 256
_MOST_FOR_HYBRID = 1_000  # questions
_NO_ROWS = np.empty(0, int)

Vectors = Callable[[pa.Table, str], np.ndarray]  # (rows with their texts, side) -> [N, D], unit norm


def text_vectors(retriever: TrainedRetriever) -> Vectors:
    """Returns a function that encodes the texts of rows."""

    def vectors(rows: pa.Table, side: str) -> np.ndarray:
        return retriever.embed(rows[side].to_pylist(), side, progress=f"dev {side}s").head

    return vectors


def stored_vectors(model: Retriever, store: dict[str, np.ndarray]) -> Vectors:
    """Returns a function that passes the stored vectors of rows through the head."""
    heads = {"question": model.question_head, "answer": model.answer_head}
    return lambda rows, side: unit(heads[side](store[side][rows["row"].to_numpy()])).numpy()


@dataclasses.dataclass(frozen=True)
class Miss:
    """A dev question with other answers ranked above its own.

    Attributes:
      question: text of the question.
      rank: rank of its best own answer, from 1.
      score: cosine of its best own answer.
      answer: text of its best own answer.
      above: (cosine, question, answer) of the first pairs that are ranked above it.
    """

    question: str
    rank: int
    score: float
    answer: str
    above: tuple[tuple[float, str, str], ...]


@dataclasses.dataclass(frozen=True)
class FirstHits:
    """The first answers that a retriever finds for dev's questions.

    Attributes:
      questions: texts of Q questions, which are a random sample of dev's.
      answers: texts of the C candidates.
      hits: [Q, A] int, the candidates that come first for each question.
      cosines: [Q, A] float32, their cosines.
      relevant: [Q, A] bool, whether they answer the question.
      ranks: [Q] int, the rank of the first right answer among all candidates, from 1.
    """

    questions: list[str]
    answers: list[str]
    hits: np.ndarray
    cosines: np.ndarray
    relevant: np.ndarray
    ranks: np.ndarray


class DevEvaluation:
    """Scores questions against their candidates, set by set; see dev_sets.py."""

    def __init__(
        self,
        prepared: PreparedFolder,
        num_train_answers: int,
        vectors: Vectors,
        held_out: np.ndarray = _NO_ROWS,
        others: Sequence[tuple[DevQuestions, Vectors]] = (),
    ):
        """Chooses questions and candidates.

        Args:
          prepared: its dev questions are scored.
          num_train_answers: number of train answers among the candidates.
          vectors: encodes its rows.
          held_out: rows of train that are scored as well, [H] int.
          others: further questions, each with the function that encodes them.
        """
        self._parts = [(dev_sets.of_prepared(prepared, num_train_answers, held_out), vectors), *others]
        self._set_names = np.concatenate([part.set_names for part, _ in self._parts])  # [Q], of all parts
        self._last: list[_Scored] | None = None

    def __call__(self) -> dict[str, float]:
        """Scores the model as it is now.

        Returns:
          RR@10 and Success@1, each the mean over the sets. If there are several sets, also the RR@10 of each.
        """
        self._last = [self._scored(part, vectors) for part, vectors in self._parts]
        of_sets = _by_set(np.concatenate([scored.ranks for scored in self._last]), self._set_names)
        reciprocal = {name: metrics.reciprocal_rank(ranks, 10) for name, ranks in of_sets.items()}
        success = [metrics.success(ranks, 1) for ranks in of_sets.values()]
        scores = {"RR@10": _mean(reciprocal.values()), "Success@1": _mean(success)}
        return scores | ({f"RR@10 {name}": score for name, score in reciprocal.items()} if len(reciprocal) > 1 else {})

    def choose_hybrid(self) -> tuple[Hybrid, dict[str, float]]:
        """Returns the best way to join BM25 to the vectors of the last call, and the RR@10 of each way.

        See `fusion.choose`; RR@10 is the mean over the sets.
        """
        try:
            scored = [_with_words(part, last) for (part, _), last in zip(self._parts, self._seen(), strict=True)]
        except ValueError as error:
            logging.info("Only vectors are searched: %s", error)
            return Hybrid(), {}
        set_names = np.concatenate([of_part.set_names for of_part in scored])

        def reciprocal_rank(hybrid: Hybrid) -> float:
            of_sets = _by_set(np.concatenate([of_part.ranks(hybrid) for of_part in scored]), set_names)
            return _mean(metrics.reciprocal_rank(of_set, 10) for of_set in of_sets.values())

        return choose(reciprocal_rank)

    def first_hits(self, depth: int, num_questions: int, hybrid: Hybrid = Hybrid()) -> FirstHits:
        """Returns the first `depth` answers for at most `num_questions` questions, BM25 joined to vectors as in use."""
        part, scored = self._parts[0][0], self._seen()[0]
        num_questions = min(num_questions, len(scored.questions))
        scores = cosines = scored.questions[:num_questions] @ scored.answers.T  # [Q, C]
        if hybrid.method != "none":
            scores = _with_words(part, scored, num_questions).fused(hybrid)
        hits = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        relevant = part.relevant_rows(range(num_questions))
        of_hits = [np.take_along_axis(values, hits, axis=1) for values in (cosines, relevant)]
        questions = part.questions["question"].to_pylist()[:num_questions]
        answers = part.answers["answer"].to_pylist()
        return FirstHits(questions, answers, hits, *of_hits, metrics.first_relevant_ranks(scores, relevant))

    def _seen(self) -> "list[_Scored]":
        """Returns the vectors and ranks of the last call."""
        if self._last is None:
            self()
        return self._last

    def _scored(self, part: DevQuestions, vectors: Vectors) -> "_Scored":
        questions, answers = vectors(part.questions, "question"), vectors(part.answers, "answer")
        ranks = np.empty(len(questions), int)
        for start in range(0, len(ranks), _QUESTIONS_TOGETHER):
            rows = range(start, min(start + _QUESTIONS_TOGETHER, len(ranks)))
            ranks[rows] = metrics.first_relevant_ranks(questions[rows] @ answers.T, part.relevant_rows(rows))
        return _Scored(questions, answers, ranks)

    def hardest_misses(self, count: int, shown: int = 3) -> list[Miss]:
        """Returns the questions of the prepared folder that ranked lowest in the last call, the lowest first."""
        part, (questions, answers, ranks) = self._parts[0][0], self._seen()[0]
        lowest = [int(i) for i in np.argsort(-ranks, kind="stable")[:count] if ranks[i] > 1]
        return [_miss(part, i, answers @ questions[i], int(ranks[i]), shown) for i in lowest]


class _Scored(NamedTuple):
    """Question vectors [Q, D], answer vectors [C, D], and the rank of each question's best own answer, [Q]."""

    questions: np.ndarray
    answers: np.ndarray
    ranks: np.ndarray


class _WithWords(NamedTuple):
    """Cosines and BM25 scores of some questions and all candidates, [q, C] each; which are relevant; their sets."""

    cosines: np.ndarray
    words: list[np.ndarray]
    relevant: np.ndarray
    set_names: np.ndarray

    def fused(self, hybrid: Hybrid) -> np.ndarray:
        """Returns the scores to rank by, [q, C]."""
        return np.stack([fuse(*scores, *hybrid) for scores in zip(self.cosines, self.words, strict=True)])

    def ranks(self, hybrid: Hybrid) -> np.ndarray:
        """Returns the rank of each question's best own answer, [q]."""
        return metrics.first_relevant_ranks(self.fused(hybrid), self.relevant)


def _with_words(part: DevQuestions, scored: _Scored, most: int = _MOST_FOR_HYBRID) -> _WithWords:
    """Returns the scores of a part's questions, or of a sample of `most`.

    Raises:
      ValueError: the candidates have no words.
    """
    # Questions of a prepared folder are in the order of their groups, which are hashes: the first are a random sample.
    rows = range(min(len(scored.questions), most))
    index = WordIndex.build(part.answers["answer"].to_pylist())
    words = [index.scores(question) for question in part.questions["question"].to_pylist()[: len(rows)]]
    cosines = scored.questions[rows] @ scored.answers.T
    return _WithWords(cosines, words, part.relevant_rows(rows), part.set_names[: len(rows)])


def _by_set(values: np.ndarray, set_names: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the values of each set's questions, from those of all questions, [Q]."""
    return {name: values[set_names == name] for name in sorted(set(set_names))}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def _miss(part: DevQuestions, i: int, scores: np.ndarray, rank: int, shown: int) -> Miss:
    relevant = part.relevant_rows([i])[0]
    best = int(np.argmax(np.where(relevant, scores, -np.inf)))
    others = [int(c) for c in np.argsort(-scores, kind="stable") if not relevant[c]]
    texts = {name: part.answers[name] for name in ("question", "answer")}
    above = tuple(
        (float(scores[c]), texts["question"][c].as_py(), texts["answer"][c].as_py())
        for c in others[: min(shown, rank - 1)]
    )
    question, answer = part.questions["question"][i].as_py(), texts["answer"][best].as_py()
    return Miss(question, rank, float(scores[best]), answer, above)
