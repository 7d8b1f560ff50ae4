"""An index in PostgreSQL with pgvector: the only file that imports psycopg.

A schema of the index's name holds:

    files       small files, and which upload is the finished one
    rows_ID     the rows of an upload
    words_ID    what each word adds to the BM25 score of a pair: an inverted index

    Q queries, D width, k neighbors
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import numpy as np
import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from docproduct.search.filters import Filter
from docproduct.search.store import (
    FIELDS,
    HNSW,
    NO_LAYOUT,
    SEARCH_FAILED,
    Address,
    Layout,
    Neighbor,
    Row,
    StoreError,
)

_DEFAULT_NAME = "docproduct"
_NAME_BYTES = 63  # PostgreSQL cuts longer ones
_CURRENT, _LAYOUT = "current", "layout"
_MARK = "docproduct index"  # comment on a schema that an upload made
_INDEXED = ("pair_id", "question_group", "asked_group")
_SETTINGS = ("SET hnsw.ef_search = 400", "SET hnsw.iterative_scan = strict_order")
_UNREACHED = "Check that it runs, the address, and the password, which is read from PGPASSWORD and ~/.pgpass, too."
_UNPREPARED = "The user must be allowed to create a schema, and pgvector must be there: CREATE EXTENSION vector."
_WIDEST_HNSW = 2_000  # components: pgvector builds no graph of wider vectors
_FILTERED_HNSW = (0, 8)  # pgvector before it drops what a filter refuses only after the search


class PostgresStore:
    """An index in PostgreSQL; see `search.store.Store`."""

    max_k = 16_384

    def __init__(self, address: Address):
        """Connects.

        Raises:
          ValueError: the name of the index is too long.
          StoreError: the server cannot be reached.
        """
        self.shown, self._address, self.layout = address.shown, address, NO_LAYOUT
        options = dict(address.options)
        self._name = options.pop("index", _DEFAULT_NAME)
        if not 0 < len(self._name.encode()) <= _NAME_BYTES:
            raise ValueError(
                f"{self.shown} has an index name of other than 1 to {_NAME_BYTES} bytes. Give a shorter one."
            )
        self._conninfo = f"postgresql://{address.parts.netloc}{address.parts.path}?{urlencode(options)}"
        with self._named("cannot be reached", _UNREACHED):
            self._connection = self._connect()

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(self._conninfo, autocommit=True, connect_timeout=10, row_factory=dict_row)
        connection.execute("SET client_min_messages = warning")
        return connection

    @contextlib.contextmanager
    def _named(self, what: str = "failed", remedy: str = SEARCH_FAILED) -> Iterator[None]:
        """Names the store in an error of PostgreSQL."""
        try:
            yield
        except psycopg.DataError as error:
            raise ValueError(f"{self.shown} refused a text ({self._reason(error)}).") from None
        except psycopg.Error as error:
            raise StoreError(f"{self.shown} {what} ({self._reason(error)}). {remedy}") from None

    def _reason(self, error: psycopg.Error) -> str:
        return self._address.without_secrets(error).strip().partition("\n")[0]

    def _read(self, query: sql.Composable, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Returns the rows of a query. A connection that was lost, as when the server restarts, is made again once."""
        with self._named():
            try:
                return self._connection.execute(query, parameters).fetchall()
            except psycopg.OperationalError:
                if not self._connection.closed:
                    raise
            self._connection = self._connect()
            self._prepare_search()
            return self._connection.execute(query, parameters).fetchall()

    def _table(self, kind: str, upload_id: str = "") -> sql.Identifier:
        """Returns the name of a table; of the rows or the words, without an id, those of this upload."""
        return sql.Identifier(
            self._name, "files" if kind == "files" else f"{kind}_{upload_id or self.layout.upload_id}"
        )

    def current(self) -> str | None:
        """Returns the id of the finished upload; None if there is none."""
        tables = sql.SQL("SELECT FROM pg_tables WHERE schemaname = %s AND tablename = 'files'")
        content = self._file(_CURRENT) if self._read(tables, [self._name]) else None
        return None if content is None else content.decode()

    def _file(self, name: str) -> bytes | None:
        query = sql.SQL("SELECT content FROM {} WHERE name = %s").format(self._table("files"))
        found = self._read(query, [name])
        return bytes(found[0]["content"]) if found else None

    def begin(self, layout: Layout) -> int:
        """Makes the tables or goes on with them; returns the number of rows that were written already.

        Raises:
          ValueError: a text has the name of a field, the vectors are too wide for a graph, or the schema belongs to
            something else.
          BlockingIOError: another process uploads to this index.
        """
        if taken := sorted({*layout.texts} & {*FIELDS}):
            raise ValueError(f"A row has a field {taken[0]!r} already. Build the index without this column.")
        if layout.kind == HNSW and (width := max(layout.widths.values())) > _WIDEST_HNSW:
            raise ValueError(
                f"pgvector's hnsw takes vectors of up to {_WIDEST_HNSW} components; received {width}. Give --kind=flat."
            )
        self.layout = layout
        with self._named("cannot hold an index", _UNPREPARED):
            if not self._read(sql.SQL("SELECT pg_try_advisory_lock(hashtext(%s)) AS held"), [self._name])[0]["held"]:
                raise BlockingIOError(f"Another process uploads to {self.shown}. Wait for it, or end it.")
            self._make_extension(layout)
            self._make_schema()
            execute = self._connection.execute
            table = self._table("files")
            execute(sql.SQL("CREATE TABLE IF NOT EXISTS {} (name text PRIMARY KEY, content bytea)").format(table))
            self._drop_all_but({self.current(), layout.upload_id})
            execute(self._rows_definition())
            words = "CREATE TABLE IF NOT EXISTS {} (side text, word integer, pair_id bigint, score real)"
            execute(sql.SQL(words).format(self._table("words")))
            written = sql.SQL("SELECT coalesce(max(position) + 1, 0) AS number FROM {}").format(self._table("rows"))
            return self._read(written)[0]["number"]

    def _make_extension(self, layout: Layout) -> None:
        version = "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
        if not self._connection.execute(version).fetchall():
            self._connection.execute("CREATE EXTENSION vector")
        found = self._connection.execute(version).fetchone()["extversion"]
        if layout.kind == HNSW and tuple(map(int, found.split(".")[:2])) < _FILTERED_HNSW:
            raise ValueError(
                f"{self.shown} has pgvector {found}; --kind=hnsw needs 0.8 or later. Update it, or give --kind=flat."
            )

    def _make_schema(self) -> None:
        query = sql.SQL("SELECT obj_description(oid, 'pg_namespace') AS mark FROM pg_namespace WHERE nspname = %s")
        if not (found := self._read(query, [self._name])):
            name = sql.Identifier(self._name)
            with self._connection.transaction():
                self._connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
                self._connection.execute(sql.SQL("COMMENT ON SCHEMA {} IS {}").format(name, _MARK))
        elif found[0]["mark"] != _MARK:
            raise ValueError(
                f"The database has a schema {self._name!r} that is no index. Give the index another name: ?index=NAME."
            )

    def _drop_all_but(self, kept: set[str | None]) -> None:
        tables = sql.SQL("SELECT tablename AS name FROM pg_tables WHERE schemaname = %s")
        for row in self._read(tables, [self._name]):
            upload = re.fullmatch(r"(?:rows|words)_([0-9a-f]{12})", row["name"])
            if upload and upload[1] not in kept:
                self._connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(self._name, row["name"])))

    def _rows_definition(self) -> sql.Composed:
        layout = self.layout
        types = dict.fromkeys(FIELDS, "bigint") | {
            "position": "bigint PRIMARY KEY",
            "first": "boolean",
            "asked": "boolean",
        }
        types |= dict.fromkeys(layout.texts, 'text COLLATE "C"')  # in the order of code points, as filters compare them
        types |= {f"{side}_vector": f"vector({width:d})" for side, width in layout.widths.items()}
        columns = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in types.items()]
        return sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})").format(self._table("rows"), sql.SQL(", ").join(columns))

    def append(self, rows: Sequence[Row]) -> None:
        """Writes the next rows, all or none.

        Raises:
          ValueError: a text holds a character that PostgreSQL does not keep.
        """
        layout = self.layout
        vectors = [f"{side}_vector" for side in layout.widths]
        names = [*FIELDS, *layout.texts]
        columns = sql.SQL(", ").join(map(sql.Identifier, [*names, *vectors]))
        copy_rows = sql.SQL("COPY {} ({}) FROM STDIN").format(self._table("rows"), columns)
        copy_words = sql.SQL("COPY {} (side, word, pair_id, score) FROM STDIN").format(self._table("words"))
        with self._named(), self._connection.transaction(), self._connection.cursor() as cursor:
            with cursor.copy(copy_rows) as copy:
                for row in rows:
                    copy.write_row([*(row[name] for name in names), *(_text(row[name]) for name in vectors)])
            with cursor.copy(copy_words) as copy:
                for row in rows:
                    for side in layout.words:
                        for word, score in row[f"{side}_words"].items():
                            copy.write_row([side, word, row["pair_id"], score])

    def finish(self, files: Mapping[str, bytes]) -> None:
        """Builds the indexes, writes the files, and replaces the upload before, which is removed."""
        layout, rows, words = self.layout, self._table("rows"), self._table("words")
        files = {f"{layout.upload_id}/{name}": content for name, content in files.items()}
        files |= {f"{layout.upload_id}/{_LAYOUT}": json.dumps(layout._asdict()).encode()}
        files |= {_CURRENT: layout.upload_id.encode()}
        indexed = [(name, rows, sql.SQL("({})").format(sql.Identifier(name))) for name in _INDEXED]
        indexed.append(("words", words, sql.SQL("(side, word, pair_id) INCLUDE (score)")))
        if layout.kind == HNSW:
            graph = sql.SQL("USING hnsw ({} vector_ip_ops) WITH (m = 32, ef_construction = 128)")
            names = [f"{side}_vector" for side in layout.widths]
            indexed += [(name, rows, graph.format(sql.Identifier(name))) for name in names]
        with self._named():
            execute = self._connection.execute
            for name, table, how in indexed:
                index = sql.Identifier(f"{name}_key_{layout.upload_id}")
                execute(sql.SQL("CREATE INDEX IF NOT EXISTS {} ON {} {}").format(index, table, how))
            for table in (rows, words):
                execute(sql.SQL("VACUUM ANALYZE {}").format(table))  # without it, an index alone would not do
            with self._connection.transaction():
                execute(sql.SQL("DELETE FROM {}").format(self._table("files")))
                for name, content in files.items():
                    execute(sql.SQL("INSERT INTO {} VALUES (%s, %s)").format(self._table("files")), [name, content])
            self._drop_all_but({layout.upload_id})

    def open(self) -> dict[str, bytes]:
        """Returns the files of the finished upload.

        Raises:
          ValueError: there is none.
        """
        if (upload_id := self.current()) is None:
            raise ValueError(
                f"{self.shown} holds no finished index {self._name!r}. Upload one: python -m docproduct.upload_index "
                "--index_dir=... --to=...; an upload that was interrupted goes on with the same command."
            )
        prefix = f"{upload_id}/"
        query = sql.SQL("SELECT name, content FROM {} WHERE starts_with(name, %s)").format(self._table("files"))
        files = {row["name"].removeprefix(prefix): bytes(row["content"]) for row in self._read(query, [prefix])}
        self.layout = Layout(**json.loads(files.pop(_LAYOUT)))
        self._prepare_search()
        return files

    def _prepare_search(self) -> None:
        if self.layout.kind == HNSW:
            with self._named():
                self._connection.execute("SELECT NULL::vector")  # loads the extension, which defines the settings
                for setting in _SETTINGS:
                    self._connection.execute(setting)

    def nearest(self, side: str, vectors: np.ndarray, k: int, where: Filter | None) -> list[list[Neighbor]]:
        """Returns at most k rows near each query, [Q, D], the nearest first."""
        condition, values = _condition(["asked"] if side == "question" else [], where)
        # With a second key of the order, PostgreSQL would not use the graph.
        last = sql.SQL("" if self.layout.kind == HNSW else ", position")
        query = sql.SQL("SELECT pair_id, answer_group FROM {} WHERE {} ORDER BY {} <#> %s::vector{} LIMIT %s")
        query = query.format(self._table("rows"), condition, sql.Identifier(f"{side}_vector"), last)
        results = (self._read(query, [*values, _text(vector), k]) for vector in vectors)
        return [[Neighbor(**row) for row in rows] for rows in results]

    def by_words(
        self, side: str, weights: Mapping[int, float], k: int, where: Filter | None, among: Sequence[int] | None = None
    ) -> dict[int, float]:
        """Returns the scores of the k best pairs by id; see `search.store.Store`."""
        condition, values = _condition(["first"], where)
        rows = sql.SQL("SELECT pair_id FROM {} WHERE {}").format(self._table("rows"), condition)
        query = sql.SQL(
            "SELECT pair_id, sum(score * weight) AS score FROM {} "
            "JOIN unnest(%s::integer[], %s::real[]) AS asked (word, weight) USING (word) "
            "WHERE side = %s {} {} GROUP BY pair_id ORDER BY score DESC LIMIT %s"
        ).format(
            self._table("words"),
            sql.SQL("AND pair_id IN ({})").format(rows) if where else sql.SQL(""),
            sql.SQL("" if among is None else "AND pair_id = ANY(%s)"),
        )
        values = [list(weights), list(weights.values()), side, *(values if where else ())]
        values += [k] if among is None else [list(among), k]
        return {row["pair_id"]: row["score"] for row in self._read(query, values)}

    def asked(self, groups: Sequence[int], where: Filter | None) -> dict[int, set[int]]:
        """Returns the groups of the question of each pair that was asked in one of these groups, by its id."""
        condition, values = _condition(["first", "(question_group = ANY(%s) OR asked_group = ANY(%s))"], where)
        query = sql.SQL("SELECT pair_id, question_group, asked_group FROM {} WHERE {} ORDER BY position LIMIT %s")
        query = query.format(self._table("rows"), condition)
        found = self._read(query, [list(groups), list(groups), *values, self.max_k])
        return {row["pair_id"]: {row["question_group"], row["asked_group"]} for row in found}

    def rows(self, pair_ids: Sequence[int]) -> list[Row]:
        """Returns all rows of some pairs, by their positions."""
        vectors = [f"{side}_vector" for side in self.layout.widths]
        columns = [sql.Identifier(name) for name in (*FIELDS, *self.layout.texts)]
        columns += [sql.SQL("vector_send({0}) AS {0}").format(sql.Identifier(name)) for name in vectors]
        query = sql.SQL("SELECT {} FROM {} WHERE pair_id = ANY(%s) ORDER BY position")
        found = self._read(query.format(sql.SQL(", ").join(columns), self._table("rows")), [list(pair_ids)])
        for row in found:
            row |= {name: _vector(row[name]) for name in vectors}
        return found

    def close(self) -> None:
        """Ends the connection."""
        self._connection.close()


def _condition(conditions: Sequence[str], where: Filter | None) -> tuple[sql.Composable, list[Any]]:
    """Returns an expression in which all conditions hold, and its parameters."""
    parts: list[sql.Composable] = [sql.SQL(condition) for condition in conditions]
    values: list[Any] = []
    if where:
        compared = {"= ANY(%s)": where.texts, ">= %s": where.least, "<= %s": where.most}
        for comparison, of_columns in compared.items():
            for name, value in of_columns.items():
                parts.append(sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(comparison)))
                values.append(value if isinstance(value, str) else list(value))
    return sql.SQL(" AND ").join(parts) if parts else sql.SQL("true"), values


def _text(vector: np.ndarray | None) -> str | None:
    """Returns a vector, [D] float32, as pgvector reads it, without a rounding error."""
    return None if vector is None else f"[{','.join(map(repr, vector.tolist()))}]"


def _vector(sent: bytes | None) -> np.ndarray | None:
    """Returns a vector, [D] float32, as pgvector sends it: its width and a zero of 2 bytes, then big-endian floats."""
    return None if sent is None else np.frombuffer(sent, ">f4", offset=4).astype(np.float32)
