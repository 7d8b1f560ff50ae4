"""Reads BEIR and MTEB folders: a query with each relevant document is a pair, and documents are passages.

    corpus.jsonl queries.jsonl qrels/test.tsv                                           BEIR
    corpus/*.parquet queries/*.parquet qrels/*.parquet (or data/, or JSON Lines)        MTEB

The input is the folder, or a file of judgments (qrels/train.tsv) if there are several.
"""

import dataclasses
import glob
import operator
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from data_pipeline.corpora import kinds
from data_pipeline.corpora.any_table import opened
from data_pipeline.corpora.columns import Columns, Roles, UsualNames
from data_pipeline.corpora.reading import Format, Refusals, Start
from data_pipeline.corpora.store import Store, open_store
from data_pipeline.rows import Pair, Passage

NOT_RELEVANT = "the document is not relevant to the query"
MISSING = "the query or the document of a judgment is missing"
NO_TEXT = "id or text of a query or document is no text"
_CORPUS, _QUERIES, _QRELS = "corpus", "queries", ("qrels", "data", "default")
_IS_QRELS = re.compile(r'query-id\tcorpus-id\tscore\s|\{[^{}]*"query-id"[^{}]*"corpus-id"', re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class _Texts(Columns):
    """The columns of queries and documents."""

    usual_names: ClassVar[UsualNames] = {"id": (("_id", "id"),), "text": (("text",),), "title": (("title",),)}
    content: ClassVar[tuple[str, ...]] = ("id", "text")
    required: ClassVar[tuple[str, ...]] = ("id", "text")
    instructed: ClassVar[bool] = False

    def find(self, path: str, header: Sequence[str]) -> Roles:
        return self._roles(path, header)


@dataclasses.dataclass(frozen=True)
class _Judgments(_Texts):
    """The columns of judgments."""

    usual_names: ClassVar[UsualNames] = {
        "query": (("query-id", "query_id"),),
        "document": (("corpus-id", "corpus_id"),),
        "grade": (("score",),),
    }
    content: ClassVar[tuple[str, ...]] = ("query", "document")
    required: ClassVar[tuple[str, ...]] = ("query", "document")


def read_pairs(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Pair]]:
    """Yields the queries with each document whose grade is 1 or more; its title, if any, precedes its text.

    Raises:
      ValueError: a file is damaged, or the folder has several files of judgments.
    """
    del columns
    folder, judgments = _folder(path), _judgments(path)
    _check_one_split(path, judgments)
    source = os.path.basename(os.path.abspath(folder))
    with open_store() as queries, open_store() as documents:
        _fill(queries, _parts(folder, _QUERIES), refusals)
        _fill(documents, _parts(folder, _CORPUS), refusals)
        for where, row in _rows(judgments, _Judgments(), refusals):
            query, document = queries.find(str(row["query"])), documents.find(str(row["document"]))
            if not _is_relevant(row.get("grade", 1)):
                refusals.add(NOT_RELEVANT, where)
            elif query is None or document is None:
                refusals.add(MISSING, where)
            else:
                text, title = document
                yield where, Pair(query[0], "\n".join(filter(None, (title, text))), source, focus=title)


def read_passages(path: str, columns: Any, refusals: Refusals) -> Iterator[tuple[str, Passage]]:
    """Yields the documents, whatever the judgments."""
    del columns
    folder = _folder(path)
    source = os.path.basename(os.path.abspath(folder))
    for where, (_, text, title) in _texts(_parts(folder, _CORPUS), refusals):
        yield where, Passage(text, title, source)


def _fill(store: Store, paths: list[str], refusals: Refusals) -> None:
    store.add(row for _, row in _texts(paths, refusals))


def _texts(paths: list[str], refusals: Refusals) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yields place, id, text and title."""
    for where, row in _rows(paths, _Texts(), refusals):
        title = row.get("title") or ""
        if isinstance(row["id"], (str, int)) and isinstance(row["text"], str) and isinstance(title, str):
            yield where, (str(row["id"]), row["text"], title)
        else:
            refusals.add(NO_TEXT, where)


def _rows(paths: list[str], columns: Columns, refusals: Refusals) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in paths:
        with opened(path, kinds.kind_of(path), columns, refusals) as table:
            roles = {role: place for role, (place,) in columns.find(path, table.header).items()}
            value = table.value or operator.getitem
            for where, row in table.rows:
                yield where, {role: value(row, place) for role, place in roles.items()}


def _is_relevant(grade: Any) -> bool:
    try:
        return float(grade) >= 1
    except (TypeError, ValueError):
        return False


def _parts(folder: str, name: str) -> list[str]:
    """Returns the files of a part: corpus.jsonl, perhaps packed, or those in a folder of this name."""
    plain = glob.glob(os.path.join(glob.escape(folder), f"{name}.json*"))
    inside = glob.glob(os.path.join(glob.escape(folder), name, "*.*"))
    return sorted(path for path in plain or inside if os.path.isfile(path))


def _folder(path: str) -> str:
    """Returns the folder that a path names, itself or by a file of judgments."""
    return path if os.path.isdir(path) else os.path.dirname(os.path.dirname(os.path.abspath(path)))


def _judgments(path: str) -> list[str]:
    """Returns the files of the judgments of all splits, or the one that is named."""
    if not os.path.isdir(path):
        return [path]
    return next(filter(None, (_parts(path, name) for name in _QRELS)), [])


def _check_one_split(path: str, judgments: list[str]) -> None:
    """Raises a ValueError for judgments of several splits, or of none."""
    splits = {re.split(r"[-.]", os.path.basename(file))[0] for file in judgments}
    if len(splits) != 1:
        raise ValueError(
            f"{path} holds judgments of {', '.join(sorted(splits)) or 'no split'}. Name the file of one, such as "
            f"--input={os.path.join(path, 'qrels', 'train.tsv')}."
        )


def _members(path: str) -> list[str]:
    folder = _folder(path)
    return [*_parts(folder, _CORPUS), *_parts(folder, _QUERIES), *_judgments(path)]


def _is_folder(path: str) -> bool:
    return bool(_parts(path, _CORPUS) and _parts(path, _QUERIES))


def _is_file(start: Start) -> bool:
    return _IS_QRELS.match(start.text) is not None and _is_folder(_folder(start.path))


BEIR = Format(
    "beir",
    "a BEIR or MTEB folder",
    'corpus.jsonl {"_id": "d1", "title": "", "text": "..."}, queries.jsonl {"_id": "q1", ...}, qrels/train.tsv',
    {"pairs": read_pairs, "passages": read_passages},
    _is_file,
    _is_folder,
    _members,
)
