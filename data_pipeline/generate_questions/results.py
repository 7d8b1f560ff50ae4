"""The files that a run leaves beside its journal. Each is written whole at the end of every run.

questions.jsonl   the questions: --rows=choices of data_pipeline.prepare reads them, --rows=pairs the open ones
texts.txt         the same as documents, for train_gpt2.py --task=language_model
faulty.jsonl      answers, or parts of them, that cannot be read, with the reason
dropped.jsonl     questions that a filter dropped, with the reason
report.json report.md
"""

import collections
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from data_pipeline.folders import files
from data_pipeline.generate_questions.answers import Fault, Step, parse, shuffled, texts_of
from data_pipeline.generate_questions.filters import Candidate, Filter, select
from data_pipeline.generate_questions.journal import Answer
from data_pipeline.prompts.question_prompts import OPEN, SERIES, SEVERAL
from data_pipeline.rows import Passage
from data_pipeline.tokenizers.byte_pairs import END as END_OF_TEXT

QUESTIONS_FILE, TEXTS_FILE, FAULTY_FILE, DROPPED_FILE = "questions.jsonl", "texts.txt", "faulty.jsonl", "dropped.jsonl"
REFUSED = "the call was refused"


def read_answers(
    passages: Mapping[str, Passage], answers: Mapping[str, Answer], kind: str
) -> tuple[list[Candidate], list[tuple[str, Fault]]]:
    """Returns the questions of all answers to these passages, and the faults with their passage's id."""
    candidates, faults = [], []
    for passage_id, passage in passages.items():
        if (answer := answers.get(passage_id)) is None:
            continue
        if answer.refused:
            faults.append((passage_id, Fault(REFUSED)))
            continue
        items, found = parse(answer.text, kind, answer.finished)
        candidates += [Candidate(passage_id, passage, item) for item in items]
        faults += [(passage_id, fault) for fault in found]
    return candidates, faults


def write(
    folder: str,
    kind: str,
    passages: Mapping[str, Passage],
    answers: Mapping[str, Answer],
    filters: Sequence[Filter],
) -> dict[str, dict[str, int]]:
    """Writes all files but the report.

    Args:
      folder: where to write.
      kind: the kind of the questions.
      passages: the passages by their ids; answers to others are left out.
      answers: the answers by the ids of their passages.
      filters: drop questions, one after the other.

    Returns:
      {"answers": ..., "questions": ..., "faulty": {reason: times}, "dropped": {reason: times}}.
    """
    candidates, faults = read_answers(passages, answers, kind)
    kept, dropped = select(candidates, filters)
    _write_lines(folder, QUESTIONS_FILE, (row(candidate, kind) for candidate in kept))
    texts = ("\n\n".join(texts_of(candidate.item)).replace(END_OF_TEXT, " ") for candidate in kept)
    files.write_text(os.path.join(folder, TEXTS_FILE), "".join(f"{text}\n{END_OF_TEXT}\n" for text in texts))
    _write_lines(
        folder,
        FAULTY_FILE,
        (
            {
                "reason": fault.reason,
                "passage_id": passage_id,
                "source": passages[passage_id].source,
                "part": fault.part,
                "answer": answers[passage_id].text,
            }
            for passage_id, fault in faults
        ),
    )
    _write_lines(folder, DROPPED_FILE, ({"reason": reason} | row(candidate, kind) for candidate, reason in dropped))
    answered = [passage_id for passage_id in passages if passage_id in answers]
    refused = sum(answers[passage_id].refused for passage_id in answered)
    useful = {candidate.passage_id for candidate in candidates}
    return {
        "answers": {
            "passages": len(passages),
            "not_asked": len(passages) - len(answered),
            "refused": refused,
            "read": len(useful),
            "faulty": len(answered) - refused - len(useful),
        },
        "questions": {"read": len(candidates), "dropped": len(dropped), "kept": len(kept)},
        "faulty": _counted(fault.reason for _, fault in faults),
        "dropped": _counted(reason for _, reason in dropped),
    }


def row(candidate: Candidate, kind: str) -> dict[str, Any]:
    """Returns a line of the questions, as the readers of pairs and of choices take it."""
    passage, item = candidate.passage, candidate.item
    origin = {"source": passage.source, "focus": passage.focus or passage.title, "passage_id": candidate.passage_id}
    if kind == SERIES:
        return {"context": item.case, "questions": [_choices(step) for step in item.steps], **origin}
    (step,) = item.steps
    if kind == OPEN:
        return {"question": step.question, "answer": step.right[0], **origin}
    return {**_choices(step), "several": kind == SEVERAL, **origin}


def _choices(step: Step) -> dict[str, Any]:
    choices, correct = shuffled(step)
    return {"question": step.question, "options": choices, "correct": correct}


def _write_lines(folder: str, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    # A model may write half a character, which UTF-8 cannot hold.
    files.write_text(os.path.join(folder, name), lines.encode("utf-8", "replace").decode())


def _counted(reasons: Iterable[str]) -> dict[str, int]:
    """Returns how often each reason comes, the most frequent first."""
    return dict(sorted(collections.Counter(reasons).items(), key=lambda entry: (-entry[1], entry[0])))
