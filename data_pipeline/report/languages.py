"""Languages of the sample, told by py3langid.

It is 5 MB and needs NumPy only; lingua is 96 MB. Stop words would fail for titles without any.
"""

import collections
from collections.abc import Sequence
from typing import Any

from data_pipeline.report.corpus import Row
from data_pipeline.report.personal_data import shown
from data_pipeline.report.tally import Examples, share

_CHARACTERS = 200  # of question and answer, that are looked at
_LEAST_LETTERS = 20
UNTOLD = "too short to tell"
_TOP = 10


def languages(sample: Sequence[Row], num_examples: int) -> dict[str, Any]:
    """Returns how many rows are in each language (ISO 639 codes), and examples of all but the first."""
    import py3langid  # an extra, and its model takes a second

    counts: collections.Counter[str] = collections.Counter()
    examples: dict[str, Examples] = collections.defaultdict(lambda: Examples(num_examples))
    for row in sample:
        text = f"{row.question} {row.answer}"[:_CHARACTERS]
        letters = sum(map(str.isalpha, text))
        told = py3langid.classify(text)[0] if letters >= _LEAST_LETTERS or not text.isascii() else UNTOLD
        counts[told] += 1
        examples[told].add(row.where, lambda text=text: shown(text))
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    listed = [
        {
            "language": code,
            "rows": count,
            "share": share(count, len(sample)),
            "examples": examples[code].listed() if place else [],
        }
        for place, (code, count) in enumerate(ordered[:_TOP])
    ]
    return {"sample_rows": len(sample), "num_languages": len(counts.keys() - {UNTOLD}), "languages": listed}
