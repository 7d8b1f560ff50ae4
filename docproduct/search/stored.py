"""Questions that are stored: whoever asks one word for word is answered with its own answers."""

import numpy as np
import pyarrow as pa

from data_pipeline import cleaning


class StoredQuestions:
    """Finds the pairs whose question is asked, whatever its case, line breaks and closing marks."""

    def __init__(self, pairs: pa.Table):
        """Takes pairs.parquet; of an index that was built before it had question_group, the groups are computed."""
        questions = pairs["question"].to_pylist()
        if "question_group" in pairs.column_names:
            groups = pairs["question_group"].to_pylist()
        else:
            groups = list(map(cleaning.group, questions))
        self._rows: dict[int, list[int]] = {}
        for row, group in enumerate(groups):
            self._rows.setdefault(group, []).append(row)
        # What is asked is cleaned, and what is stored was cleaned before: the stored text "&lt;" is then asked as "<".
        # Nothing but an entity changes when it is cleaned once more.
        for row, question in enumerate(questions):
            if "&" in question and (group := cleaning.group(cleaning.clean(question))) != groups[row]:
                self._rows.setdefault(group, []).append(row)

    def rows(self, question: str) -> np.ndarray:
        """Returns the rows of the pairs that a clean question belongs to, [N] int; mostly none."""
        return np.array(self._rows.get(cleaning.group(question), ()), int)
