"""Stored questions: a question that is asked word for word is answered with its own answers."""

import numpy as np
import pyarrow as pa

from data_pipeline import cleaning


class StoredQuestions:
    """Looks up the pairs of a question, whatever its case, line breaks and closing marks."""

    def __init__(self, pairs: pa.Table):
        """Takes pairs.parquet; groups are computed for an index from before it had question_group."""
        questions = pairs["question"].to_pylist()
        if "question_group" in pairs.column_names:
            groups = pairs["question_group"].to_pylist()
        else:
            groups = list(map(cleaning.group, questions))
        self._rows: dict[int, list[int]] = {}
        for row, group in enumerate(groups):
            self._rows.setdefault(group, []).append(row)
        # Questions are cleaned when they are stored, and again when they are asked: the stored text "&lt;" is asked as
        # "<". Cleaning twice changes nothing but entities.
        for row, question in enumerate(questions):
            if "&" in question and (group := cleaning.group(cleaning.clean(question))) != groups[row]:
                self._rows.setdefault(group, []).append(row)

    def rows(self, question: str) -> np.ndarray:
        """Returns the rows of the pairs that have this clean question, [N] int; none for most questions."""
        return np.array(self._rows.get(cleaning.group(question), ()), int)
