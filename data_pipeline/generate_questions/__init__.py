"""Generates questions from passages with a language model, as in arXiv 2405.14654: exam questions from textbooks.

    python -m data_pipeline.generate_questions --input=book.md --kind=single --model=NAME --base_url=http://HOST/v1 \
        --output_dir=questions
    python -m data_pipeline.prepare --rows=choices --input=questions/questions.jsonl --output_dir=exam

    passages.py    documents -> passages, each with a hash as its id
    asking.py      passages -> calls, several at once, within the budget (budget.py) -> journal.py
    writers.py     who is asked: endpoint.py, or a model of this machine (docproduct)
    answers.py     JSON -> questions, checked against a schema; the rest is faulty
    filters.py     questions -> those that are kept
    results.py report.py flags.py

The journal alone is kept between runs: all other files are made of it at the end of each. A run that was killed, or
stopped at its budget, goes on with the passages that have no answer in it. `python -m docproduct.generate_questions`
does the same with models of this machine: they write, or tell which questions a passage does not answer.
"""

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from data_pipeline.folders import files
from data_pipeline.generate_questions import journal, report, results
from data_pipeline.generate_questions.answers import parse
from data_pipeline.generate_questions.asking import Asker, AskingSettings, Stop
from data_pipeline.generate_questions.budget import BudgetSettings
from data_pipeline.generate_questions.filters import Filter
from data_pipeline.generate_questions.journal import Journal
from data_pipeline.generate_questions.writers import Writer
from data_pipeline.prompts.question_prompts import QuestionSettings, question_messages
from data_pipeline.rows import Passage

SETTINGS_FILE = "settings.json"
KIND = "docproduct generated questions"


class Model(NamedTuple):
    """A model that writes.

    Attributes:
      described: what decides its answers, such as its name; runs into one folder have the same.
      make: makes the writer; not called if there is nothing to ask.
    """

    described: Mapping[str, Any]
    make: Callable[[], Writer]


def generate(
    passages: Mapping[str, Passage],
    output_dir: str,
    model: Model,
    questions: QuestionSettings,
    filters: Sequence[Filter] = (),
    budget: BudgetSettings = BudgetSettings(),
    asking: AskingSettings = AskingSettings(),
    ask_faulty_again: bool = False,
    progress: bool = False,
) -> tuple[dict[str, Any], Stop | None]:
    """Asks about the passages that have no answer yet, and writes the questions of all answers.

    Args:
      passages: the passages by their ids; see `passages.cut`.
      output_dir: the folder to write; that of an earlier run with the same model and questions is gone on with.
      model: the model that writes.
      questions: what is asked for.
      filters: drop questions, one after the other.
      budget: what this and earlier runs into the folder may take together.
      asking: how calls are made.
      ask_faulty_again: whether to ask again about passages whose answer holds no question that can be read.
      progress: show a progress bar.

    Returns:
      The report, and why the run ended early; None if all passages are answered, or no retry helped for some.

    Raises:
      ValueError: the folder holds something else, or is of other settings.
      BlockingIOError: another process is writing it.
      Exception: what ended the run unexpectedly, such as a fault of the writer; the answers until then are written.
    """
    _claim(output_dir, model, questions)
    with journal.opened(output_dir) as log:

        def write(stopped: str | None) -> dict[str, Any]:
            written = results.write(output_dir, questions.kind, passages, log.answers, filters)
            content = report.report(log, written, stopped)
            report.write(output_dir, content)
            return content

        stop = None
        if waiting := _waiting(passages, log, questions.kind, ask_faulty_again):
            asker = Asker(model.make(), log, budget, asking, questions, progress)
            try:
                asker.ask(waiting)
            except Exception as error:
                write(f"An error ended the run: {error!r}. Run the same command to go on.")
                raise
            stop = asker.stop
        return write(stop and stop.message), stop


def _waiting(passages: Mapping[str, Passage], log: Journal, kind: str, ask_faulty_again: bool) -> dict[str, Passage]:
    """Returns the passages to ask about."""

    def is_done(passage_id: str) -> bool:
        if (answer := log.answers.get(passage_id)) is None:
            return False
        return not ask_faulty_again or (not answer.refused and bool(parse(answer.text, kind, answer.finished)[0]))

    return {passage_id: passage for passage_id, passage in passages.items() if not is_done(passage_id)}


def _claim(folder: str, model: Model, questions: QuestionSettings) -> None:
    """Writes the settings into a new folder; compares those in the folder of an earlier run.

    Raises:
      ValueError: they differ.
      FileExistsError: the folder holds something else.
    """
    path = os.path.join(folder, SETTINGS_FILE)
    prompt = files.fingerprint(question_messages(Passage(""), questions))
    settings = {"kind": KIND, "prompt": prompt, "questions": dataclasses.asdict(questions), "model": model.described}
    if os.path.isdir(folder) and os.listdir(folder):
        files.check_free(folder, overwrite=True, kind=KIND, mark=SETTINGS_FILE)
        if differing := _differing(files.read_json(path), settings):
            raise ValueError(
                f"{folder} was written with other settings: {differing}. Give those, or another --output_dir."
            )
        return
    os.makedirs(folder, exist_ok=True)
    files.write_json(path, settings)


def _differing(stored: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Returns the names of the settings that differ, with both values."""
    parts = []
    for group in ("questions", "model"):
        names = sorted({*stored[group], *settings[group]})
        before, now = ({name: values[group].get(name) for name in names} for values in (stored, settings))
        parts += [f"{name} was {before[name]!r}, now {now[name]!r}" for name in names if before[name] != now[name]]
    if not parts and stored["prompt"] != settings["prompt"]:
        parts.append("the prompt is that of another version of docproduct")
    return "; ".join(parts)
