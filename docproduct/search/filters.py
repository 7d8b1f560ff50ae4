"""Conditions on the columns of pairs: only pairs that fulfil all of them are searched.

source=NHS                   the column has this text
source=NHS, source=CDC       several texts for one column: one of them
date>=2024-01-01             the column's text is not before this one, as dates in this form are ordered; also <=

Case counts, and texts are ordered by code points: Z stands before a.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_CONDITION = re.compile(r"\s*([^<>=]+?)\s*(>=|<=|=)\s*(.*?)\s*", re.DOTALL)


class Filter(NamedTuple):
    """Conditions, all of which must hold.

    Attributes:
      texts: For each column, the texts that it may have.
      least: For each column, the first text that it may have.
      most: For each column, the last text that it may have.
    """

    texts: Mapping[str, Collection[str]]
    least: Mapping[str, str]
    most: Mapping[str, str]

    @classmethod
    def parse(cls, conditions: Sequence[str], columns: Collection[str]) -> "Filter":
        """Reads conditions such as `source=NHS`; blanks around the operator do not count.

        Args:
          conditions: One or more.
          columns: The columns that there are.

        Raises:
          ValueError: A text is no condition, or there is no such column.
        """
        texts: dict[str, list[str]] = {}
        least: dict[str, str] = {}
        most: dict[str, str] = {}
        for condition in conditions:
            parts = _CONDITION.fullmatch(condition)
            if not parts:
                raise ValueError(f"{condition!r} is no condition; expected for example source=NHS or date>=2024-01-01.")
            column, operator, text = parts.groups()
            if column not in columns:
                raise ValueError(
                    f"There is no column {column!r} to filter by; this index has {', '.join(columns)}. Further ones "
                    "are kept with --keep of docproduct.index."
                )
            if operator == "=":
                texts.setdefault(column, []).append(text)
            elif operator == ">=":
                least[column] = max(text, least.get(column, text))
            else:
                most[column] = min(text, most.get(column, text))
        return cls(texts, least, most)

    def rows(self, table: pa.Table) -> np.ndarray:
        """Returns whether each row of a table fulfils the conditions, [N] bool; a missing text counts as empty."""
        parts = [pc.is_in(_filled(table[name]), pa.array(list(texts))) for name, texts in self.texts.items()]
        parts += [pc.greater_equal(_filled(table[name]), text) for name, text in self.least.items()]
        parts += [pc.less_equal(_filled(table[name]), text) for name, text in self.most.items()]
        return np.logical_and.reduce([np.asarray(part) for part in parts])


def _filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.fill_null(column, "")
