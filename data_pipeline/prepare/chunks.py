"""The first pass: cleans and tokenizes the rows of the inputs, in chunks.

A chunk is an Arrow file with one record batch for each shard. The order and the length of the rows alone decide where a
chunk ends, so that a run that was killed finds the chunks that it has written.
"""

import collections
import functools
import json
import operator
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from data_pipeline import cleaning, splits
from data_pipeline.corpora import Reader, Refusals
from data_pipeline.corpora.progress import reading_bar
from data_pipeline.folders import files
from data_pipeline.prepare import duplicates, html_columns
from data_pipeline.prepare.inputs import members
from data_pipeline.prepare.job import HtmlColumns, Job
from data_pipeline.prepare.workers import Workers
from data_pipeline.schemas import ANSWER, LABEL, SOURCE, TEXT, TEXTS, Field, Schema
from data_pipeline.scrubbing import Scrubber, ScrubSettings
from data_pipeline.tokenizers import Tokenizer, load_tokenizer

_MAX_ROWS = 4_096  # of a chunk
_MAX_CHARACTERS = 4 * 2**20
LIMITS = (_MAX_ROWS, _MAX_CHARACTERS)
_ALL_READ_FILE = "all_read.json"  # the reports; written when every input was read to its end
_REPORT = b"report"

Row = tuple[Any, ...]  # the place, then the value of each field


def arrow_schema(schema: Schema) -> pa.Schema:
    """Returns the columns of a chunk: those in Parquet, and what else the second pass needs."""
    return pa.schema(
        [
            *schema.parquet,
            *((field.feature, pa.binary()) for field in schema.tokenized),  # varints, as a record holds them
            *((f"{field.name}_tokens", pa.int32()) for field in schema.tokenized),
            ("given_split", pa.string()),  # the split of the whole file; "" if the key decides
            ("position", pa.int64()),  # place in the order of the inputs
            ("where", pa.string()),
            ("signature", pa.binary()),  # for near duplicates, else null
        ]
    )


def write(job: Job, reader: Reader, workers: Workers, progress: bool) -> list[dict[str, Any]]:
    """Writes all chunks that are missing.

    Returns:
      A report for each chunk: {"rows": number of rows read, "refused": see `Refusals.report`, "changed": {change:
      number of texts}, "labels": {field: values} of labels with classes}. The last report is that of the reader, with
      the rows that it refused, and "noted": see `Refusals.notes`.
    """
    all_read = os.path.join(job.work, _ALL_READ_FILE)
    if (reports := files.read_json(all_read)) is not None:
        return reports
    refusals = Refusals()
    num_chunks = 0

    def missing() -> Iterator[tuple[Any, ...]]:
        nonlocal num_chunks
        paths = [member for path in job.settings.paths() for member in members(job.settings, path, job.schema)]
        with reading_bar(paths, "reading", job.schema.plural, progress) as count:
            for given_split, path, rows in _read(job, reader, refusals):
                if not os.path.exists(job.chunk_path(num_chunks)):
                    yield job, num_chunks, given_split, path, rows
                num_chunks += 1
                count(len(rows))

    for _ in workers.map(_convert, missing()):
        pass
    reports = [_report(job.chunk_path(number)) for number in range(num_chunks)]
    of_readers = {"rows": sum(refusals.counts.values()), "refused": refusals.report(), "noted": refusals.notes()}
    reports.append({**of_readers, "changed": {}, "labels": {}})
    files.write_json(all_read, reports)
    return reports


def _read(job: Job, reader: Reader, refusals: Refusals) -> Iterator[tuple[str, str, list[Row]]]:
    """Yields (given split, path, rows) of each chunk; a chunk is of one file."""
    settings = job.settings
    fields = job.schema.fields
    values_of = operator.attrgetter(*(field.name for field in fields))
    content = [place for place, field in enumerate(fields, 1) if field in job.schema.content]
    inputs = ((splits.TEST, settings.test_inputs), (splits.DEV, settings.dev_inputs), ("", settings.inputs))
    for given_split, path in ((split, path) for split, paths in inputs for path in paths):
        rows: list[Row] = []
        characters = 0
        for where, row in reader.rows(path, settings.columns, refusals):
            values = (where, *values_of(row))
            rows.append(values)
            characters += sum([_length(values[place]) for place in content])
            if len(rows) == _MAX_ROWS or characters >= _MAX_CHARACTERS:
                yield given_split, path, rows
                rows, characters = [], 0
        if rows:
            yield given_split, path, rows


def _length(value: str | Sequence[str]) -> int:
    return len(value) if isinstance(value, str) else sum(map(len, value))


@functools.lru_cache(maxsize=1)
def _tools(
    tokenizer: str | None, lower_case: bool | None, scrub: ScrubSettings, state: str
) -> tuple[Tokenizer | None, Scrubber]:
    """Returns the tools that a process keeps for all its chunks; `state` tells corpora with equal settings apart."""
    del state
    return load_tokenizer(tokenizer, lower_case) if tokenizer else None, Scrubber(scrub)


def _convert(job: Job, number: int, given_split: str, path: str, rows: list[Row]) -> None:
    """Writes one chunk."""
    settings, schema = job.settings, job.schema
    tokenizer, scrubber = _tools(settings.tokenizer, settings.lower_case, settings.scrub, job.state)
    scrubber.counts.clear()
    refusals = Refusals()
    rows_read = len(rows)
    rows = cleaned(job, job.html[path], rows, scrubber.counts, refusals)
    columns = _content(schema, rows, os.path.basename(path), scrubber)
    columns |= _hashes(schema, columns)
    columns |= _ids(job, columns, tokenizer)
    keys = columns[schema.key_group]
    columns["split"] = [given_split or _split_of(job, key) for key in keys]
    columns["given_split"] = [given_split] * len(rows)
    columns["position"] = np.arange(len(rows)) + number * _MAX_ROWS
    columns["signature"] = [None] * len(rows)
    if settings.duplicates == "near":
        columns["signature"] = duplicates.signatures(_joined(schema, columns, " "))
    report = {"rows": rows_read, "refused": refusals.report(), "changed": dict(scrubber.counts)}
    report["labels"] = {field.name: sorted(set(columns[field.name])) for field in schema.classes}
    arrow = arrow_schema(schema).with_metadata({_REPORT: json.dumps(report)})
    batch = pa.record_batch([pa.array(columns[field.name], field.type) for field in arrow], schema=arrow)
    with files.whole_file(job.chunk_path(number)) as partial, pa.ipc.new_file(partial, arrow) as writer:
        for part in _by_shard(batch, np.array(keys, np.int64), settings.num_shards):
            writer.write_batch(part)


def _split_of(job: Job, key: int) -> str:
    """Returns the split of a key; train for stratified rows, of which strata.py draws those of dev and test."""
    settings = job.settings
    if job.schema.stratify:
        return splits.TRAIN
    return splits.split_of(key, settings.seed, settings.dev_share, settings.test_share)


def _by_shard(batch: pa.RecordBatch, keys: np.ndarray, num_shards: int) -> Iterator[pa.RecordBatch]:
    """Yields the rows of each shard; rows with an equal key are in one shard."""
    shard = keys % num_shards
    batch = batch.take(pa.array(np.argsort(shard, kind="stable")))
    ends = np.cumsum(np.bincount(shard, minlength=num_shards)).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield batch.slice(start, end - start)


def cleaned(
    job: Job, html: HtmlColumns, rows: list[Row], changed: collections.Counter[str], refusals: Refusals
) -> list[Row]:
    """Returns the rows that lack nothing that the schema requires, with clean texts."""

    def is_null(text: str) -> bool:
        return not job.settings.keep_null_words and cleaning.is_null_word(text)

    def clean(field: Field, values: Sequence[Any]) -> Sequence[Any]:
        if field.kind == TEXT:
            texts = [html_columns.clean(text, field, html, changed) for text in values]
            return ["" if is_null(text) else text for text in texts] if field.optional else texts
        if field.kind == TEXTS:
            return [[html_columns.clean(text, field, html, changed) for text in texts] for texts in values]
        if field.kind == LABEL:
            labels = map(cleaning.clean, values)
            return ["" if is_null(label) else label for label in labels]
        return values

    if not rows:
        return []
    places, *columns = zip(*rows, strict=True)
    columns = list(map(clean, job.schema.fields, columns))
    reasons = _reasons(job.schema, columns, is_null)
    complete = []
    for reason, where, *values in zip(reasons, places, *columns, strict=True):
        if reason:
            refusals.add(reason, where)
        else:
            complete.append((where, *values))
    return complete


def _reasons(schema: Schema, columns: Sequence[Sequence[Any]], is_null: Callable[[str], bool]) -> list[str | None]:
    """Returns the reason to refuse each row, or None. Takes the clean values of each field."""
    reasons: list[str | None] = [None] * len(columns[0])
    for field, values in zip(schema.fields, columns, strict=True):
        if field in (*schema.content, *schema.classes) and not field.optional:
            is_word = (lambda text: False) if field.any_word else is_null
            found = (_missing(field.name, value, is_word) for value in values)
            reasons = [earlier or reason for earlier, reason in zip(reasons, found, strict=True)]
    if schema.either:
        places = [place for place, field in enumerate(schema.fields) if field.name in schema.either]
        filled = map(any, zip(*(columns[place] for place in places), strict=True))
        reason = f"neither {' nor '.join(schema.either)}"
        reasons = [
            earlier or (None if is_filled else reason) for earlier, is_filled in zip(reasons, filled, strict=True)
        ]
    return reasons


def _missing(name: str, value: str | list[str], is_null: Callable[[str], bool]) -> str | None:
    """Returns the reason to refuse a row for a text or label, or for one of its texts; None if there is no reason."""
    texts = value if isinstance(value, list) else [value]
    if not all(texts) or not texts:
        return f"empty {name}"
    word = next(filter(is_null, texts), None)
    return word and f"{name} is the word {word}"


def _content(schema: Schema, rows: list[Row], file_name: str, scrubber: Scrubber) -> dict[str, list[Any]]:
    """Returns the columns of the fields, scrubbed, and the places."""
    columns = {"where": [row[0] for row in rows]}
    for place, field in enumerate(schema.fields, 1):
        values = [row[place] for row in rows]
        scrub = scrubber.answer if field.side == ANSWER else scrubber.mask
        if field.kind == TEXT:
            values = list(map(scrub, values))
        elif field.kind == TEXTS:
            values = [list(map(scrub, texts)) for texts in values]
        elif field.name == SOURCE:
            values = [value or file_name for value in values]
        columns[field.name] = values
    return columns


def _joined(schema: Schema, columns: dict[str, list[Any]], mark: str) -> list[str]:
    """Returns all texts of each row in one, with a mark between them."""
    contents = (
        columns[field.name] if field.kind == TEXT else map(mark.join, columns[field.name]) for field in schema.content
    )
    return list(map(mark.join, zip(*contents, strict=True)))


def _hashes(schema: Schema, columns: dict[str, list[Any]]) -> dict[str, list[int]]:
    """Returns the ids and groups."""
    hashes = {schema.id_name: list(map(cleaning.hash64, _joined(schema, columns, "\0")))}
    for field in schema.grouped:
        texts = columns[field.name] if field.kind == TEXT else (texts[0] for texts in columns[field.name])
        hashes[field.group] = list(map(cleaning.group, texts))
    return hashes


def _ids(job: Job, columns: dict[str, list[Any]], tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Returns the token ids of each tokenized field as varints, and their number."""
    packed: dict[str, Any] = {}
    for field in job.schema.tokenized:
        prompt, limit = job.settings.prompts[field.name], job.settings.max_tokens[field.name]
        texts = [f"{prompt}{text}" for text in columns[field.name]] if prompt else columns[field.name]
        packed[field.feature], packed[f"{field.name}_tokens"] = tokenizer.pack_words(texts, limit)
    return packed


def _report(path: str) -> dict[str, Any]:
    with pa.memory_map(path) as source:
        return json.loads(pa.ipc.open_file(source).schema.metadata[_REPORT])
