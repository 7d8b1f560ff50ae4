"""Describes the input files: their sizes, hashes and formats."""

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from data_pipeline.corpora import Reader, formats
from data_pipeline.folders import files
from data_pipeline.folders.prepared_settings import PrepareSettings
from data_pipeline.prepare import html_columns
from data_pipeline.schemas import Schema


class Inputs(NamedTuple):
    """The input files.

    Attributes:
      files: {"path", "bytes", "sha256", "format", "html"} of each input.
      modified: time of the last change of each input.
      boilerplate: hash of the file of set phrases, if there is one.
    """

    files: list[dict[str, Any]]
    modified: list[int]
    boilerplate: str | None


def describe(settings: PrepareSettings, sizes: Mapping[str, int], reader: Reader) -> Inputs:
    """Returns the description of all inputs, each of which is read once for its hash."""
    entries = []
    for path in settings.paths():
        entry: dict[str, Any] = {"path": path, "bytes": sizes[path], "sha256": _sha256(settings, path, reader.schema)}
        entry["format"] = formats.name_of(path, settings.columns, reader.schema.plural)
        entries.append(entry | {"html": html_columns.find(settings, path, reader)})
    boilerplate = None
    if settings.scrub.boilerplate:
        files.size(settings.scrub.boilerplate)
        boilerplate = files.sha256(settings.scrub.boilerplate)
    return Inputs(entries, modified(settings, reader.schema), boilerplate)


def members(settings: PrepareSettings, path: str, schema: Schema) -> list[str]:
    """Returns the files that an input, which may be a folder, is read from."""
    return formats.files_read(path, settings.columns, schema.plural)


def modified(settings: PrepareSettings, schema: Schema) -> list[int]:
    """Returns the time of the last change of each input."""
    paths = (members(settings, path, schema) for path in settings.paths())
    return [max(os.stat(member).st_mtime_ns for member in of_input) for of_input in paths]


def _sha256(settings: PrepareSettings, path: str, schema: Schema) -> str:
    paths = members(settings, path, schema)
    if paths == [path]:
        return files.sha256(path)
    return files.fingerprint([(os.path.relpath(member, path), files.sha256(member)) for member in paths])
