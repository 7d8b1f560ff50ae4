"""Reads JSON: a list of objects, one object a line (JSON Lines), or an object with such a list in a field."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from data_pipeline.corpora.columns import INPUT, INSTRUCTION, OTHER_LAYOUTS, Columns
from data_pipeline.corpora.json_scanner import CUT, Scanner, lines, numbered, values
from data_pipeline.corpora.reading import OTHER_NUMBER, NotATableError, Refusals, Table

_WHOLE = 2**20  # characters: an object up to this length is read as a whole, to see whether it holds the rows
_FIRST = 1_000  # objects whose fields make the header, where a row may lack a field

Rows = Iterator[tuple[str, Any]]


def open_json(file: TextIO, path: str, columns: Columns, refusals: Refusals) -> Table:
    """Returns the names of the first object's fields, and the objects.

    Where a row may lack a field, the names are those of the first `_FIRST` objects.

    Raises:
      ValueError: the file is not valid JSON, which the message shows with the line, or holds no object.
    """
    rows = _objects(_rows(Scanner(file, path), path, columns), columns, refusals)
    first = list(itertools.islice(rows, 1 if columns.required == columns.content else _FIRST))
    if not first:
        raise NotATableError(
            f"{path} holds no object. Expected objects with {columns.fields}; where rows are lists, name their "
            f"fields: --header={','.join(columns.content[:2])}."
        )
    # The first objects stand for the header of a table.
    header = list(dict.fromkeys(name for _, row in first for name in row))
    names = {name.lower() for name in header}
    later = None
    if columns.instructed and names & set(INSTRUCTION) and not names & set(INPUT):
        later = len(header)
        header.append(INPUT[0])  # a later object may have one, by any of its names

    def value(row: dict[str, Any], place: int) -> Any:
        if place == later:
            return next((field for name, field in row.items() if name.lower() in INPUT), None)
        return row.get(header[place])

    return Table(header, itertools.chain(first, rows), value)


def _objects(rows: Iterable[tuple[str, Any]], columns: Columns, refusals: Refusals) -> Rows:
    """Yields the objects, and the lists whose fields --header names."""
    for number, (where, value) in enumerate(rows):
        if isinstance(value, dict):
            if columns.header:
                refusals.note("--header does not count for objects, whose fields have names", where)
            yield where, value
        elif isinstance(value, list) and columns.lone_list:
            yield where, {columns.lone_list: value}
        elif not isinstance(value, list) or not columns.header:
            refusals.add("not an object", where)
        elif len(value) != len(columns.header):
            refusals.add(OTHER_NUMBER, where)
        elif number or not columns.is_header(value, where, refusals):
            yield where, dict(zip(columns.header, value, strict=True))


def _rows(scanner: Scanner, path: str, columns: Columns) -> Rows:
    """Yields the place and the value of each row."""
    first = scanner.peek()
    if not first:
        raise NotATableError(f"{path} is empty. Expected a list of objects, or an object a line, one a {columns.row}.")
    if first != "{":
        yield from values(scanner)
        return
    place = f"{path} line {scanner.line}"
    if (value := scanner.value(_WHOLE)) is CUT:
        yield from _large(scanner, path, place, columns)
    elif (more := scanner.peek()) not in ("", "{", "["):
        scanner.end()
    elif more or (rows := _rows_of(value, path, columns)) is None:
        yield place, value
    else:
        yield from numbered(path, rows)
    yield from lines(scanner)


def _rows_of(value: dict[str, Any], path: str, columns: Columns) -> list[Any] | None:
    """Returns the rows in a file's only object; None if the object itself is a row.

    Raises:
      ValueError: the object holds columns, or several lists of objects.
    """
    if any(isinstance(field, list) for name, field in value.items() if name.lower() in columns.nested):
        return None
    if columns.is_found(path, list(value)):
        fields = [value[list(value)[places[0]]] for places in columns.find(path, list(value)).values()][:2]
        if all(isinstance(field, (dict, list)) for field in fields) and not any("text" in field for field in fields):
            raise ValueError(
                f"{path} holds one object with {columns.lists}. Expected an object a {columns.row}: write rows, in "
                "pandas with orient='records'."
            )
        return None
    lists = [field for name, field in value.items() if name.lower() not in OTHER_LAYOUTS and _is_rows(field)]
    if len(lists) > 1:
        raise ValueError(f"{path} holds several lists of objects. Write each into a file of its own.")
    if not lists and len(value) > 1 and all(isinstance(field, dict) for field in value.values()):
        return list(value.values())  # rows under their ids
    return lists[0] if lists else None


def _is_rows(field: Any) -> bool:
    return isinstance(field, list) and bool(field) and isinstance(field[0], dict)


def _large(scanner: Scanner, path: str, place: str, columns: Columns) -> Rows:
    """Yields the rows of a large object: the items of its only list of objects, or those that `_rows_of` returns."""
    row: dict[str, Any] = {}
    has_list = False
    for name in scanner.fields():
        if scanner.peek() != "[" or name.lower() in OTHER_LAYOUTS:
            row[name] = scanner.value()
            continue
        items = scanner.items()
        first = next(items, None)
        if not isinstance(first, dict):
            row[name] = [first, *items]
            continue
        if has_list:
            raise ValueError(f"{path} holds several lists of objects. Write each into a file of its own.")
        has_list = True
        yield from numbered(path, itertools.chain([first], items))
    if has_list:
        scanner.end()
    elif (rows := _rows_of(row, path, columns)) is None:
        yield place, row
    else:
        yield from numbered(path, rows)
