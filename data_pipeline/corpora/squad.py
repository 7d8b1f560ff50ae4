"""Reads SQuAD's JSON, and data sets in its layout such as COVID-QA: answers as pairs, contexts as passages.

Source: Rajpurkar et al., 2016 and 2018 (SQuAD 1.1 and 2.0); Moeller et al., 2020 (COVID-QA).
"""

import re
from collections.abc import Iterator
from typing import Any

from data_pipeline.corpora.json_scanner import Scanner
from data_pipeline.corpora.opening import open_text
from data_pipeline.corpora.reading import Format, Refusals
from data_pipeline.rows import Pair, Passage

NO_ANSWER = "the question has no answer"
DAMAGED = "an article, paragraph or question lacks its fields"
_IS_SQUAD = re.compile(r'\{.*?"data"\s*:\s*\[.*?"paragraphs"\s*:\s*\[', re.DOTALL)

Paragraph = tuple[str, str, dict[str, Any]]  # place, title of the article, paragraph


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields each question with each different answer; the title is the focus."""
    del columns
    for where, title, paragraph in _paragraphs(path, refusals):
        for number, asked in enumerate(_list(paragraph, "qas", where, refusals), 1):
            question, place = asked.get("question"), f"{where} question {number}"
            answers = [answer.get("text") for answer in _list(asked, "answers", place, refusals)]
            answers = list(dict.fromkeys(text for text in answers if isinstance(text, str) and text.strip()))
            if not isinstance(question, str):
                refusals.add(DAMAGED, place)
            elif not answers or asked.get("is_impossible") is True:
                refusals.add(NO_ANSWER, place)
            else:
                yield from ((place, Pair(question, answer, focus=title)) for answer in answers)


def read_passages(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Passage]]:
    """Yields the contexts."""
    del columns
    for where, title, paragraph in _paragraphs(path, refusals):
        if isinstance(context := paragraph.get("context"), str):
            yield where, Passage(context, title)
        else:
            refusals.add(DAMAGED, where)


def _paragraphs(path: str, refusals: Refusals) -> Iterator[Paragraph]:
    with open_text(path, bounded=False) as file:
        scanner = Scanner(file, path)
        for name in scanner.fields():
            if name != "data" or scanner.peek() != "[":
                scanner.value()
                continue
            for number, article in enumerate(scanner.items(), 1):
                where = f"{path} article {number}"
                title = article.get("title") if isinstance(article, dict) else None
                title = title.replace("_", " ") if isinstance(title, str) else ""
                paragraphs = _list(article, "paragraphs", where, refusals)
                yield from ((f"{where} paragraph {i}", title, each) for i, each in enumerate(paragraphs, 1))
        scanner.end()


def _list(value: Any, name: str, where: str, refusals: Refusals) -> list[dict[str, Any]]:
    """Returns the objects in a field; counts a value without such a field, and entries that are no objects."""
    entries = value.get(name) if isinstance(value, dict) else None
    if not isinstance(entries, list):
        refusals.add(DAMAGED, where)
        return []
    objects = [entry for entry in entries if isinstance(entry, dict)]
    if len(objects) < len(entries):
        refusals.add(DAMAGED, where, rows=len(entries) - len(objects))
    return objects


SQUAD = Format(
    "squad",
    "SQuAD (JSON)",
    '{"data": [{"title": "Cough", "paragraphs": [{"context": "...", "qas": [{"question": "...", "answers": [...]}]}...',
    {"pairs": read_pairs, "passages": read_passages},
    lambda start: _IS_SQUAD.match(start.text) is not None,
)
