"""The page of a report: one file without scripts, from the numbers alone.

elements.py    HTML from texts and numbers
charts.py      SVG
sections.py    what sections share; what_is_in.py and what_is_wrong.py have the sections
page.css       light and dark
"""

import os
from collections.abc import Callable, Sequence
from typing import Any

from data_pipeline.folders import files
from data_pipeline.report.findings import GOOD, NOTE, PROBLEM
from data_pipeline.report.page import what_is_in, what_is_wrong
from data_pipeline.report.page.elements import escaped, number, paragraph, tiles
from data_pipeline.report.page.sections import Corpora, legend
from data_pipeline.report.tally import percent

_CSS = os.path.join(os.path.dirname(__file__), "page.css")
_SECTIONS: tuple[tuple[str, str, Callable[[Corpora], str]], ...] = (
    ("sources", "Sources", what_is_in.sources),
    ("topics", "Topics", what_is_in.topics),
    ("types", "Types of questions", what_is_in.question_types),
    ("lengths", "Lengths", what_is_in.lengths),
    ("languages", "Languages", what_is_in.languages),
    ("vocabulary", "Vocabulary", what_is_in.vocabulary),
    ("refusals", "Refused rows", what_is_wrong.refusals),
    ("leaks", "Leaks and contamination", what_is_wrong.leaks),
    ("duplicates", "Duplicates", what_is_wrong.duplicates),
    ("agreement", "Several answers to a question", what_is_in.agreement),
    ("mojibake", "Damaged characters", what_is_wrong.mojibake),
    ("personal", "Personal data", what_is_wrong.personal_data),
    ("templates", "Templates", what_is_wrong.templates),
    ("boilerplate", "Set phrases", what_is_wrong.boilerplate),
    ("examples", "Random rows", what_is_in.examples),
)
_LEVELS = {PROBLEM: "Look at this", NOTE: "Note", GOOD: "Good"}


def page(report: dict[str, Any]) -> str:
    """Returns the page of a report.

    Args:
      report: what `data_pipeline.report.report` returns.
    """
    corpora = report["corpora"]
    sections = [(name, title, make(corpora)) for name, title, make in _SECTIONS]
    sections = [(name, title, content) for name, title, content in sections if content]
    links = "".join(f'<li><a href="#{name}">{escaped(title)}</a></li>' for name, title, _ in sections)
    body = "".join(
        f'<section id="{name}"><h2>{escaped(title)}</h2>{content}</section>' for name, title, content in sections
    )
    title = " and ".join(corpus["name"] for corpus in corpora)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escaped(title)} – corpus report</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<style>{files.read_text(_CSS)}</style></head><body><header><p>Corpus report</p>"
        f"<h1>{escaped(title)}</h1>{_sizes(corpora)}</header><main>{_overview(report)}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav>{body}</main>'
        f"<footer>{paragraph(report['disclaimer'])}</footer></body></html>\n"
    )


def _sizes(corpora: Corpora) -> str:
    lines = [
        f"{number(corpus['counts']['rows'])} rows from {', '.join(map(_file, corpus['files']))}" for corpus in corpora
    ]
    return "".join(map(paragraph, lines))


def _file(file: dict[str, Any]) -> str:
    return f"{file['name']} ({max(1, round(file['bytes'] / 1024)):,} KiB)"


def _overview(report: dict[str, Any]) -> str:
    corpora, shared = report["corpora"], report["shared"]
    parts = [_of_corpus(corpus, len(corpora) > 1) for corpus in corpora]
    if shared:
        questions, answers = number(shared["questions"]), number(shared["answers"])
        text = f"In both corpora: {questions} of the questions, {answers} of the answers."
        parts.append(paragraph(text, "shared") + legend(corpora))
    return f'<section id="overview"><h2>At a glance</h2>{"".join(parts)}</section>'


def _of_corpus(corpus: dict[str, Any], named: bool) -> str:
    exact, lengths = corpus["exact_duplicates"], corpus["lengths"]
    total = sum(lengths[side]["total"] for side in ("question", "answer"))
    values = [
        ("rows", number(corpus["counts"]["rows"])),
        ("different questions", number(exact["distinct_questions"])),
        ("different answers", number(exact["distinct_answers"])),
        (lengths["unit"], _short(total)),
        ("refused rows", number(corpus["refusals"]["rows"])),
        ("near duplicates", percent(corpus["near_duplicates"]["share"])),
    ]
    name = f"<h3>{escaped(corpus['name'])}</h3>" if named else ""
    return name + tiles(values) + _findings(corpus["findings"])


def _findings(found: Sequence[dict[str, str]]) -> str:
    items = "".join(
        f'<li class="{finding["level"]}"><strong>{_LEVELS[finding["level"]]}</strong> '
        f'<a href="#{finding["section"]}">{escaped(finding["text"])}</a></li>'
        for finding in found
    )
    return f'<ul class="findings">{items}</ul>'


def _short(count: int) -> str:
    """Returns a large number in thousands or millions."""
    for size, unit in ((1e6, "M"), (1e4, "k")):
        if count >= size:
            return f"{count / (1e6 if unit == 'M' else 1e3):,.3g} {unit}"
    return number(count)
