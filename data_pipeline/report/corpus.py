"""Opens what a report is about: files as `data_pipeline.prepare` reads them, or a prepared folder; yields its rows."""

import collections
import contextlib
import dataclasses
import itertools
import operator
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import pyarrow.parquet as pq
from tqdm import tqdm

from data_pipeline import cleaning, splits
from data_pipeline.corpora import Columns, Reader, Refusals, formats
from data_pipeline.corpora.paths import find_inputs
from data_pipeline.corpora.progress import reading_bar
from data_pipeline.folders import files
from data_pipeline.folders.manifest import MANIFEST_FILE
from data_pipeline.folders.prepared import PreparedFolder, table_file
from data_pipeline.folders.prepared_settings import PrepareSettings
from data_pipeline.prepare import chunks, html_columns
from data_pipeline.prepare.job import Job
from data_pipeline.report.personal_data import shown
from data_pipeline.rows import CHOICES, DIALOGUE, TRIAGE
from data_pipeline.schemas import SOURCE, TEXT, TEXTS, Schema

_BATCH_ROWS = 1_024
_EXAMPLES = 3  # of a reason to refuse rows


class Row(NamedTuple):
    """A clean row of any type, as a question with an answer.

    Attributes:
      where: its place, with the name of the file.
      question: question of a pair, text of a triage row, context and question of a row with choices, turns of a
        dialogue but the last.
      answer: answer, reply, the right choices, or the last turn; empty where a triage row has none.
      source: the collection that it comes from, or the name of its file.
      focus: its topic or, for triage, its label.
      split: train, dev or test in a prepared folder, else empty.
      question_group: hash of the question in normal form.
      answer_group: hash of the answer in normal form.
    """

    where: str
    question: str
    answer: str
    source: str
    focus: str
    split: str
    question_group: int
    answer_group: int


class Batch(NamedTuple):
    """Some rows of a corpus.

    Attributes:
      rows: the rows that preparing would keep.
      raw: (place, text) of every row that was read, before cleaning.
    """

    rows: list[Row]
    raw: list[tuple[str, str]]


class PlacedRefusals(Refusals):
    """Keeps the places of some refused rows of each reason.

    Attributes:
      places: {reason: the first places}.
    """

    def __init__(self) -> None:
        super().__init__()
        self.places: dict[str, list[str]] = collections.defaultdict(list)

    def add(self, reason: str, where: str, position: int = 0, rows: int = 1) -> None:
        """Counts rows, see `Refusals`."""
        super().add(reason, where, position, rows)
        if len(self.places[reason]) < _EXAMPLES:
            self.places[reason].append(where)


class TableCorpus:
    """The rows of some files.

    Attributes:
      name: the names of the files.
      files: {"name", "bytes"} of each file or folder.
      splits: {} because nothing is split yet.
    """

    def __init__(self, paths: Sequence[str], reader: Reader, columns: Columns):
        self.name = " + ".join(map(_name, paths))
        members = {path: formats.files_read(path, columns, reader.schema.plural) for path in paths}
        self.files = [
            {"name": _name(path), "bytes": sum(map(files.size, of_path))} for path, of_path in members.items()
        ]
        self.splits: Mapping[str, int] = {}
        self._paths = [member for of_path in members.values() for member in of_path]
        self._reader, self._settings = reader, PrepareSettings(inputs=tuple(paths), columns=columns)
        self._refusals, self._changed = PlacedRefusals(), collections.Counter[str]()
        self._refused_texts: dict[str, str] = {}

    def bar(self, shown: bool) -> AbstractContextManager[Callable[[int], object]]:
        """Returns a progress bar, see `reading_bar`."""
        return reading_bar(self._paths, f"reading {self.name}", self._reader.schema.plural, shown)

    def batches(self) -> Iterator[Batch]:
        """Yields all rows in the order of the files; refused rows are counted.

        Raises:
          ValueError: a file is damaged or holds no rows of this type.
        """
        self._refusals, self._changed = PlacedRefusals(), collections.Counter()
        schema = self._reader.schema
        values_of = operator.attrgetter(*(field.name for field in schema.fields))
        job = Job(self._settings, schema, "", "", {})
        for path in self._settings.inputs:
            html = html_columns.find(self._settings, path, self._reader)
            read = self._reader.rows(path, self._settings.columns, self._refusals)
            for part in iter(lambda read=read: list(itertools.islice(read, _BATCH_ROWS)), []):
                rows = [(where, *values_of(row)) for where, row in part]
                kept = chunks.cleaned(job, html, rows, self._changed, self._refusals)
                raw = [(_short(where, path), _text(schema, values)) for where, *values in rows]
                self._keep_refused(rows, raw)
                names = [field.name for field in schema.fields]
                clean = (dict(zip(names, values, strict=True)) for _, *values in kept)
                places = (_short(where, path) for where, *_ in kept)
                yield Batch([_row(schema, *row, _name(path)) for row in zip(places, clean, strict=True)], raw)

    def _keep_refused(self, rows: Sequence[tuple[Any, ...]], raw: Sequence[tuple[str, str]]) -> None:
        """Keeps the texts of those rows that are examples of refused ones."""
        wanted = {where for places in self._refusals.places.values() for where in places}
        for (where, *_), (_, text) in zip(rows, raw, strict=True):
            if where in wanted:
                self._refused_texts[where] = text

    def refusals(self) -> dict[str, Any]:
        """Returns refused rows, decisions of the readers and changed texts of the last pass, with examples."""
        short = self._short_place
        refused = [
            {
                "reason": shown(reason),
                "rows": entry["rows"],
                "examples": [
                    {"where": short(where), "text": shown(self._refused_texts.get(where, ""))}
                    for where in self._refusals.places[reason]
                ],
            }
            for reason, entry in self._refusals.report().items()
        ]
        notes = [
            {"note": shown(note), "times": entry["times"], "first": short(entry["first"])}
            for note, entry in self._refusals.notes().items()
        ]
        changed = [{"change": change, "texts": count} for change, count in sorted(self._changed.items())]
        return {"rows": sum(self._refusals.counts.values()), "reasons": refused, "notes": notes, "changed": changed}

    def _short_place(self, where: str) -> str:
        path = next((path for path in self._settings.inputs if where.startswith(path)), "")
        return shown(_short(where, path))


class PreparedCorpus:
    """The rows of a prepared folder.

    Attributes:
      name: the name of the folder.
      files: {"name", "bytes"} of each file that it was made of.
      splits: {split: rows}.
    """

    def __init__(self, path: str, schema: Schema):
        """Opens the folder.

        Raises:
          ValueError: it is no prepared folder of rows of this type.
        """
        self._folder = PreparedFolder(path, schema)
        self.name = os.path.basename(os.path.realpath(path))
        inputs = self._folder.manifest["inputs"]
        self.files = [{"name": _name(file["path"]), "bytes": file["bytes"]} for file in inputs]
        self.splits: Mapping[str, int] = {split: self._folder.num_rows(split) for split in splits.SPLITS}

    @contextlib.contextmanager
    def bar(self, shown: bool) -> Iterator[Callable[[int], object]]:
        """Shows a progress bar while the block runs; yields a function that takes the number of further rows."""
        total, unit = sum(self.splits.values()), f" {self._folder.schema.plural}"
        with tqdm(desc=f"reading {self.name}", total=total, unit=unit, disable=not shown) as bar:
            yield bar.update

    def batches(self, only_split: str = "") -> Iterator[Batch]:
        """Yields all rows, or those of one split."""
        schema, number = self._folder.schema, 0
        with pq.ParquetFile(os.path.join(self._folder.path, table_file(schema))) as table:
            for part in table.iter_batches(_BATCH_ROWS, columns=[*(f.name for f in schema.fields), "split"]):
                rows = []
                for values in part.to_pylist():
                    number += 1
                    if only_split in ("", values["split"]):
                        rows.append(_row(schema, f"{table_file(schema)} row {number}", values, ""))
                yield Batch(rows, [(row.where, f"{row.question}\n{row.answer}") for row in rows])

    def refusals(self) -> dict[str, Any]:
        """Returns what preparing refused, noted and changed, from the manifest."""
        manifest = self._folder.manifest
        paths = [entry["path"] for entry in manifest["inputs"]]

        def short(where: str) -> str:
            return shown(_short(where, next((path for path in paths if where.startswith(path)), "")))

        refused = [
            {"reason": shown(reason), "rows": entry["rows"], "examples": [{"where": short(entry["first"]), "text": ""}]}
            for reason, entry in manifest["refused"].items()
        ]
        notes = [
            {"note": shown(note), "times": entry["times"], "first": short(entry["first"])}
            for note, entry in manifest.get("noted", {}).items()
        ]
        changed = [{"change": change, "texts": count} for change, count in sorted(manifest["changed"].items())]
        rows = sum(reason["rows"] for reason in refused)
        return {"rows": rows, "reasons": refused, "notes": notes, "changed": changed}


Corpus = TableCorpus | PreparedCorpus


def open_corpus(values: Sequence[str], reader: Reader, columns: Columns) -> Corpus:
    """Opens files, folders and patterns as `prepare` does, or one prepared folder.

    Raises:
      FileNotFoundError: a path names nothing.
      ValueError: a folder holds nothing to read, or was prepared from rows of another type.
    """
    if len(values) == 1 and os.path.isfile(os.path.join(values[0], MANIFEST_FILE)):
        return PreparedCorpus(values[0], reader.schema)
    return TableCorpus(find_inputs(values, columns, Refusals(), reader), reader, columns)


def open_fitting(values: Sequence[str], reader: Reader, columns: Columns) -> Corpus:
    """Opens rows beside those of the corpus: with its columns if they can be read so, else with recognized ones.

    The names that --header gives are for a file whose first line does not name its columns.

    Raises:
      FileNotFoundError: see `open_corpus`.
      ValueError: see `open_corpus`.
    """
    errors = []
    for tried in dict.fromkeys((dataclasses.replace(columns, header=()), Columns(), columns)):
        try:
            corpus = open_corpus(values, reader, tried)
            next(corpus.batches(), None)
            return corpus
        except ValueError as error:
            errors.append(error)
    raise errors[0]  # it speaks of the columns that were named


def _row(schema: Schema, where: str, values: Mapping[str, Any], file_name: str) -> Row:
    parts = _PARTS.get(schema.row, _of_pair)
    question, answer, focus = parts(values)
    groups = cleaning.group(question), cleaning.group(answer)
    return Row(where, question, answer, values[SOURCE] or file_name, focus, values.get("split", ""), *groups)


def _of_pair(values: Mapping[str, Any]) -> tuple[str, str, str]:
    return values["question"], values["answer"], values["focus"]


def _of_triage(values: Mapping[str, Any]) -> tuple[str, str, str]:
    return values["text"], values["reply"], values["label"]


def _of_choices(values: Mapping[str, Any]) -> tuple[str, str, str]:
    question = "\n".join(filter(None, (values["context"], values["question"])))
    return question, "\n".join(values["choices"][place] for place in values["correct"]), values["focus"]


def _of_dialogue(values: Mapping[str, Any]) -> tuple[str, str, str]:
    *before, last = values["turns"]
    return "\n".join(before), last, values["focus"]


_PARTS: dict[type, Callable[[Mapping[str, Any]], tuple[str, str, str]]] = {
    TRIAGE.row: _of_triage,
    CHOICES.row: _of_choices,
    DIALOGUE.row: _of_dialogue,
}


def _text(schema: Schema, values: Sequence[Any]) -> str:
    """Returns all texts of a row in one."""
    texts = []
    for field, value in zip(schema.fields, values, strict=True):
        texts += [value] if field.kind == TEXT else value if field.kind == TEXTS else []
    return "\n".join(texts)


def _short(where: str, path: str) -> str:
    """Returns a place with the name of its file in place of the path."""
    path = path.rstrip(os.sep)
    return _name(path) + where[len(path) :] if path and where.startswith(path) else where


def _name(path: str) -> str:
    """Returns the name of a file or folder."""
    return os.path.basename(os.path.normpath(path))
