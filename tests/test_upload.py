"""Uploads: whole or not at all, gone on with after an interruption, and refused where they would be wrong."""

import json

import numpy as np
import pytest

from docproduct.index import Index, compaction, upload
from docproduct.index.store_index import connect
from docproduct.search.changes import Change, ChangeStore
from docproduct.search.milvus_store import MilvusStore
from docproduct.search.store import StoreError
from tests import stores
from tests.commands import run

STORES = ["milvus", pytest.param("postgresql", marks=pytest.mark.long)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two indexes of 100 pairs, which have 199 passages."""
    folder = tmp_path_factory.mktemp("folders")
    for number in (1, 2):
        stores.write_index(folder / f"i{number}", 100, seed=number)
    return [str(folder / "i1"), str(folder / "i2")]


@pytest.fixture(scope="module", params=STORES)
def server(request, tmp_path_factory):
    """What stands before the name of an index in its address."""
    if request.param == "milvus":
        yield f"milvus://{tmp_path_factory.mktemp('milvus')}/lite.db/"
        return
    with stores.postgres_server() as address:
        yield f"{address}&index="


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    monkeypatch.setattr(upload, "_BATCH", 32)


def interrupt(monkeypatch, place, after):
    """Makes the upload fail behind some batches."""
    store, appended = connect(place), []
    store.close()
    kind = type(store)
    append = kind.append

    def failing(self, rows):
        if len(appended) == after:
            raise KeyboardInterrupt
        append(self, rows)
        appended.append(len(rows))

    monkeypatch.setattr(kind, "append", failing)
    return appended


def check_equal(folder, place):
    local, index = Index.open_vectors(folder, "cpu"), stores.opened(place)
    vectors = stores.unit(np.random.default_rng(0), 2)
    expected = local.search_many(vectors, 20, queries=["asthma cough", "fever"])
    stores.same_results(expected, index.search_many(vectors, 20, queries=["asthma cough", "fever"]))
    store = connect(place)
    store.open()
    assert len(store.rows(local.pairs.column("pair_id").to_pylist())) == len(local.vectors("answer")) == 199
    store.close()
    return index


def test_an_interrupted_upload_does_not_answer_and_goes_on(server, folders, monkeypatch, caplog):
    place = f"{server}interrupted"
    with monkeypatch.context() as patch:
        appended = interrupt(patch, place, 3)
        with pytest.raises(KeyboardInterrupt):
            upload.upload(folders[0], place)
    with pytest.raises(ValueError, match="holds no finished index.*goes on with the same command"):
        stores.opened(place)
    with monkeypatch.context() as patch:
        again = interrupt(patch, place, -1)
        assert upload.upload(folders[0], place) == {"store": place, "kind": "flat", "rows": 199}
    assert sum(appended) + sum(again) == 199
    check_equal(folders[0], place).close()


def test_another_index_replaces_the_first_when_it_is_complete(server, folders, monkeypatch):
    place = f"{server}replaced"
    upload.upload(folders[0], place)
    upload.upload(folders[0], place)  # nothing is left to do
    with pytest.raises(FileExistsError, match="holds another index. Give another name, or --overwrite"):
        upload.upload(folders[1], place)
    first = check_equal(folders[0], place)
    with monkeypatch.context() as patch:
        interrupt(patch, place, 1)
        with pytest.raises(KeyboardInterrupt):
            upload.upload(folders[1], place, overwrite=True)
    check_equal(folders[0], place).close()  # still
    # An upload that was interrupted is removed by the next one of another index.
    upload.upload(folders[0], place, "hnsw", overwrite=True)
    upload.upload(folders[1], place, overwrite=True)
    check_equal(folders[1], place).close()
    store = connect(place)
    if isinstance(store, MilvusStore):
        tables = [name for name in store._client.list_collections() if name.startswith("replaced_")]
        assert tables == [f"replaced_{store.current()}"]
    else:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'replaced' ORDER BY tablename"
        tables = [row["tablename"] for row in store._connection.execute(query).fetchall()]
        assert tables == ["files", f"rows_{store.current()}", f"words_{store.current()}"]
    store.close()
    with pytest.raises(StoreError, match="If its index was replaced, load it again"):
        first.search_many(np.ones((1, 12)), 1)
    first.close()


def test_rows_are_written_in_order_from_any_position(folders):
    folder = upload._Folder(folders[0])
    rows = [row for batch in folder.rows(0) for row in batch]
    assert [row["position"] for row in rows] == list(range(199))
    # Pair n has 1 + n % 3 passages.
    assert [row["first"] for row in rows[:7]] == [True, True, False, True, False, False, True]
    for start in (1, 2, 3, 31, 32, 33, 150, 199):
        late = [row for batch in folder.rows(start) for row in batch]
        assert [(row["position"], row["first"], row["asked"], row["pair_id"]) for row in late] == [
            (row["position"], row["first"], row["asked"], row["pair_id"]) for row in rows[start:]
        ]
        assert [row["answer_words"] for row in late] == [row["answer_words"] for row in rows[start:]]


def test_indexes_that_a_store_cannot_hold_are_refused(tmp_path, folders):
    place = f"milvus://{tmp_path}/lite.db/refused"
    with pytest.raises(ValueError, match="There is no folder"):
        upload.upload(str(tmp_path / "none"), place)
    stores.write_index(tmp_path / "sq8", 20, factory="SQ8")
    with pytest.raises(ValueError, match="--factory=SQ8, which keeps its vectors in part only. Build it with --fac"):
        upload.upload(str(tmp_path / "sq8"), place)
    stores.write_index(tmp_path / "live", 20)
    changes = ChangeStore(compaction.live_dir(str(tmp_path / "live")), "encoder")
    changes.write([Change(5, None)])
    with pytest.raises(BlockingIOError, match="Another process is writing"):
        upload.upload(str(tmp_path / "live"), place)
    changes.close()
    with pytest.raises(ValueError, match="does not hold 1 changes that .*live.live has"):
        upload.upload(str(tmp_path / "live"), place)


def test_a_rescored_index_is_uploaded_with_its_exact_vectors(tmp_path):
    folder, place = str(tmp_path / "i"), f"milvus://{tmp_path}/lite.db/rescored"
    stores.write_index(folder, 100, factory="SQ4,RFlat", search_parameters="k_factor_rf=50")
    upload.upload(folder, place)
    check_equal(folder, place).close()


def test_a_text_that_milvus_cannot_keep_is_refused(folders, tmp_path):
    store = connect(f"milvus://{tmp_path}/lite.db/long")
    folder = upload._Folder(folders[0])
    rows = next(folder.rows(0))
    rows[1]["answer"] = "é" * 40_000
    assert store.begin(folder.layout("flat")) == 0
    message = f"answer of pair {rows[1]['pair_id']} has 80000 bytes; Milvus keeps texts of up to 65535"
    with pytest.raises(ValueError, match=message):
        store.append(rows)
    layout = folder.layout("flat")._replace(texts=["question", "my column"])
    with pytest.raises(ValueError, match="Milvus has no field 'my column'"):
        store.begin(layout)
    store.close()


def test_the_command_ends_with_json_and_shows_no_password(folders, tmp_path):
    place = f"milvus://{tmp_path}/lite.db/command"
    result = run("docproduct.upload_index", f"--index_dir={folders[0]}", f"--to={place}")
    assert json.loads(result.stdout) == {"store": place, "kind": "flat", "rows": 199}
    for address in (
        "milvus://me:s3cret@127.0.0.1:1/x",
        "milvus://127.0.0.1:1/x?token=s3cret",
        "postgresql://me:s3cret@127.0.0.1:1/x",
        "postgresql://me@127.0.0.1:1/x?password=s3cret",
        "postgresql://me:s3cret@127.0.0.1:port/x",
    ):
        result = run("docproduct.upload_index", f"--index_dir={folders[0]}", f"--to={address}")
        assert result.returncode == 1
        assert "s3cret" not in result.stdout + result.stderr
        assert "cannot be reached" in result.stderr or "is no address of a store; expected milvus://" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
