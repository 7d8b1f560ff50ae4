"""Evaluation data in BEIR layout: corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv.

    python -m data_pipeline.beir --prepared_dir=/tmp/prepared --split=dev --output_dir=/tmp/beir

Writes the questions of one split as queries, and the answers of all splits as the corpus. Equal questions are one
query, equal answers one document, and a query's relevant documents are all answers to it. --queries and --documents
draw some of them, by the hash of the text, so that equal tables give equal draws; --reworded asks in other words
(other_words.py) and leaves out questions that its rules do not know. Ends with one line of JSON.
"""

import dataclasses
import json
import os
import random
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from absl import app, flags

from data_pipeline import splits
from data_pipeline.corpora import open_text
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.other_words import reworded
from data_pipeline.settings import Settings, define_flags, flag_values, setting

_CORPUS, _QUERIES = "corpus.jsonl", "queries.jsonl"
_GRADE = re.compile(r"-?[0-9]{1,9}")
_QRELS_HEADER = ["query-id", "corpus-id", "score"]


@dataclasses.dataclass(frozen=True)
class BeirData:
    """Documents, queries and relevance judgments.

    Attributes:
      corpus: {document id: text}; a title precedes the text.
      queries: {query id: text} of the judged queries of the split.
      qrels: {query id: {document id: grade}}; every document is in the corpus.
      missing: number of judgments of documents that are not in the corpus, which are left out.
    """

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    missing: int


def read(folder: str, split: str) -> BeirData:
    """Reads a BEIR folder.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged or empty, or a judged query has no text; the message names file and line.
    """
    corpus, queries = _texts(folder, _CORPUS), _texts(folder, _QUERIES)
    path = os.path.join(folder, "qrels", f"{split}.tsv")
    if not os.path.isfile(path):
        judged = sorted(name.removesuffix(".tsv") for name in os.listdir(os.path.dirname(path)))
        raise FileNotFoundError(f"No file at {path}. There are judgments of: {', '.join(judged)}.")
    qrels: dict[str, dict[str, int]] = {}
    missing = 0
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            row = line.rstrip("\r\n").split("\t")  # no quoting: a quote in an id is part of it
            if row in (_QRELS_HEADER, [""]):
                continue
            if len(row) != 3 or not _GRADE.fullmatch(row[2].strip()) or row[0] not in queries:
                raise ValueError(
                    f"{path} line {number} is {row}; expected query-id, corpus-id and a whole number, with a query of "
                    f"{_QUERIES}."
                )
            if row[1] in corpus:
                qrels.setdefault(row[0], {})[row[1]] = int(row[2])
            else:
                missing += 1
    if not qrels:
        raise ValueError(f"{path} judges no document of {_CORPUS}. Expected lines of query-id, corpus-id and score.")
    return BeirData(corpus, {query: queries[query] for query in qrels}, qrels, missing)


def default_split(folder: str) -> str:
    """Returns the split whose judgments a BEIR folder holds: the only one, or test.

    Raises:
      ValueError: the folder has judgments of no split, or of several without test.
    """
    qrels = os.path.join(folder, "qrels")
    names = sorted(os.listdir(qrels)) if os.path.isdir(qrels) else []
    judged = [name.removesuffix(".tsv") for name in names if name.endswith(".tsv")]
    if len(judged) == 1 or splits.TEST in judged:
        return splits.TEST if splits.TEST in judged else judged[0]
    raise ValueError(
        f"{qrels} holds judgments of: {', '.join(judged) or 'nothing'}. Expected test.tsv, or give --split."
    )


@dataclasses.dataclass(frozen=True)
class Drawn(Settings):
    """Which questions and answers a BEIR folder holds."""

    queries: int = setting(0, "Number of questions, drawn by their hash; 0: all.", least=0)
    documents: int = setting(
        0, "Number of answers: those to the questions, and others drawn by their hash; 0: all.", least=0
    )
    reworded: bool = setting(False, "Ask in other words; questions that no rule fits are left out (English).")


def write(
    prepared: PreparedFolder, split: str, output_dir: str, overwrite: bool = False, drawn: Drawn = Drawn()
) -> dict[str, int]:
    """Writes a BEIR folder, whole or not at all, and returns its counts.

    Raises:
      ValueError: the split has no pairs, or none of its questions can be asked in other words.
    """
    columns = ["question", "answer", "question_group", "answer_group", "split", "focus"]
    rows = prepared.table(columns).to_pylist()
    of_split = [row for row in rows if row["split"] == split]
    if not of_split:
        flags_of_split = "--input" if split == splits.TRAIN else f"--{split}_share or --{split}_input"
        raise ValueError(f"{prepared.path} has no {split} pairs. Prepare it with {flags_of_split}.")
    queries = _queries(of_split, drawn)
    if not queries:
        raise ValueError(f"No {split} question of {prepared.path} can be asked in other words. Leave out --reworded.")
    relevant = {(row["question_group"], row["answer_group"]) for row in of_split if row["question_group"] in queries}
    corpus = {row["answer_group"]: row["answer"] for row in rows}
    if drawn.documents:
        chosen = {answer for _, answer in relevant}
        chosen |= {*sorted(corpus.keys() - chosen)[: max(drawn.documents - len(chosen), 0)]}
        corpus = {group: text for group, text in corpus.items() if group in chosen}
    corpus, queries = ({str(group): text for group, text in texts.items()} for texts in (corpus, queries))
    qrels = sorted((str(question), str(answer)) for question, answer in relevant)
    with files.whole_folder(output_dir, overwrite, mark=_CORPUS) as folder:
        for name, texts in ((_CORPUS, corpus), (_QUERIES, queries)):
            lines = [json.dumps({"_id": key, "text": text}, ensure_ascii=False) for key, text in texts.items()]
            files.write_text(os.path.join(folder, name), "\n".join(lines) + "\n")
        os.mkdir(os.path.join(folder, "qrels"))
        lines = ["\t".join(_QRELS_HEADER), *(f"{query}\t{document}\t1" for query, document in qrels)]
        files.write_text(os.path.join(folder, "qrels", f"{split}.tsv"), "\n".join(lines) + "\n")
    return {"corpus": len(corpus), "queries": len(queries), "judgments": len(qrels)}


def _queries(rows: Iterable[dict[str, Any]], drawn: Drawn) -> dict[int, str]:
    """Returns the questions to ask, by their group: a hash, so that the lowest ones are a draw. It seeds rewording."""
    queries = {}
    for row in rows:
        group, question = row["question_group"], row["question"]
        asked = reworded(question, row["focus"] or "", random.Random(group)) if drawn.reworded else question
        if not drawn.reworded or asked != question:
            queries[group] = asked
    return {group: queries[group] for group in sorted(queries)[: drawn.queries]} if drawn.queries else queries


def _texts(folder: str, name: str) -> dict[str, str]:
    """Returns {id: text} of a file; a title precedes its text."""
    texts: dict[str, str] = {}
    for where, row in _rows(folder, name):
        if row["_id"] in texts:
            raise ValueError(f"{where} has the id {row['_id']!r} of an earlier line. Expected every id once.")
        texts[row["_id"]] = f"{row.get('title') or ''} {row['text']}".strip()
    return texts


def _rows(folder: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    path = os.path.join(folder, name)
    with open_text(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                if not isinstance(row["_id"], str) or not isinstance(row["text"], str):
                    raise TypeError("_id or text is no text")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(
                    f'{path} line {number} cannot be read ({error}). Expected {{"_id": "...", "text": "..."}}.'
                ) from error
            yield f"{path} line {number}", row


def main(argv: list[str]) -> None:
    """Writes the folder that the flags ask for."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown argument {argv[1]!r}.")
    values = flags.FLAGS
    try:
        drawn = Drawn(**flag_values(Drawn))
        prepared = PreparedFolder(values.prepared_dir)
        counts = write(prepared, values.split, values.output_dir, values.overwrite, drawn)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(json.dumps({"output_dir": values.output_dir, **counts}))


if __name__ == "__main__":
    flags.DEFINE_string("prepared_dir", None, "Folder that data_pipeline.prepare wrote.", required=True)
    flags.DEFINE_enum("split", splits.DEV, splits.SPLITS, "Split whose questions are the queries.")
    flags.DEFINE_string("output_dir", None, "The BEIR folder to write.", required=True)
    flags.DEFINE_bool("overwrite", False, "Replace output_dir if it is there.")
    define_flags(Drawn)
    app.run(main)
