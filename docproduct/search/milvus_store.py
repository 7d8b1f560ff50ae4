"""An index in Milvus, or in a file of Milvus Lite: the only file that imports pymilvus.

    NAME          small files in pieces, and which upload is the finished one
    NAME_ID       the rows of an upload

BM25 is a sparse vector of a row: its inner product with the words of a query is the score that the local index has.
Milvus's own BM25 cuts words in another way.

    Q queries, D width, k neighbors
"""

import base64
import contextlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

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

_SECONDS = 60.0  # of a call
_TEXT_BYTES = 65_535  # Milvus keeps no longer texts
_PIECE = 60_000  # characters of a file
_ROWS = 128  # of a request, which may have 64 MB
_NAME = re.compile(r"[A-Za-z_]\w{0,200}", re.ASCII)
_BUILT = {"M": 32, "efConstruction": 200}
_LEAST_EF = 128
_CURRENT, _WRITTEN, _LAYOUT = "current", "written", "layout"
_UNREACHED = "Check that it runs, the address, and the token, which is read from MILVUS_TOKEN, too."
# A sparse vector may not be empty. Words have numbers from 1.
_NO_WORD = {0: 1.0}

# Its errors are raised, too.
logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
logging.getLogger("milvus_lite").setLevel(logging.CRITICAL)


class MilvusStore:
    """An index in Milvus; see `search.store.Store`."""

    max_k = 16_384

    def __init__(self, address: Address):
        """Connects.

        Raises:
          ValueError: the address names no collection.
          StoreError: Milvus cannot be reached.
        """
        self.shown, self._address, self.layout = address.shown, address, NO_LAYOUT
        place, _, self._name = address.parts.path.rpartition("/")
        if not _NAME.fullmatch(self._name):
            raise ValueError(
                f"{self.shown} names no collection; expected one of letters, digits and _, such as "
                "milvus://localhost:19530/medquad or milvus:///folder/file.db/medquad."
            )
        options = {} if address.parts.hostname is None else self._of_server()
        with self._named("cannot be reached", _UNREACHED):
            self._client = MilvusClient(options.pop("uri", None) or self._file(place), timeout=_SECONDS, **options)

    def _of_server(self) -> dict[str, str]:
        parts, options = self._address.parts, self._address.options
        scheme = "https" if options.get("secure") == "true" else "http"
        token = options.get("token") or os.environ.get("MILVUS_TOKEN", "")
        if parts.username:
            token = f"{parts.username}:{parts.password or ''}"
        uri = f"{scheme}://{parts.hostname}:{parts.port or 19530}"
        return {"uri": uri, "token": token, "db_name": options.get("database", "")}

    def _file(self, path: str) -> str:
        if not path.endswith(".db"):
            raise ValueError(f"{self.shown} names no file; expected one whose name ends with .db, and a collection.")
        if importlib.util.find_spec("milvus_lite") is None:
            raise ValueError("A file needs Milvus Lite: pip install -e '.[cpu,milvus-lite]'. Or give a server.")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    @contextlib.contextmanager
    def _named(self, what: str = "failed", remedy: str = SEARCH_FAILED) -> Iterator[None]:
        """Names the store in an error of Milvus."""
        try:
            yield
        except (MilvusException, grpc.RpcError) as error:
            reason = getattr(error, "message", None) or error.details()
            raise StoreError(f"{self.shown} {what} ({self._address.without_secrets(reason)}). {remedy}") from None

    @property
    def _rows(self) -> str:
        return f"{self._name}_{self.layout.upload_id}"

    def current(self) -> str | None:
        """Returns the id of the finished upload; None if there is none."""
        with self._named():
            if not self._client.has_collection(self._name):
                return None
            self._client.load_collection(self._name)  # Milvus Lite begins with all of them released
            content = self._read(_CURRENT)
        return None if content is None else content.decode()

    def begin(self, layout: Layout) -> int:
        """Makes the collections or goes on with them; returns the number of rows that were written already.

        Raises:
          ValueError: Milvus cannot have a field of a text's name.
        """
        if wrong := [name for name in layout.texts if not _NAME.fullmatch(name) or name in FIELDS]:
            raise ValueError(
                f"Milvus has no field {wrong[0]!r}: expected letters, digits and _. Build the index without this "
                "column, or prepare it under another name."
            )
        self.layout, kept = layout, {self.current(), layout.upload_id}
        with self._named():
            self._create_files()
            for name in self._client.list_collections():
                upload = re.fullmatch(rf"{self._name}_([0-9a-f]{{12}})", name)
                if upload and upload[1] not in kept:
                    self._client.drop_collection(name)
            if not self._client.has_collection(self._rows):
                self._write(f"{layout.upload_id}/{_WRITTEN}", b"0")
            self._create_rows()
            return int(self._read(f"{layout.upload_id}/{_WRITTEN}") or 0)

    def _create_files(self) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("name", DataType.VARCHAR, is_primary=True, max_length=200)
        schema.add_field("content", DataType.VARCHAR, max_length=_TEXT_BYTES)
        schema.add_field("unused", DataType.FLOAT_VECTOR, dim=2)  # every collection has vectors
        self._create(self._name, schema, {"unused": ("FLAT", "L2", {})})

    def _create_rows(self) -> None:
        layout = self.layout
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        for name in FIELDS:
            kind = DataType.BOOL if name in ("first", "asked") else DataType.INT64
            schema.add_field(name, kind, is_primary=name == "position")
        for name in layout.texts:
            schema.add_field(name, DataType.VARCHAR, max_length=_TEXT_BYTES)
        indexes: dict[str, tuple[str, str, dict[str, int]]] = {
            name: ("INVERTED", "", {}) for name in ("pair_id", "question_group", "asked_group")
        }
        for side, width in layout.widths.items():
            schema.add_field(f"{side}_vector", DataType.FLOAT_VECTOR, dim=width)
            is_graph = layout.kind == HNSW
            indexes[f"{side}_vector"] = ("HNSW" if is_graph else "FLAT", "IP", _BUILT if is_graph else {})
        for side in layout.words:
            schema.add_field(f"{side}_words", DataType.SPARSE_FLOAT_VECTOR)
            indexes[f"{side}_words"] = ("SPARSE_INVERTED_INDEX", "IP", {})
        self._create(self._rows, schema, indexes)

    def _create(self, name: str, schema: Any, indexes: dict[str, tuple[str, str, dict[str, int]]]) -> None:
        if not self._client.has_collection(name):
            self._client.create_collection(name, schema=schema, consistency_level="Bounded")
        made = self._client.list_indexes(name)  # by an upload that was interrupted
        for field in indexes.keys() - {*made}:
            kind, metric, settings = indexes[field]
            params = MilvusClient.prepare_index_params()
            metric = {"metric_type": metric} if metric else {}
            params.add_index(field, kind, index_name=field, params=settings, **metric)
            self._client.create_index(name, params, sync=False)  # loading waits for it
        self._client.load_collection(name)

    def append(self, rows: Sequence[Row]) -> None:
        """Writes the next rows.

        Raises:
          ValueError: a text is too long.
        """
        for start in range(0, len(rows), _ROWS):
            part = [self._stored(row) for row in rows[start : start + _ROWS]]
            with self._named():
                self._client.upsert(self._rows, part)
        with self._named():
            self._write(f"{self.layout.upload_id}/{_WRITTEN}", str(rows[-1]["position"] + 1).encode())

    def _stored(self, row: Row) -> Row:
        """Returns a row as Milvus keeps it: it has no missing vector, and no empty sparse one."""
        for name in self.layout.texts:
            if (size := len(row[name].encode())) > _TEXT_BYTES:
                raise ValueError(
                    f"The {name} of pair {row['pair_id']} has {size} bytes; Milvus keeps texts of up to {_TEXT_BYTES}. "
                    "Prepare it as a document (--rows=passages), or upload to PostgreSQL."
                )
        missing = {
            f"{side}_vector": np.zeros(width, np.float32)
            for side, width in self.layout.widths.items()
            if row[f"{side}_vector"] is None
        }
        return row | missing | {f"{side}_words": row[f"{side}_words"] or _NO_WORD for side in self.layout.words}

    def finish(self, files: Mapping[str, bytes]) -> None:
        """Writes the files, and replaces the upload before, which is removed."""
        upload_id, before = self.layout.upload_id, self.current()
        files = {**files, _LAYOUT: json.dumps(self.layout._asdict()).encode()}
        with self._named():
            self._client.flush(self._rows)
            for name, content in files.items():
                self._write(f"{upload_id}/{name}", content)
            self._write(f"{upload_id}/files", json.dumps(list(files)).encode())
            self._write(_CURRENT, upload_id.encode())
            self._client.flush(self._name)
            if before and before != upload_id:
                self._client.drop_collection(f"{self._name}_{before}")
                self._client.delete(self._name, filter=f"name like {_literal(f'{before}/%')}")

    def open(self) -> dict[str, bytes]:
        """Returns the files of the finished upload.

        Raises:
          ValueError: there is none.
        """
        if (upload_id := self.current()) is None:
            raise ValueError(
                f"{self.shown} holds no finished index. Upload one: python -m docproduct.upload_index --index_dir=... "
                "--to=...; an upload that was interrupted goes on with the same command."
            )
        with self._named():
            names = json.loads(self._read(f"{upload_id}/files"))
            files = {name: self._read(f"{upload_id}/{name}") for name in names}
            self.layout = Layout(**json.loads(files.pop(_LAYOUT)))
            self._client.load_collection(self._rows)
        return files

    def _write(self, name: str, content: bytes) -> None:
        text = base64.b64encode(content).decode()
        pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)] or [""]
        # The piece with the number 0 is written last: it says how many there are.
        for number in reversed(range(len(pieces))):
            count = f"{len(pieces)}:" if number == 0 else ""
            row = {"name": f"{name}#{number}", "content": count + pieces[number], "unused": [0.0, 0.0]}
            self._client.upsert(self._name, [row])

    def _read(self, name: str) -> bytes | None:
        if (first := self._piece(f"{name}#0")) is None:
            return None
        count, _, text = first.partition(":")
        rest = (self._piece(f"{name}#{number}") or "" for number in range(1, int(count)))
        return base64.b64decode(text + "".join(rest))

    def _piece(self, name: str) -> str | None:
        found = self._client.query(
            self._name, filter=f"name == {_literal(name)}", output_fields=["content"], consistency_level="Strong"
        )
        return found[0]["content"] if found else None

    def nearest(self, side: str, vectors: np.ndarray, k: int, where: Filter | None) -> list[list[Neighbor]]:
        """Returns at most k rows near each query, [Q, D], the nearest first."""
        params = {"ef": max(k, _LEAST_EF)} if self.layout.kind == HNSW else {}
        with self._named():
            results = self._client.search(
                self._rows,
                data=vectors.tolist(),
                anns_field=f"{side}_vector",
                limit=k,
                filter=_joined(["asked == true"] if side == "question" else [], where),
                output_fields=list(Neighbor._fields),
                search_params={"metric_type": "IP", "params": params},
            )
        return [[Neighbor(*(hit["entity"][name] for name in Neighbor._fields)) for hit in hits] for hits in results]

    def by_words(
        self, side: str, weights: Mapping[int, float], k: int, where: Filter | None, among: Sequence[int] | None = None
    ) -> dict[int, float]:
        """Returns the scores of the k best pairs by id; see `search.store.Store`."""
        conditions = ["first == true"]
        if among is not None:
            conditions.append(f"pair_id in {_numbers(among)}")
        with self._named():
            (hits,) = self._client.search(
                self._rows,
                data=[{word: float(weight) for word, weight in weights.items()}],
                anns_field=f"{side}_words",
                limit=k,
                filter=_joined(conditions, where),
                output_fields=["pair_id"],
                search_params={"metric_type": "IP"},
            )
        return {hit["entity"]["pair_id"]: hit["distance"] for hit in hits}

    def asked(self, groups: Sequence[int], where: Filter | None) -> dict[int, set[int]]:
        """Returns the groups of the question of each pair that was asked in one of these groups, by its id."""
        numbers = _numbers(groups)
        conditions = ["first == true", f"(question_group in {numbers} or asked_group in {numbers})"]
        names = ["pair_id", "question_group", "asked_group"]
        with self._named():
            found = self._client.query(
                self._rows, filter=_joined(conditions, where), output_fields=names, limit=self.max_k
            )
        return {row["pair_id"]: {row["question_group"], row["asked_group"]} for row in found}

    def rows(self, pair_ids: Sequence[int]) -> list[Row]:
        """Returns all rows of some pairs, by their positions."""
        layout, found = self.layout, []
        names = [*FIELDS, *layout.texts, *(f"{side}_vector" for side in layout.widths)]
        for start in range(0, len(pair_ids), _ROWS):
            part = f"pair_id in {_numbers(pair_ids[start : start + _ROWS])}"
            with self._named():
                found += map(dict, self._client.query(self._rows, filter=part, output_fields=names))
        for row in found:
            for side in layout.widths:
                has_vector = side == "answer" or row["asked"]
                row[f"{side}_vector"] = np.array(row[f"{side}_vector"], np.float32) if has_vector else None
        return sorted(found, key=lambda row: row["position"])

    def close(self) -> None:
        """Ends the connection."""
        self._client.close()


def _joined(conditions: Sequence[str], where: Filter | None) -> str:
    """Returns an expression in which all conditions hold."""
    parts = list(conditions)
    if where:
        parts += [f"{name} in [{', '.join(map(_literal, texts))}]" for name, texts in where.texts.items()]
        parts += [f"{name} >= {_literal(text)}" for name, text in where.least.items()]
        parts += [f"{name} <= {_literal(text)}" for name, text in where.most.items()]
    return " and ".join(parts)


_ESCAPED = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


def _literal(text: str) -> str:
    """Returns a text as a string of an expression. Templates would need none, but Milvus Lite has no templates."""
    return f'"{text.translate(_ESCAPED)}"'


def _numbers(values: Sequence[int]) -> str:
    return f"[{', '.join(map(str, values))}]"
