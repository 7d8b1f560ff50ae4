"""The first pass: rows of the inputs become clean, tokenized rows, in chunks.

A chunk is an Arrow file with one record batch for each shard. Chunks are cut by the order and the length of the rows
alone, so that a run that was killed finds the chunks that it has written.
"""

import collections
import functools
import json
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from data_pipeline import cleaning, splits
from data_pipeline.corpora import Refusals, read_pairs
from data_pipeline.folders import files, prepared
from data_pipeline.prepare import duplicates, html_columns
from data_pipeline.prepare.html_columns import HtmlColumns
from data_pipeline.prepare.settings import Settings
from data_pipeline.prepare.workers import Workers
from data_pipeline.scrubbing import Scrubber
from data_pipeline.tokenizers import Tokenizer, load_tokenizer

_MAX_PAIRS = 4_096  # of a chunk
_MAX_CHARACTERS = 4 * 2**20
LIMITS = (_MAX_PAIRS, _MAX_CHARACTERS)
_ALL_READ_FILE = "all_read.json"  # the reports; there when every input was read to its end
_REPORT = b"report"

# The columns of pairs.parquet, and what else the second pass needs.
SCHEMA = pa.schema(
    [
        *prepared.PAIRS_SCHEMA,
        ("question_ids", pa.binary()),  # varints, as a record holds them
        ("answer_ids", pa.binary()),
        ("question_tokens", pa.int32()),
        ("answer_tokens", pa.int32()),
        ("given_split", pa.string()),  # the split that its whole file was given to, or ""
        ("position", pa.int64()),  # in the order of the inputs
        ("where", pa.string()),
        ("signature", pa.binary()),  # for near duplicates, else null
    ]
)


Row = tuple[str, str, str, str, str]  # where, question, answer, source, focus


def path_of(work: str, number: int) -> str:
    """Returns the path of a chunk."""
    return os.path.join(work, f"chunk-{number:06d}.arrow")


def write(
    settings: Settings, html: dict[str, HtmlColumns], state: str, work: str, workers: Workers, progress: bool
) -> list[dict[str, Any]]:
    """Writes all chunks that are missing.

    Args:
      settings: what to prepare, and how.
      html: the columns of each input file whose HTML is turned into text.
      state: hash of everything that decides the content.
      work: the folder of the chunks.
      workers: share the work.
      progress: show a progress bar.

    Returns:
      Reports {"rows": read, "refused": see `Refusals.report`, "changed": {what: texts}}, one a chunk, and last that of
      the readers, whose rows are those that it refused, with "noted": see `Refusals.notes`.
    """
    all_read = os.path.join(work, _ALL_READ_FILE)
    if (reports := files.read_json(all_read)) is not None:
        return reports
    refusals = Refusals()
    num_chunks = 0

    def missing() -> Iterator[tuple[Any, ...]]:
        nonlocal num_chunks
        with tqdm(desc="reading", unit=" pairs", disable=not progress) as bar:
            for given_split, path, rows in _read(settings, refusals):
                if not os.path.exists(path_of(work, num_chunks)):
                    yield settings, html[path], state, work, num_chunks, given_split, path, rows
                num_chunks += 1
                bar.update(len(rows))

    for _ in workers.map(_convert, missing()):
        pass
    reports = [_report(path_of(work, number)) for number in range(num_chunks)]
    of_readers = {"rows": sum(refusals.counts.values()), "refused": refusals.report(), "noted": refusals.notes()}
    reports.append({**of_readers, "changed": {}})
    files.write_json(all_read, reports)
    return reports


def _read(settings: Settings, refusals: Refusals) -> Iterator[tuple[str, str, list[Row]]]:
    """Yields (given split, path, rows) of each chunk; a chunk is of one file."""
    inputs = ((splits.TEST, settings.test_inputs), (splits.DEV, settings.dev_inputs), ("", settings.inputs))
    for given_split, path in ((given, path) for given, paths in inputs for path in paths):
        rows: list[Row] = []
        characters = 0
        for where, pair in read_pairs(path, settings.columns, refusals):
            rows.append((where, pair.question, pair.answer, pair.source, pair.focus))
            characters += len(pair.question) + len(pair.answer)
            if len(rows) == _MAX_PAIRS or characters >= _MAX_CHARACTERS:
                yield given_split, path, rows
                rows, characters = [], 0
        if rows:
            yield given_split, path, rows


@functools.lru_cache(maxsize=1)
def _tools(settings: Settings, state: str) -> tuple[Tokenizer, Scrubber]:
    """Returns what a process needs for all its chunks; `state` tells corpora with equal settings apart."""
    del state
    return load_tokenizer(settings.tokenizer, settings.lower_case), Scrubber(settings.scrub)


def _convert(
    settings: Settings,
    html: HtmlColumns,
    state: str,
    work: str,
    number: int,
    given_split: str,
    path: str,
    rows: list[Row],
) -> None:
    """Writes one chunk."""
    tokenizer, scrubber = _tools(settings, state)
    scrubber.counts.clear()
    refusals = Refusals()
    texts = _texts(rows, html, settings.keep_null_words, scrubber.counts, refusals)
    columns = _columns(texts, os.path.basename(path), scrubber)
    questions, answers, groups = columns["question"], columns["answer"], columns["question_group"]
    shares = settings.seed, settings.dev_share, settings.test_share
    columns["split"] = [given_split or splits.split_of(group, *shares) for group in groups]
    columns["given_split"] = [given_split] * len(groups)
    columns["position"] = np.arange(len(groups)) + number * _MAX_PAIRS
    for side, texts, longest in (
        ("question", questions, settings.max_question_tokens),
        ("answer", answers, settings.max_answer_tokens),
    ):
        texts = settings.prompts().add(texts, side)
        columns[f"{side}_ids"], columns[f"{side}_tokens"] = tokenizer.pack_words(texts, longest)
    near = settings.duplicates == "near"
    columns["signature"] = duplicates.signatures(questions, answers) if near else [None] * len(groups)
    batch = pa.record_batch([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)
    shard = np.array(groups, np.int64) % settings.num_shards
    batch = batch.take(pa.array(np.argsort(shard, kind="stable")))
    ends = np.cumsum(np.bincount(shard, minlength=settings.num_shards)).tolist()
    report = {"rows": len(rows), "refused": refusals.report(), "changed": dict(scrubber.counts)}
    schema = SCHEMA.with_metadata({_REPORT: json.dumps(report)})
    with files.whole_file(path_of(work, number)) as partial, pa.ipc.new_file(partial, schema) as writer:
        for start, end in zip([0, *ends], ends, strict=False):
            writer.write_batch(batch.slice(start, end - start))


def _texts(
    rows: list[Row],
    html: HtmlColumns,
    keep_null_words: bool,
    changed: collections.Counter[str],
    refusals: Refusals,
) -> list[Row]:
    """Returns the rows that are a pair, with clean texts."""

    def is_null(text: str) -> bool:
        return not keep_null_words and cleaning.is_null_word(text)

    kept = []
    for where, question, answer, source, focus in rows:
        pair = {"question": question, "answer": answer}
        pair = {side: html_columns.clean(text, side, html, changed) for side, text in pair.items()}
        if wrong := next((side for side, text in pair.items() if not text or is_null(text)), None):
            refusals.add(f"{wrong} is the word {pair[wrong]}" if pair[wrong] else f"empty {wrong}", where)
        else:
            about = ("" if is_null(text) else text for text in map(cleaning.clean, (source, focus)))
            kept.append((where, *pair.values(), *about))
    return kept


def _columns(rows: list[Row], file_name: str, scrubber: Scrubber) -> dict[str, list[Any]]:
    """Returns the columns that follow from each row alone, of rows with clean texts."""
    questions = [scrubber.question(row[1]) for row in rows]
    answers = [scrubber.answer(row[2]) for row in rows]
    return {
        "where": [row[0] for row in rows],
        "question": questions,
        "answer": answers,
        "source": [row[3] or file_name for row in rows],
        "focus": [row[4] for row in rows],
        "pair_id": list(map(cleaning.pair_id, questions, answers)),
        "question_group": list(map(cleaning.group, questions)),
        "answer_group": list(map(cleaning.group, answers)),
    }


def _report(path: str) -> dict[str, Any]:
    with pa.memory_map(path) as source:
        return json.loads(pa.ipc.open_file(source).schema.metadata[_REPORT])
