"""python -m docproduct.evaluate chat: its flags, and what it writes."""

import json
import os
from typing import Any

from absl import flags, logging

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.settings import define_flags, flag_values
from docproduct.answering import Answerer, Folders
from docproduct.evaluate import chat, chat_report
from docproduct.evaluate.bootstrap import BootstrapSettings
from docproduct.evaluate.chat import Asked, ChatEvaluation, Scoring, Values
from docproduct.evaluate.chat_report import System
from docproduct.evaluate.topics import Topics
from docproduct.systems.generator import open_session
from docproduct.systems.generator.open import is_adapter

UNTUNED, TUNED = "untuned", "tuned"
REPORT_FILE, _TABLE_FILE, _REPLIES_FILE = "report.json", "report.md", "replies.jsonl"
_FOLDERS = ("index_dir", "generator_dir", "base_dir", "threshold")  # of Folders; retrieval has --model_dir


def define() -> None:
    """Defines the flags that no other evaluation has."""
    flags.DEFINE_string("prepared_dir", None, "chat: prepared dialogues; those of dev, or of --split, are evaluated.")
    define_flags(ChatEvaluation, ("prepared_dir",))
    define_flags(Folders, [field for field in Folders.__dataclass_fields__ if field not in _FOLDERS])
    flags.DEFINE_bool("from_memory", False, "chat: where nothing is near, a grounded model goes on from memory.")


def run(values: flags.FlagValues) -> dict[str, Any]:
    """Evaluates replies, and writes the report.

    Raises:
      ValueError: a folder is missing or does not fit the others.
    """
    if missing := [name for name in ("prepared_dir", "model_dir", "index_dir", "base_dir") if not values[name].value]:
        raise ValueError(
            f"Missing: {', '.join(f'--{name}' for name in missing)}. Replies are evaluated with prepared dialogues, an "
            "encoder, the index of a database that was built with it, and a language model."
        )
    if values.output_dir:  # an error before the work
        files.check_free(values.output_dir, values.overwrite, mark=REPORT_FILE)
    settings = ChatEvaluation(**flag_values(ChatEvaluation))
    answerer = Answerer.load(Folders(values.model_dir, values.index_dir, values.base_dir, threshold=values.threshold))
    topics = Topics(answerer.index.topics())
    asked = chat.read(settings, topics, values.split or splits.DEV)
    scoring, scored = Scoring(answerer, asked, topics, settings), {}
    for name, generator in _models(answerer, values.generator_dir, values.base_dir).items():
        for grounded in (False, True):
            system = System(name, grounded)
            scored[system] = scoring.score(generator, grounded, values.from_memory)
            logging.info("%s: %d replies.", system, len(asked))
    report = chat_report.compare(scored, scoring.counts(), BootstrapSettings(**flag_values(BootstrapSettings)))
    report = {name: values[name].value for name in ("prepared_dir", *_FOLDERS, "from_memory")} | report
    table = chat_report.markdown(report)
    if values.output_dir:
        with files.whole_folder(values.output_dir, values.overwrite, mark=REPORT_FILE) as folder:
            files.write_text(os.path.join(folder, _TABLE_FILE), table)
            files.write_text(os.path.join(folder, _REPLIES_FILE), _replies(asked, scored))
            files.write_json(os.path.join(folder, REPORT_FILE), report)
    print(table)
    return report


def _models(answerer: Answerer, generator_dir: str | None, base_dir: str) -> dict[str, Any]:
    models = {UNTUNED: answerer.generator}
    if generator_dir:
        models[TUNED] = open_session(generator_dir, base_dir if is_adapter(generator_dir) else None)
    return models


def _replies(asked: list[Asked], scored: dict[System, Values]) -> str:
    """Returns a line of JSON for each dialogue, with the replies of all systems."""
    lines = []
    for i, one in enumerate(asked):
        replies = {str(system): values.replies[i].content for system, values in scored.items()}
        row = {"question": one.conversation.question, "disease": one.disease, "reference": one.reference}
        lines.append(json.dumps(row | {"dialogue_id": one.where, "replies": replies}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)
