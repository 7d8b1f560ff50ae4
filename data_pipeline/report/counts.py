"""Rows by source and by split, and the most frequent foci (topics, or labels of triage rows)."""

import collections
from collections.abc import Sequence
from typing import Any

from data_pipeline.report.corpus import Row
from data_pipeline.report.personal_data import shown
from data_pipeline.report.tally import Tally, share

_TOP = 20
_LABEL_CHARACTERS = 60


class Counts:
    """Counts rows, sources, splits and foci of all rows."""

    def __init__(self) -> None:
        self._rows = 0
        self._sources, self._foci, self._splits = Tally(), Tally(), collections.Counter[str]()

    def add(self, rows: Sequence[Row]) -> None:
        """Counts rows."""
        self._rows += len(rows)
        self._sources.add(row.source for row in rows)
        self._foci.add(row.focus for row in rows if row.focus)
        self._splits.update(row.split for row in rows if row.split)

    def numbers(self) -> dict[str, Any]:
        """Returns the counts, the most frequent first."""
        return {
            "rows": self._rows,
            "splits": dict(sorted(self._splits.items())),
            "num_sources": len(self._sources),
            "sources": self._listed(self._sources),
            "num_foci": len(self._foci),
            "rows_with_focus": self._foci.total(),
            "foci": self._listed(self._foci),
            "foci_complete": not self._foci.forgot,
        }

    def _listed(self, tally: Tally) -> list[dict[str, Any]]:
        top = tally.top(_TOP)
        return [{"name": shown(name, _LABEL_CHARACTERS), "rows": n, "share": share(n, self._rows)} for name, n in top]
