"""An index in Milvus Lite and in PostgreSQL finds and decides what its folder does."""

import dataclasses
import gc
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest

from docproduct.index import Index
from docproduct.index.results import SearchResult
from docproduct.index.store_index import connect, open_index
from docproduct.index.upload import upload
from docproduct.search.fusion import HYBRIDS
from docproduct.search.milvus_store import MilvusStore
from docproduct.search.postgres_store import PostgresStore
from docproduct.search.store import StoreError
from tests import stores

STORES = ["milvus", pytest.param("postgresql", marks=pytest.mark.long)]
FILTERS = [
    [],
    ["source=NHS"],
    [f"source={stores.SOURCES[2]}", f"source={stores.SOURCES[3]}", "date>=2024-01-01", "date<=2024-06-30"],
    ["date=", "focus="],
    ["focus>=m"],
    ["source=a\nb\t\\\r'"],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An index of pairs, some of several passages, and of documents."""
    path = tmp_path_factory.mktemp("folder") / "index"
    stores.write_index(path, num_documents=60)
    return str(path)


@pytest.fixture(scope="module", params=STORES)
def address(request, folder, tmp_path_factory):
    """Where the folder was uploaded."""
    if request.param == "milvus":
        place = f"milvus://{tmp_path_factory.mktemp('milvus')}/lite.db/medquad"
        upload(folder, place)
        yield place
        return
    with stores.postgres_server() as server:
        place = f"{server}&index=medquad"
        upload(folder, place)
        yield place


@pytest.fixture(scope="module")
def both(folder, address):
    """The index in its folder, and in the store."""
    index = stores.opened(address)
    yield Index.open_vectors(folder, "cpu"), index
    index.close()


@pytest.mark.parametrize("hybrid", HYBRIDS)
def test_searches_find_what_the_folder_finds(both, hybrid, monkeypatch):
    for index in both:
        monkeypatch.setattr(index, "settings", dataclasses.replace(index.settings, hybrid=hybrid))
    asked = both[0].pairs.headings[4].replace("&amp;", "&")
    queries = ["asthma fever fever", asked, "words of no text"]
    draw = np.random.default_rng(3)
    for side, conditions, k in zip(["answer", "question"] * 3, FILTERS, [10, 3, 40] * 2, strict=True):
        vectors, texts = stores.unit(draw, 3), None if hybrid == "none" else queries
        expected = both[0].search_many(vectors, k, side, texts, conditions)
        stores.same_results(expected, both[1].search_many(vectors, k, side, texts, conditions))


def test_vectors_and_texts_are_those_of_the_folder(both, address):
    local, _ = both
    store = connect(address)
    store.open()
    table = local.pairs.table()
    pair_ids = table["pair_id"].to_pylist()
    rows = store.rows(pair_ids)
    store.close()
    assert [row["pair_id"] for row in rows if row["first"]] == pair_ids
    np.testing.assert_allclose(np.stack([row["answer_vector"] for row in rows]), local.vectors("answer"), atol=1e-5)
    questions = [row["question_vector"] for row in rows if row["asked"]]
    np.testing.assert_allclose(np.stack(questions), local.vectors("question"), atol=1e-5)
    assert [row["answer"] for row in rows if row["first"]] == table["answer"].to_pylist()
    assert all(row["question_vector"] is None for row in rows if not row["asked"])


def test_what_a_service_asks_of_the_index_equals_the_folder(both):
    local, index = both
    for name in ("num_answers", "num_documents", "sides", "has_questions", "threshold"):
        assert getattr(index, name) == getattr(local, name), name
    assert index.pairs.columns == local.pairs.columns
    assert index.sources() == local.sources() == sorted(stores.SOURCES)
    assert index.longest_answers(5) == local.longest_answers(5)
    assert {*index.questions()} <= {*local.questions()}
    pair_id = local.pairs[7]["pair_id"]
    assert index.texts(pair_id) == local.texts(pair_id)
    assert index.texts(12) is None
    for question in (local.pairs.headings[9].replace("&amp;", "&"), local.pairs.headings[9], "guide", "what?"):
        assert index.is_stored(question) == local.is_stored(question), question
    assert index.is_stored("Guide")
    assert not index.is_stored("what?")
    for call in (index.topics, index.searched_answers, lambda: index.vectors("answer")):
        with pytest.raises(ValueError, match="is a store, which does not list its pairs. Give the index folder"):
            call()


@pytest.mark.parametrize(
    "text", ['NHS" or source != "', "NHS' OR 'a'='a", "NHS\\", '\\" or true or source == "', "%s", "{}", "x\0y"]
)
def test_a_filter_is_a_text_and_nothing_else(both, text):
    vector = np.ones((1, stores.WIDTH))
    conditions = [f"source={text}", f"date<={text}"]
    if "\0" in text and not isinstance(both[1]._store, MilvusStore):
        with pytest.raises(ValueError, match="refused a text"):
            both[1].search_many(vector, 5, conditions=conditions[:1])
        return
    assert both[1].search_many(vector, 5, conditions=conditions[:1]) == [SearchResult([], -np.inf)]
    expected = both[0].search_many(vector, 5, conditions=conditions[1:])
    stores.same_results(expected, both[1].search_many(vector, 5, conditions=conditions[1:]))


def test_wrong_searches_and_encoders_are_refused(both, address):
    with pytest.raises(ValueError, match=r"has shape \(5,\); expected \(12,\)"):
        both[1].search_many(np.ones((2, 5)), 3)
    with pytest.raises(ValueError, match="k is 999; expected 1 to"):
        both[1].search_many(np.ones((2, 12)), 999)
    with pytest.raises(ValueError, match="no column 'url' to filter by"):
        both[1].search_many(np.ones((2, 12)), 3, conditions=["url=x"])
    other = SimpleNamespace(fingerprint=lambda: "of another", tokenizer=None)
    with pytest.raises(ValueError, match=r"medquad was built with the encoder 'random' \(fingerprint encoder\)"):
        open_index(address, other)
    open_index(address, SimpleNamespace(fingerprint=lambda: "encoder", tokenizer=None)).close()


def test_a_closed_store_is_named(address):
    index = stores.opened(address)
    index._store.shown = "the address"
    index.close()
    if address.startswith("milvus"):
        with pytest.raises(StoreError, match="the address failed .* Check that it runs"):
            index.search_many(np.ones((1, 12)), 1)
    else:  # PostgreSQL may have been started again
        assert len(index.search_many(np.ones((1, 12)), 1)[0].hits) == 1
        index.close()


def test_an_index_that_nobody_uses_any_more_ends_its_connection(address, monkeypatch):
    store = MilvusStore if address.startswith("milvus") else PostgresStore
    closed, close = [], store.close
    monkeypatch.setattr(store, "close", lambda self: closed.append(self) or close(self))
    index = stores.opened(address)
    asked = index  # by a question that goes on when another index was loaded
    del index
    gc.collect()
    assert len(asked.search_many(np.ones((1, stores.WIDTH)), 1)[0].hits) == 1
    assert not closed
    del asked
    gc.collect()
    assert len(closed) == 1


def test_a_file_of_milvus_lite_opens_in_a_new_process(folder, tmp_path):
    place = f"milvus://{tmp_path}/lite.db/again"
    upload(folder, place)
    store = connect(place)
    for name in store._client.list_collections():
        store._client.release_collection(name)  # as they are in a new process
    store.close()
    index = stores.opened(place)
    assert len(index.search_many(np.ones((1, stores.WIDTH)), 3)[0].hits) == 3
    index.close()


@pytest.mark.long
def test_a_lost_connection_to_postgresql_is_made_again(tmp_path):
    stores.write_index(tmp_path / "index", 30)
    with stores.postgres_server() as server:
        upload(str(tmp_path / "index"), server, "hnsw")
        index, vector = stores.opened(server), stores.unit(np.random.default_rng(1), 1)
        expected = index.search_many(vector, 3)
        with psycopg.connect(server, autocommit=True) as other:
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' "
            other.execute(others + "AND pid <> pg_backend_pid()")
            assert index.search_many(vector, 3) == expected
            other.execute("CREATE TABLE public.files (name text, content bytea)")
            with pytest.raises(ValueError, match="schema 'public' that is no index"):
                upload(str(tmp_path / "index"), f"{server}&index=public")
            other.execute("DROP SCHEMA docproduct CASCADE")
        with pytest.raises(StoreError, match="failed .*does not exist.*If its index was replaced"):
            index.search_many(vector, 3)
    with pytest.raises(StoreError, match="failed .*Check that it runs"):
        index.search_many(vector, 3)
    index.close()


@pytest.mark.long
def test_a_graph_finds_a_vector_by_itself(folder, address, tmp_path):
    place = f"{address}2"
    assert upload(folder, place, "hnsw")["kind"] == "hnsw"
    local, index = Index.open_vectors(folder, "cpu"), stores.opened(place)
    rows = list(range(0, 300, 7))
    vectors = local.vectors("question")[rows]
    for result, row in zip(index.search_many(vectors, 1, "question"), rows, strict=True):
        assert result.hits[0].pair_id == local.pairs[row]["pair_id"]
    condition = [f"source={stores.SOURCES[2]}"]
    results = [each.search_many(vectors[:3], 5, conditions=condition) for each in (local, index)]
    stores.same_results(*results)
    index.close()
