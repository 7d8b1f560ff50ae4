"""An index in a database, for searches past one machine; milvus_store.py and postgres_store.py fulfil the protocol.

An `Engine` (engine.py) is told which ids a filter allows. Of a hundred million vectors these may be millions, so a
store gets the filter itself, and holds texts, vectors and words together: one row a passage of an answer.

    position                        number of the row, from 0
    pair_id answer_group question_group
    asked_group                     group of the question as it is asked; see stored.py
    first                           whether it is the first passage of its pair
    asked                           whether it is the first one, and the pair has a question
    question answer source ...      the texts of the pair
    question_vector answer_vector   of the sides that the index has; a question's only where `asked`
    question_words answer_words     with BM25, what each word adds to the score; only where `first`

    Q queries, D width, k neighbors
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import numpy as np

from docproduct.search.filters import Filter

MILVUS, POSTGRES = "milvus", "postgresql"
FLAT, HNSW = "flat", "hnsw"
FIELDS = ("position", "pair_id", "answer_group", "question_group", "asked_group", "first", "asked")
_SECRET = re.compile(r"((?:^|&)(?:password|sslpassword|token)=)[^&]*", re.IGNORECASE)
_PLACES = f"{MILVUS}://host:19530/name, {MILVUS}:///folder/file.db/name or {POSTGRES}://user@host/database?index=name"

Row = dict[str, Any]  # the fields above: ints, bools, texts, [D] float32 or None, and {word number: score}


SEARCH_FAILED = "Check that it runs. If its index was replaced, load it again: start anew, or kill -HUP of a service."


class StoreError(OSError):
    """The database cannot be reached, or failed."""


class Neighbor(NamedTuple):
    """A row that is near a query."""

    pair_id: int
    answer_group: int


class Layout(NamedTuple):
    """What the rows of an upload hold.

    Attributes:
      upload_id: Names the upload; equal for the same index and layout.
      kind: flat compares every vector; hnsw is a graph, which is fast and approximate.
      texts: Names of the texts.
      widths: Components of a vector, D, of each side that has vectors.
      words: The sides that have word scores.
    """

    upload_id: str
    kind: str
    texts: Sequence[str]
    widths: Mapping[str, int]
    words: Sequence[str]


NO_LAYOUT = Layout("", FLAT, (), {}, ())


class Address(NamedTuple):
    """Where a store is.

    Attributes:
      parts: The parts of the address.
      options: What stands behind the question mark.
      shown: The address without passwords, for messages.
    """

    parts: SplitResult
    options: dict[str, str]
    shown: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Reads an address.

        Raises:
          ValueError: it is of another form.
        """
        place, mark, query = text.partition("?")
        shown = re.sub(r"(://[^/@:]*:).*@", r"\1***@", place) + mark + _SECRET.sub(r"\1***", query)
        try:
            parts = urlsplit(text)
            _ = parts.port
        except ValueError:
            raise ValueError(f"{shown} is no address of a store; expected {_PLACES}.") from None
        if parts.scheme not in (MILVUS, POSTGRES):
            raise ValueError(f"{shown} is no address of a store; expected {_PLACES}.")
        return cls(parts, {name: values[-1] for name, values in parse_qs(parts.query).items()}, shown)

    def without_secrets(self, message: object) -> str:
        """Returns a message without the passwords of this address."""
        text = str(message)
        names = ("password", "sslpassword", "token")
        given = [self.parts.password or "", *(self.options.get(name, "") for name in names)]
        for secret in filter(None, (form for each in given for form in (each, unquote(each)))):
            text = text.replace(secret, "***")
        return text


def is_address(path: str) -> bool:
    """Returns whether a path names a store, and not a folder."""
    return re.match(r"[a-z+]+://", path) is not None


class Store(Protocol):
    """A database that holds an index: an upload is written whole, and then takes the place of the one before.

    All methods raise a StoreError if the database cannot be reached, or fails.

    Attributes:
      shown: The address, without passwords.
      max_k: Rows that a search returns at most.
      layout: What the rows hold; known after `begin` or `open`.
    """

    shown: str
    max_k: int
    layout: Layout

    def current(self) -> str | None:
        """Returns the id of the finished upload; None if there is none."""

    def begin(self, layout: Layout) -> int:
        """Makes room for an upload, or goes on with it; returns the number of rows that were written already.

        Other uploads that were not finished are removed.

        Raises:
          ValueError: the database cannot hold rows of this layout.
        """

    def append(self, rows: Sequence[Row]) -> None:
        """Writes the next rows.

        Raises:
          ValueError: a text is too long for the database.
        """

    def finish(self, files: Mapping[str, bytes]) -> None:
        """Keeps small files with the rows, and replaces the upload before, which is removed."""

    def open(self) -> dict[str, bytes]:
        """Returns the files of the finished upload, whose rows the methods below search.

        Raises:
          ValueError: there is none.
        """

    def nearest(self, side: str, vectors: np.ndarray, k: int, where: Filter | None) -> list[list[Neighbor]]:
        """Returns the rows nearest to each query, [Q, D], by inner product, the nearest first; at most k of each."""

    def by_words(
        self, side: str, weights: Mapping[int, float], k: int, where: Filter | None, among: Sequence[int] | None = None
    ) -> dict[int, float]:
        """Returns the BM25 score of the k best pairs by id, the best first; pairs that share no word are left out.

        Args:
          side: Whose words are compared.
          weights: How often each word of the query stands there, by its number, from 1; at least one.
          k: Number of pairs.
          where: Conditions on the pairs.
          among: Ids of the pairs that may be returned; None: all.
        """

    def asked(self, groups: Sequence[int], where: Filter | None) -> dict[int, set[int]]:
        """Returns the pairs whose question is in one of these groups: {id: its question_group and its asked_group}."""

    def rows(self, pair_ids: Sequence[int]) -> list[Row]:
        """Returns all rows of some pairs, by their positions, without their words."""

    def close(self) -> None:
        """Ends the connection."""
