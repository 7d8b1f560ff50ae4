"""Reports what a corpus holds: numbers as JSON, and a page that shows them.

    python -m data_pipeline.report --input=pairs.csv --output=report.html

corpus.py      the rows: files as `prepare` reads them, or a prepared folder
measure.py     one pass over them; each topic has a module: lengths, duplicates, agreement, languages, mojibake, ...
sample.py      what costs too much for all rows looks at some questions with all their answers
overlaps.py    leaks between splits, and from a test file
findings.py    what to look at first
page/          the page: HTML and SVG from the numbers, without scripts

All topics count in bounded memory; hashes take 17 bytes a row. Every text that is shown is masked in `personal_data`.
"""

from typing import Any

import numpy as np

from data_pipeline.report.corpus import Corpus
from data_pipeline.report.findings import findings
from data_pipeline.report.hashes import Hashes
from data_pipeline.report.measure import ReportSettings, held_out, measure
from data_pipeline.settings import decisive
from data_pipeline.tokenizers import Tokenizer

DISCLAIMER = (
    "Research software: this report counts what can be counted. It does not know whether a text is medically right. "
    "Nothing in it is medical advice."
)

__all__ = ["DISCLAIMER", "ReportSettings", "report"]


def report(
    corpus: Corpus,
    settings: ReportSettings,
    tokenizer: Tokenizer | None = None,
    test: Corpus | None = None,
    other: Corpus | None = None,
    progress: bool = False,
) -> dict[str, Any]:
    """Returns a report as plain JSON; equal inputs and settings give equal reports.

    Args:
      corpus: what the report is about.
      settings: how to look at it.
      tokenizer: of the model that the corpus is meant for; None: lengths are in words.
      test: rows that should not be in the corpus.
      other: a corpus to compare with.
      progress: show progress bars.

    Raises:
      ValueError: a file is damaged or holds no rows of this type.
    """
    corpora, hashes = [], []
    for one in filter(None, (corpus, other)):
        numbers, its_hashes = measure(one, held_out(one, test, settings), tokenizer, settings, progress)
        corpora.append(numbers | {"findings": [finding._asdict() for finding in findings(numbers)]})
        hashes.append(its_hashes)
    return {
        "kind": "docproduct corpus report",
        "disclaimer": DISCLAIMER,
        "settings": decisive(settings),
        "corpora": corpora,
        "shared": _shared(*hashes) if other else None,
    }


def _shared(first: Hashes, second: Hashes) -> dict[str, int]:
    """Returns how many different questions and answers two corpora share."""
    answers = (hashes.answers[hashes.has_answer] for hashes in (first, second))
    return {
        "questions": len(np.intersect1d(first.questions, second.questions)),
        "answers": len(np.intersect1d(*answers)),
    }
