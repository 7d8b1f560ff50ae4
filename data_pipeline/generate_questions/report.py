"""The report of a run, as JSON and as Markdown."""

import os
from collections.abc import Mapping
from typing import Any

from data_pipeline.folders import files
from data_pipeline.generate_questions.journal import Journal

REPORT_FILE, MARKDOWN_FILE = "report.json", "report.md"
NOTE = "Research software: a model wrote these questions, and some are wrong. They are not medical advice."


def report(log: Journal, results: Mapping[str, Any], stopped: str | None) -> dict[str, Any]:
    """Returns what happened in all runs so far.

    Args:
      log: the journal.
      results: what `results.write` returned.
      stopped: why the run ended before all passages were answered; None if they are.
    """
    return {
        **results,
        "calls": {"all": log.num_calls, "without_answer": dict(log.errors.most_common())},
        "input_tokens": log.spent.input_tokens,
        "output_tokens": log.spent.output_tokens,
        "assumed_tokens": log.assumed.tokens,
        "cost": round(log.spent.cost, 6),
        "stopped": stopped,
        "note": NOTE,
    }


def write(folder: str, content: Mapping[str, Any]) -> None:
    """Writes both files."""
    files.write_json(os.path.join(folder, REPORT_FILE), content)
    files.write_text(os.path.join(folder, MARKDOWN_FILE), markdown(content))


def markdown(content: Mapping[str, Any]) -> str:
    """Returns the report as a page of Markdown."""
    answers, questions, calls = (content[name] for name in ("answers", "questions", "calls"))
    tokens = f"{content['input_tokens']} + {content['output_tokens']}, {content['assumed_tokens']} of them assumed"
    rows = {
        "passages": answers["passages"],
        "answers that can be read, in part at least": answers["read"],
        "answers that cannot": answers["faulty"],
        "refused calls": answers["refused"],
        "passages without an answer yet": answers["not_asked"],
        "questions in the answers": questions["read"],
        "questions kept": questions["kept"],
        "calls": calls["all"],
        "tokens of prompts + answers": tokens,
        "cost": content["cost"],
    }
    parts = ["# Generated questions", NOTE, _table("", "", rows)]
    parts += [content["stopped"]] if content["stopped"] else []
    for title, counts in (
        ("Faulty answers or parts of them", content["faulty"]),
        ("Questions dropped", content["dropped"]),
        ("Calls without an answer", calls["without_answer"]),
    ):
        if counts:
            parts += [f"## {title}", _table("reason", "times", counts)]
    return "\n\n".join(parts) + "\n"


def _table(left: str, right: str, rows: Mapping[str, Any]) -> str:
    lines = [f"| {name.replace('|', '/')} | {value} |" for name, value in rows.items()]
    return "\n".join([f"| {left} | {right} |", "|---|---|", *lines])
