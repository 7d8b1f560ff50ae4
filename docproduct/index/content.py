"""What an index searches: pairs, and passages of documents, which have no question.

N rows, Q of them with a question, P vectors of answers and passages, D width
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_pipeline import cleaning

SHOWN_COLUMNS = ["pair_id", "question", "answer", "source", "focus"]  # of a hit
DOCUMENT_COLUMNS = ["title", "section", "page"]  # of a hit, where there are documents
OTHER_NAMES = "other_names"  # of the focus, separated by `|`, if any pair has some; only the calibration reads them
TEXT_COLUMNS = [*SHOWN_COLUMNS, "question_group", "answer_group"]


class Content(NamedTuple):
    """N rows, whose answers are P passages.

    Attributes:
      pairs: N rows with TEXT_COLUMNS, DOCUMENT_COLUMNS if there are documents, OTHER_NAMES if pairs have any, and
        further columns that are kept. A passage of a document is the answer of a row whose question is empty.
      split_names: [N], the split of each row.
      vectors: By side, float32 of unit norm: question [Q, D], answer [P, D]; one side may be missing.
      rows: [P] int, the row that a passage belongs to.
      numbers: [P] int, the number of the passage in its row.
    """

    pairs: pa.Table
    split_names: np.ndarray
    vectors: dict[str, np.ndarray]
    rows: np.ndarray
    numbers: np.ndarray

    @property
    def passage_ids(self) -> np.ndarray:
        """The ids of the passages, [P] int64."""
        pair_ids = self.pairs["pair_id"].to_numpy()
        return passage_ids(pair_ids[self.rows].tolist(), self.numbers.tolist())

    def taken(self, chosen: np.ndarray) -> "Content":
        """Returns some of the rows, [N] bool, with their vectors."""
        places = self.places(chosen)
        vectors = {side: vectors[places[side]] for side, vectors in self.vectors.items()}
        rows = (np.cumsum(chosen) - 1)[self.rows[places["answer"]]]
        numbers = self.numbers[places["answer"]]
        return Content(self.pairs.filter(pa.array(chosen)), self.split_names[chosen], vectors, rows, numbers)

    def places(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Returns which vectors of each side belong to some of the rows: question [Q] bool, answer [P] bool."""
        return {"question": chosen[~are_passages(self.pairs)], "answer": chosen[self.rows]}


def passage_ids(pair_ids: Iterable[int], numbers: Iterable[int]) -> np.ndarray:
    """Returns the ids of passages, [P] int64, by the ids of their pairs and their numbers in the answers."""
    places = zip(pair_ids, numbers, strict=True)
    return np.array([cleaning.hash64(f"{pair}:{number}") for pair, number in places], np.int64)


def are_passages(pairs: pa.Table) -> np.ndarray:
    """Returns which rows are passages of documents, [N] bool."""
    if DOCUMENT_COLUMNS[0] not in pairs.column_names:
        return np.zeros(len(pairs), bool)
    return pc.equal(pairs["question"], "").to_numpy()


def heading(title: str, section: str, source: str) -> str:
    """Returns what a passage is called: "Asthma guide, Treatment"; a document without a title is called by its file."""
    return ", ".join(filter(None, (title or source, section)))


def headings(pairs: pa.Table) -> list[str]:
    """Returns what each row can be asked for word for word: its question, or the heading of a passage."""
    questions = pairs["question"].to_pylist()
    if DOCUMENT_COLUMNS[0] not in pairs.column_names:
        return questions
    parts = (pairs[name].to_pylist() for name in ("title", "section", "source"))
    return [question or heading(*each) for question, *each in zip(questions, *parts, strict=True)]


def searched_texts(pairs: pa.Table, side: str) -> list[str]:
    """Returns the text of each row that BM25 reads."""
    return answer_texts(pairs) if side == "answer" else pairs[side].to_pylist()


def answer_texts(pairs: pa.Table) -> list[str]:
    """Returns the answer of each row, that of a passage under its heading: what BM25 reads."""
    if not (passages := are_passages(pairs)).any():
        return pairs["answer"].to_pylist()
    each = zip(passages.tolist(), headings(pairs), pairs["answer"].to_pylist(), strict=True)
    return [f"{name}\n{text}" if is_passage else text for is_passage, name, text in each]
