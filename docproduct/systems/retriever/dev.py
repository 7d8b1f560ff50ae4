"""Evaluation of a retriever on dev: metrics while it is trained, and the questions that it gets wrong."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from absl import logging

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from docproduct import metrics
from docproduct.search.fusion import Hybrid, choose, fuse
from docproduct.search.words import WordIndex
from docproduct.systems.retriever.folder import TrainedRetriever
from docproduct.systems.retriever.model import Retriever, unit

_QUESTIONS_TOGETHER = 256
_MOST_FOR_HYBRID = 1_000  # questions

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
    """Scores dev's questions against dev's answers and a fixed sample of train's.

    Equal answers are one candidate; a question's relevant candidates are the answers of all its pairs.
    """

    def __init__(self, prepared: PreparedFolder, num_train_answers: int, vectors: Vectors):
        table = prepared.table(["question", "answer", "question_group", "answer_group", "split"])
        table = table.append_column("row", pa.array(range(len(table))))
        splits_of_rows, question_groups, answer_groups = (
            table[name].to_numpy() for name in ("split", "question_group", "answer_group")
        )
        dev, train = (np.flatnonzero(splits_of_rows == split) for split in (splits.DEV, splits.TRAIN))
        # Groups are hashes: the lowest are a random sample, and the same one in every run.
        _, first = np.unique(answer_groups[train], return_index=True)  # groups ascending
        candidates = np.concatenate([dev, train[first[:num_train_answers]]])
        groups = question_groups[dev]
        _, asked, question_of_row = np.unique(groups, return_index=True, return_inverse=True)  # [Q], [dev]
        # Candidates with an equal answer are one: the first, which is dev's if there is one.
        groups = answer_groups[candidates]
        _, answered, answer_of_row = np.unique(groups, return_index=True, return_inverse=True)  # [C], [candidates]
        self._relevant: list[list[int]] = [[] for _ in asked]  # of each question, its candidates
        for question, answer in zip(question_of_row, answer_of_row[: len(dev)], strict=True):
            self._relevant[question].append(int(answer))
        self._questions, self._answers = (table.take(pa.array(rows)) for rows in (dev[asked], candidates[answered]))
        self._vectors = vectors
        self._last: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None

    def __call__(self) -> dict[str, float]:
        """Returns RR@10 and Success@1 of the model as it is now."""
        questions, answers = self._vectors(self._questions, "question"), self._vectors(self._answers, "answer")
        ranks = np.empty(len(questions), int)
        for start in range(0, len(ranks), _QUESTIONS_TOGETHER):
            rows = range(start, min(start + _QUESTIONS_TOGETHER, len(ranks)))
            ranks[rows] = metrics.first_relevant_ranks(questions[rows] @ answers.T, self._relevant_rows(rows))
        self._last = questions, answers, ranks
        return {"RR@10": metrics.reciprocal_rank(ranks, 10), "Success@1": metrics.success(ranks, 1)}

    def choose_hybrid(self) -> tuple[Hybrid, dict[str, float]]:
        """Returns the best way to join BM25 to the vectors of the last call, and the RR@10 of each way.

        See `fusion.choose`.
        """
        questions, answers, _ = self._seen()
        # Questions are in the order of their groups, which are hashes: the first are a random sample.
        rows = range(min(len(questions), _MOST_FOR_HYBRID))
        try:
            index = WordIndex.build(self._answers["answer"].to_pylist())
        except ValueError as error:
            logging.info("Only vectors are searched: %s", error)
            return Hybrid(), {}
        words = [index.scores(question) for question in self._questions["question"].to_pylist()[: len(rows)]]
        cosines, relevant = questions[rows] @ answers.T, self._relevant_rows(rows)

        def reciprocal_rank(hybrid: Hybrid) -> float:
            scores = np.stack([fuse(*pair, *hybrid) for pair in zip(cosines, words, strict=True)])
            return metrics.reciprocal_rank(metrics.first_relevant_ranks(scores, relevant), 10)

        return choose(reciprocal_rank)

    def first_hits(self, depth: int, num_questions: int, hybrid: Hybrid = Hybrid()) -> FirstHits:
        """Returns the first `depth` answers for at most `num_questions` questions, BM25 joined to vectors as in use."""
        all_questions, answers, _ = self._seen()
        # Questions are in the order of their groups, which are hashes: the first are a random sample.
        questions = self._questions["question"].to_pylist()[:num_questions]
        texts = self._answers["answer"].to_pylist()
        cosines = all_questions[: len(questions)] @ answers.T  # [Q, C]
        scores = cosines
        if hybrid.method != "none":
            words = WordIndex.build(texts)
            each = zip(cosines, map(words.scores, questions), strict=True)
            scores = np.stack([fuse(*pair, *hybrid) for pair in each])
        hits = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        relevant = self._relevant_rows(range(len(questions)))
        of_hits = [np.take_along_axis(values, hits, axis=1) for values in (cosines, relevant)]
        return FirstHits(questions, texts, hits, *of_hits, metrics.first_relevant_ranks(scores, relevant))

    def _seen(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the question vectors [Q, D], answer vectors [C, D] and ranks [Q] of the last call."""
        if self._last is None:
            self()
        return self._last

    def _relevant_rows(self, questions: Sequence[int]) -> np.ndarray:
        """Returns which candidates answer the questions, [q, C] bool."""
        relevant = np.zeros((len(questions), len(self._answers)), bool)
        for row, question in enumerate(questions):
            relevant[row, self._relevant[question]] = True
        return relevant

    def hardest_misses(self, count: int, shown: int = 3) -> list[Miss]:
        """Returns the questions whose best own answer ranked lowest in the last call, the lowest first."""
        questions, answers, ranks = self._seen()
        lowest = [int(i) for i in np.argsort(-ranks, kind="stable")[:count] if ranks[i] > 1]
        return [self._miss(i, answers @ questions[i], int(ranks[i]), shown) for i in lowest]

    def _miss(self, i: int, scores: np.ndarray, rank: int, shown: int) -> Miss:
        relevant = self._relevant_rows([i])[0]
        best = int(np.argmax(np.where(relevant, scores, -np.inf)))
        others = [int(c) for c in np.argsort(-scores, kind="stable") if not relevant[c]]
        texts = {name: self._answers[name] for name in ("question", "answer")}
        above = tuple(
            (float(scores[c]), texts["question"][c].as_py(), texts["answer"][c].as_py())
            for c in others[: min(shown, rank - 1)]
        )
        question, answer = self._questions["question"][i].as_py(), texts["answer"][best].as_py()
        return Miss(question, rank, float(scores[best]), answer, above)
