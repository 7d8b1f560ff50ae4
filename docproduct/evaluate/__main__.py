"""Evaluates one system, or compares several, or replies to dialogues; see docproduct/evaluate/__init__.py.

All commands end with one line of JSON. The retriever's page in docs/ describes them.
"""

import json
import os
import sys
from typing import Any

from absl import app, flags

from data_pipeline import beir
from data_pipeline.folders import files
from data_pipeline.settings import define_flags, flag_values
from docproduct import command
from docproduct.evaluate import chat_command, ranking, report
from docproduct.evaluate.bootstrap import BootstrapSettings
from docproduct.evaluate.ranking import BM25, TUNE, EvaluationSettings
from docproduct.evaluate.report import ReportSettings
from docproduct.evaluate.systems import systems_of
from docproduct.evaluate.table import markdown
from docproduct.layers.precision import dtype_policy
from docproduct.training.devices import set_up

_REPORT_FILE, _TABLE_FILE = "report.json", "report.md"


def _define_flags() -> None:
    flags.DEFINE_string("beir_dir", None, "retrieval, report: folder with corpus.jsonl, queries.jsonl and qrels/.")
    flags.DEFINE_string(
        "split", None, "File of qrels/ to use; default: test, or the only one. chat: of the dialogues; default: dev."
    )
    define_flags(EvaluationSettings, precision="auto")
    flags.DEFINE_string(
        "model_dir", None, "retrieval, chat: trained retriever, or bare encoder folder; retrieval: or bm25."
    )
    flags.DEFINE_string("run_file", None, "retrieval: where to write the rankings, in TREC format.")
    flags.DEFINE_list(
        "systems",
        [],
        "report: NAME=SYSTEM,...; bm25, a folder, RETRIEVER+RERANKER, or st:FOLDER for sentence-transformers itself.",
    )
    define_flags(ReportSettings)
    define_flags(BootstrapSettings)
    flags.DEFINE_string(
        "output_dir", None, f"report, chat: folder for {_TABLE_FILE} and {_REPORT_FILE}; default: none."
    )
    flags.DEFINE_bool("overwrite", False, "report, chat: replace output_dir.")
    flags.DEFINE_string("peer_python", None, "report: interpreter that has sentence-transformers, for st:FOLDER.")
    chat_command.define()


def _split(values: flags.FlagValues) -> str:
    if not values.beir_dir:
        raise ValueError("--beir_dir is missing: a folder with corpus.jsonl, queries.jsonl and qrels/.")
    return values.split or beir.default_split(values.beir_dir)


def _retrieval(values: flags.FlagValues) -> dict[str, Any]:
    split = _split(values)
    if not values.model_dir:
        raise ValueError("--model_dir is missing: a trained retriever, a bare encoder folder, or bm25.")
    data = beir.read(values.beir_dir, split)
    if data.missing:
        print(f"{data.missing} judged documents are not in the corpus and do not count.", file=sys.stderr)
    settings = EvaluationSettings(**flag_values(EvaluationSettings))
    results = ranking.retrieval(values.model_dir, data, settings, values.run_file)
    policy = None if values.model_dir.lower() == BM25 else dtype_policy(values.precision)
    described = {"model_dir": values.model_dir, "beir_dir": values.beir_dir, "split": split, "dtype_policy": policy}
    described |= {name: getattr(settings, name) for name in ranking.DECISIVE}
    if settings.hybrid == TUNE:
        described["tuned_on"] = "these queries: score others with the way that was chosen"
    return described | results


def _report(values: flags.FlagValues) -> dict[str, Any]:
    split = _split(values)
    systems = systems_of(values.systems)
    if values.output_dir:  # an error before the work
        files.check_free(values.output_dir, values.overwrite, mark=_REPORT_FILE)
    kinds = (EvaluationSettings, ReportSettings, BootstrapSettings)
    settings = [kind(**flag_values(kind)) for kind in kinds]
    result = report.compare(systems, values.beir_dir, split, *settings, values.peer_python)
    tables = markdown(result)
    if values.output_dir:
        with files.whole_folder(values.output_dir, values.overwrite, mark=_REPORT_FILE) as folder:
            files.write_text(os.path.join(folder, _TABLE_FILE), tables)
            files.write_json(os.path.join(folder, _REPORT_FILE), result)
    print(tables)
    return result


_COMMANDS = {"retrieval": _retrieval, "report": _report, "chat": chat_command.run}


def main(argv: list[str]) -> None:
    """Evaluates what the flags describe."""
    if len(argv) != 2 or argv[1] not in _COMMANDS:
        given = " ".join(argv[1:]) or "nothing"
        raise app.UsageError(f"Expected what to do: {' or '.join(_COMMANDS)}. Received: {given}.")
    values = flags.FLAGS
    set_up()
    with command.errors_on_one_line("nothing was measured."):
        results = _COMMANDS[argv[1]](values)
    print(json.dumps(results))


if __name__ == "__main__":
    _define_flags()
    app.run(main)
