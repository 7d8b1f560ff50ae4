"""Exact duplicates among all rows, and near duplicates among the sample."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data_pipeline.prepare import duplicates
from data_pipeline.report.corpus import Row
from data_pipeline.report.hashes import Hashes, distinct_pairs
from data_pipeline.report.personal_data import shown
from data_pipeline.report.tally import share
from data_pipeline.tokenizers.wordpiece import CHINESE

_PART = 512  # texts whose signatures are computed together


def exact(hashes: Hashes, sample: Sequence[Row], num_examples: int) -> dict[str, Any]:
    """Returns how many pairs, questions and answers are repeated; case, spaces and closing marks do not matter.

    Args:
      hashes: of all rows.
      sample: rows among which examples are looked for.
      num_examples: number of examples.
    """
    rows, pairs = len(hashes.questions), len(distinct_pairs(hashes))
    questions, question_counts = np.unique(hashes.questions, return_counts=True)
    answers, answer_counts = np.unique(hashes.answers[hashes.has_answer], return_counts=True)
    return {
        "rows": rows,
        "repeated_rows": rows - pairs,
        "repeated_share": share(rows - pairs, rows),
        "distinct_questions": len(questions),
        "rows_of_repeated_questions": int(question_counts[question_counts > 1].sum()),
        "distinct_answers": len(answers),
        "rows_of_repeated_answers": int(answer_counts[answer_counts > 1].sum()),
        "questions": _most_repeated(
            questions, question_counts, {row.question_group: row.question for row in sample}, num_examples
        ),
        "answers": _most_repeated(
            answers, answer_counts, {row.answer_group: row.answer for row in sample if row.answer}, num_examples
        ),
    }


def _most_repeated(groups: np.ndarray, counts: np.ndarray, texts: dict[int, str], number: int) -> list[dict[str, Any]]:
    """Returns the texts of the sample that all rows hold most often."""
    repeated = np.flatnonzero(counts > 1)
    ordered = sorted(repeated.tolist(), key=lambda place: (-counts[place], groups[place]))
    found = ((texts[groups[place]], int(counts[place])) for place in ordered if groups[place] in texts)
    return [{"rows": rows, "text": shown(text)} for (text, rows), _ in zip(found, range(number), strict=False)]


def near(sample: Sequence[Row], threshold: float, num_examples: int) -> dict[str, Any]:
    """Returns how many rows are near duplicates of an earlier row of the sample.

    They are found as `prepare` does it, but in texts whose personal data is masked.
    """
    index = duplicates.NearDuplicates(threshold)
    seen: set[tuple[int, int]] = set()
    near_rows, examples = 0, dict[int, tuple[float, Row]]()  # by the earlier row: one much repeated fills no list
    for place, (row, signature) in enumerate(signed(sample, lambda row: f"{row.question} {row.answer}")):
        pair = (row.question_group, row.answer_group)
        if pair in seen:
            continue
        seen.add(pair)
        if hit := index.nearest(signature):
            near_rows += 1
            examples.setdefault(hit[1], (hit[0], row))
        else:
            index.insert(place, signature)
    listed = [
        {
            "similarity": round(similarity, 3),
            "text": _pair(row),
            "where": row.where,
            "other": _pair(sample[place]),
            "other_where": sample[place].where,
        }
        for place, (similarity, row) in itertools.islice(examples.items(), num_examples)
    ]
    return {"sample_rows": len(seen), "rows": near_rows, "share": share(near_rows, len(seen)), "examples": listed}


def _pair(row: Row) -> str:
    return shown(f"{row.question} — {row.answer}")


def signed(rows: Sequence[Row], text_of: Callable[[Row], str]) -> Iterator[tuple[Row, bytes]]:
    """Yields each row with the signature of its text; a Chinese character counts as a word."""
    for start in range(0, len(rows), _PART):
        part = rows[start : start + _PART]
        yield from zip(part, duplicates.signatures([_spaced(text_of(row)) for row in part]), strict=True)


def _spaced(text: str) -> str:
    return text if text.isascii() else CHINESE.sub(r" \g<0> ", text)
