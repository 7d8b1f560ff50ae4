"""Turns users' feedback into tables of new pairs, and shows which answers a new model and index change.

    python serve.py --model_dir=MODEL --index_dir=INDEX --port=8080 --feedback_file=feedback.jsonl
    python -m docproduct.feedback --feedback_file=feedback.jsonl --model_dir=MODEL --index_dir=INDEX --output_dir=tables
    python -m docproduct.feedback --feedback_file=feedback.jsonl --model_dir=MODEL --index_dir=INDEX \
        --new_model_dir=NEW_MODEL --new_index_dir=NEW_INDEX --output_dir=changes

Without a new model, it writes three tables:

    helpful.csv      question, answer, source: most ratings say that the answer helped; no questions of the index
    unhelpful.csv    question, stored_question, answer: half of the ratings or more say that the answer did not help; a
                     passage of a document has its heading in place of a stored question
    unanswered.csv   question, times, nearest: questions without an answer, the most frequent first, with the stored
                     question, or heading, of the nearest source; write answers to them

Read helpful.csv, then prepare it beside the corpus (`--input=pairs.csv,tables/helpful.csv`), and train. With a new
model and index, changes.md lists the questions of the file whose first source, or refusal, is another one. Ends with
one line of JSON.
"""

import collections
import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence

from absl import app, flags, logging

from data_pipeline import cleaning
from data_pipeline.folders import files
from docproduct import command
from docproduct.answering import Answer, Answerer, Folders, Query
from docproduct.index.content import heading
from docproduct.index.live import pair_id_of
from docproduct.training import cards

_BATCH = 64  # questions that are encoded together
_LONGEST_SHOWN = 80  # characters of a question in changes.md
_FIELDS = {"rating": {"question": str, "id": str, "helpful": bool}, "refused": {"question": str, "ids": list}}


@dataclasses.dataclass
class Feedback:
    """The content of a feedback file. Questions that differ only in case, blanks and closing marks are one group.

    Attributes:
      ratings: {(group of the question, id of the first source): how often it did not help and how often it did}.
      refused: {group of the question: how often it was refused}.
      nearest: {group of a refused question: ids of the nearest sources}.
      questions: {group: the question as it was asked first}.
    """

    ratings: dict[tuple[int, int], list[int]]
    refused: collections.Counter[int]
    nearest: dict[int, list[int]]
    questions: dict[int, str]


def read(path: str) -> Feedback:
    """Reads the file of a service.

    Raises:
      OSError: it cannot be read.
      ValueError: a line is not what a service writes. A last line that was cut off is left out.
    """
    feedback = Feedback(collections.defaultdict(lambda: [0, 0]), collections.Counter(), {}, {})
    text = files.read_text(path)
    *lines, rest = text.split("\n")  # splitlines would cut questions at U+2028, too
    if rest:
        logging.warning("%s line %d was cut off, and is left out.", path, len(lines) + 1)
    for number, line in enumerate(lines, 1):
        entry = _entry(line, f"{path} line {number}")
        group = cleaning.group(entry["question"])
        feedback.questions.setdefault(group, cleaning.clean(entry["question"]))
        if entry["kind"] == "rating":
            feedback.ratings[group, pair_id_of(entry["id"])][entry["helpful"]] += 1
        else:
            feedback.refused[group] += 1
            feedback.nearest[group] = entry["ids"]
    return feedback


def _entry(line: str, where: str) -> dict:
    try:
        entry = json.loads(line)
        wanted = _FIELDS[entry["kind"]]
        if all(isinstance(entry[name], kind) for name, kind in wanted.items()):
            return entry
    except (ValueError, LookupError, TypeError):
        pass
    raise ValueError(f"{where} is not what a service writes with --feedback_file. Remove the line, or give its file.")


def tables(feedback: Feedback, answerer: Answerer) -> dict[str, list[tuple]]:
    """Returns the rows of helpful.csv, unhelpful.csv and unanswered.csv, with their header first."""
    result: dict[str, list[tuple]] = {
        "helpful": [("question", "answer", "source")],
        "unhelpful": [("question", "stored_question", "answer")],
        "unanswered": [("question", "times", "nearest")],
    }
    left_out = 0
    for (group, pair_id), (num_unhelpful, num_helpful) in feedback.ratings.items():
        if (pair := answerer.index.texts(pair_id)) is None:
            left_out += num_helpful + num_unhelpful
            continue
        if num_helpful > num_unhelpful:
            if not answerer.index.is_stored(feedback.questions[group]):
                result["helpful"].append((feedback.questions[group], pair["answer"], "feedback"))
        else:
            result["unhelpful"].append((feedback.questions[group], _heading(pair), pair["answer"]))
    if left_out:
        logging.warning("Ratings left out, as the index folder does not have their pairs (or not yet): %d.", left_out)
    for group, times in feedback.refused.most_common():
        near = filter(None, map(answerer.index.texts, feedback.nearest[group]))
        result["unanswered"].append((feedback.questions[group], times, next(map(_heading, near), "")))
    return result


def _heading(pair: Mapping[str, str]) -> str:
    return pair["question"] or heading(pair["title"], pair["section"], pair["source"])


def changes(questions: Sequence[str], before: Answerer, after: Answerer) -> list[tuple[str, str, str]]:
    """Returns (question, what was shown first, what is now) of each question whose first source or refusal changes."""
    sources = [[_first_source(answer) for answer in _answers(questions, answerer)] for answerer in (before, after)]
    return [(question, *pair) for question, *pair in zip(questions, *sources, strict=True) if pair[0] != pair[1]]


def _answers(questions: Sequence[str], answerer: Answerer) -> Iterable[Answer]:
    for start in range(0, len(questions), _BATCH):
        yield from answerer.retrieve([Query(question, k=1) for question in questions[start : start + _BATCH]])


def _first_source(answer: Answer) -> str:
    return answer.hits[0].place or answer.hits[0].question if answer.answerable else "no answer"


def main(argv: list[str]) -> None:
    """Writes the tables, or the changes."""
    values = command.begin(argv)
    with command.errors_on_one_line():
        if bool(values.new_model_dir) != bool(values.new_index_dir):
            raise ValueError("Give --new_model_dir and --new_index_dir together, or neither.")
        files.check_free(values.output_dir, overwrite=None)
        feedback = read(values.feedback_file)
        answerer = Answerer.load(Folders(values.model_dir, values.index_dir))
        if values.new_model_dir:
            after = Answerer.load(Folders(values.new_model_dir, values.new_index_dir))
            questions = list(feedback.questions.values())
            rows = changes(questions, answerer, after)
            short = [[text[:_LONGEST_SHOWN].replace("|", " ") for text in row] for row in rows]
            os.makedirs(values.output_dir, exist_ok=True)
            text = (
                f"{len(rows)} of {len(questions)} questions\n\n{cards.table(['question', 'before', 'after'], short)}\n"
            )
            files.write_text(os.path.join(values.output_dir, "changes.md"), text)
            print(json.dumps({"output_dir": values.output_dir, "questions": len(questions), "changed": len(rows)}))
            return
        written = tables(feedback, answerer)
        os.makedirs(values.output_dir, exist_ok=True)
        for name, of_table in written.items():
            text = io.StringIO()
            csv.writer(text).writerows(of_table)
            files.write_text(os.path.join(values.output_dir, f"{name}.csv"), text.getvalue())
        counts = {name: len(of_table) - 1 for name, of_table in written.items()}
        print(json.dumps({"output_dir": values.output_dir, **counts}))


if __name__ == "__main__":
    flags.DEFINE_string("feedback_file", None, "File that serve.py --feedback_file wrote.", required=True)
    flags.DEFINE_string("model_dir", None, "The retriever of the service.", required=True)
    flags.DEFINE_string("index_dir", None, "Its index.", required=True)
    flags.DEFINE_string("new_model_dir", None, "A new retriever, to compare with.")
    flags.DEFINE_string("new_index_dir", None, "Its index.")
    flags.DEFINE_string("output_dir", None, "Folder for the tables, or for changes.md.", required=True)
    app.run(main)
