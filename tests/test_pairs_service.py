"""The routes that change pairs while the service answers."""

import pytest

from docproduct import index
from docproduct.answering import Folders
from docproduct.index.live import pair_id_of
from docproduct.search.changes import ChangeStore, NotStoredError
from docproduct.web.reloading import Reloadable
from docproduct.web.server import create_app
from docproduct.web.settings import Limits, RequestLimits, ServiceSettings
from tests.serving import message, running

TOKEN = {"Authorization": "Bearer change"}
PAIR = {"question": "What helps against hiccups?", "answer": "Hold your breath.", "source": "new", "focus": "Hiccups"}


@pytest.fixture(scope="module")
def live_source(tiny_retriever, prepared, tmp_path_factory):
    retriever, folder = tiny_retriever[0], tmp_path_factory.mktemp("live")
    (folder / "model").mkdir()
    retriever.save_config(str(folder / "model"), {})
    retriever.save_weights(str(folder / "model"))
    index.build(retriever, prepared, str(folder / "index"), index.IndexSettings(hybrid="rrf"))
    return Reloadable(Folders(str(folder / "model"), str(folder / "index"), live=True, compact_changes=0))


@pytest.fixture(scope="module")
def client(live_source):
    limits = Limits(write_token="change", token="read")
    settings = ServiceSettings(limits=limits, request_limits=RequestLimits(pairs=3, text_chars=500))
    with running(create_app(live_source, settings)) as client:
        client.headers = TOKEN
        yield client


def retrieve(client, question, **more):
    response = client.post("/v1/retrieve", json={"question": question, **more})
    assert response.status_code == 200, response.text
    return response.json()


def changed(response):
    assert response.status_code == 200, response.text
    return [(pair["id"], pair["status"]) for pair in response.json()["pairs"]]


def test_a_pair_is_found_from_the_moment_it_is_acknowledged_to_its_removal(client):
    before = client.get("/v1/info").json()["num_answers"]
    ((pair_id, status),) = changed(client.post("/v1/pairs", json=PAIR))
    assert status == "added"
    assert changed(client.post("/v1/pairs", json={"pairs": [PAIR]})) == [(pair_id, "unchanged")]
    assert client.get(f"/v1/pairs/{pair_id}").json() == {"id": pair_id, **PAIR}
    answer = retrieve(client, "what helps against  HICCUPS")
    assert (answer["answerable"], answer["sources"][0]["id"], answer["sources"][0]["answer"]) == (
        True,
        pair_id,
        PAIR["answer"],
    )
    assert client.get("/v1/info").json()["num_answers"] == before + 1
    new = PAIR | {"answer": "Drink  water.", "source": ""}
    assert changed(client.put(f"/v1/pairs/{pair_id}", json=new)) == [(pair_id, "replaced")]
    assert retrieve(client, PAIR["question"])["sources"][0]["answer"] == "Drink water."
    assert changed(client.delete(f"/v1/pairs/{pair_id}")) == [(pair_id, "removed")]
    assert PAIR["question"] not in [hit["question"] for hit in retrieve(client, PAIR["question"], k=50)["sources"]]
    for response in (client.get(f"/v1/pairs/{pair_id}"), client.delete(f"/v1/pairs/{pair_id}")):
        assert "no pair with this id" in message(response, 404, "invalid_request")


def test_stored_pairs_have_ids_too(client):
    hit = retrieve(client, "what is a3?")["sources"][0]
    assert client.get(f"/v1/pairs/{hit['id']}").json()["question"] == hit["question"] == "what is a3?"
    assert changed(client.delete(f"/v1/pairs/{hit['id']}")) == [(hit["id"], "removed")]
    assert retrieve(client, "what is a3?")["sources"][0]["question"] != "what is a3?"
    back = {name: hit[name] for name in ("question", "answer", "source", "focus")}
    assert changed(client.post("/v1/pairs", json=back)) == [(hit["id"], "added")]  # the id is that of the texts
    assert retrieve(client, "what is a3?")["sources"][0]["id"] == hit["id"]


def test_batches_are_whole_and_names_are_ids(client):
    pairs = [PAIR | {"question": f"what is batch {i}?", "id": f"a/{i} ü"} for i in range(3)]
    wrong = [*pairs[:2], PAIR | {"question": " \u200b"}]
    assert "The question is empty" in message(client.post("/v1/pairs", json={"pairs": wrong}), 422, "invalid_request")
    assert client.get("/v1/pairs/a/0 ü").status_code == 404
    assert changed(client.post("/v1/pairs", json={"pairs": pairs})) == [(f"a/{i} ü", "added") for i in range(3)]
    assert client.get("/v1/pairs/a/2 ü").json()["question"] == "what is batch 2?"
    for i in range(3):
        assert changed(client.delete(f"/v1/pairs/a/{i} ü")) == [(f"a/{i} ü", "removed")]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"question": "a"}, "answer: Field required"),
        ({"pairs": []}, "pairs: List should have at least 1 item"),
        ({"pairs": [PAIR] * 4}, "pairs: List should have at most 3 items"),
        ({"pairs": [PAIR, PAIR]}, "Two pairs of the request have one id"),
        ({"pairs": [PAIR], "more": 1}, "more: Extra inputs are not permitted"),
        (PAIR | {"answer": "a" * 501}, "answer: String should have at most 500 characters"),
        (PAIR | {"id": ""}, "id: String should have at least 1 character"),
        (PAIR | {"url": "https://a"}, "This index keeps no column 'url'; expected question, answer, source, focus."),
        (PAIR | {"url": 5}, "url: Input should be a valid string"),
        ({"pairs": [PAIR, 5]}, "pairs.1: Input should be a valid dictionary"),
        ([PAIR], "The body is no JSON object"),
        (PAIR | {"answer": "NULL"}, "The answer is empty, or a word for no value"),
    ],
)
def test_wrong_pairs_are_refused(client, body, detail):
    assert message(client.post("/v1/pairs", json=body), 422, "invalid_request").startswith(detail)


def test_an_id_in_the_body_must_be_that_of_the_path(client):
    for other in ("b", ""):
        refused = client.put("/v1/pairs/a", json=PAIR | {"id": other})
        assert "another id than the path" in message(refused, 422, "invalid_request")
    assert client.get("/v1/pairs/a").status_code == 404
    for same in ("a", str(pair_id_of("a"))):  # the name, and the number that it stands for
        assert client.put("/v1/pairs/a", json=PAIR | {"id": same}).status_code == 200
    assert client.put("/v1/pairs/a", json=client.get("/v1/pairs/a").json()).json()["pairs"][0]["status"] == "unchanged"
    client.delete("/v1/pairs/a")


def test_changes_need_their_own_token(client, live_source, monkeypatch):
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer read"}):
        refused = client.post("/v1/pairs", json=PAIR, headers=headers)
        assert "token for changes" in message(refused, 401, "unauthorized")
        message(client.delete("/v1/pairs/1", headers=headers), 401, "unauthorized")
    question = {"question": "a"}
    for token in ("read", "change"):
        headers = {"Authorization": f"Bearer {token}"}
        assert client.post("/v1/retrieve", json=question, headers=headers).status_code == 200
        assert client.get("/v1/pairs/1", headers=headers).status_code == 404
    monkeypatch.setattr(live_source.answerer, "live", None)
    with running(create_app(live_source)) as other:  # neither live, nor with a token
        assert "Start it with --live" in message(other.post("/v1/pairs", json=PAIR), 403, "forbidden")
        assert "Start it with --live" in message(other.get("/v1/pairs/1"), 404, "invalid_request")
        assert other.get("/v1/info").json()["live"] is None


def test_a_full_disk_is_told(client, monkeypatch):
    def fail(*_):
        raise NotStoredError("disk full")

    monkeypatch.setattr(ChangeStore, "write", fail)
    assert "nothing was changed" in message(client.post("/v1/pairs", json=PAIR), 507, "not_stored")
    assert retrieve(client, PAIR["question"])["sources"][0]["question"] != PAIR["question"]


def test_filters(client):
    ((pair_id, _),) = changed(client.post("/v1/pairs", json=PAIR))
    assert "new" in client.get("/v1/info").json()["sources"]
    found = retrieve(client, "what is a3?", filter={"source": ["new", "none"], "focus": {"least": "H", "most": "I"}})
    assert [hit["id"] for hit in found["sources"]] == [pair_id]
    none = retrieve(client, "what is a3?", filter={"source": "nowhere"})
    assert (none["sources"], none["answerable"], none["suggestions"]) == ([], False, [])
    refused = client.post("/v1/retrieve", json={"question": "a", "filter": {"place": "x"}})
    assert "There is no column 'place' to filter by" in message(refused, 422, "invalid_request")
    for nothing in (5, [], {}):  # an empty list or range would search all pairs
        refused = client.post("/v1/retrieve", json={"question": "a", "filter": {"source": nothing}})
        assert message(refused, 422, "invalid_request").startswith("filter.source: ")
    client.delete(f"/v1/pairs/{pair_id}")


def test_the_state_of_changes_and_reloading(client, live_source):
    state = client.get("/v1/info").json()["live"]
    assert state["changes"] == live_source.answerer.live.num_changes > 0
    assert 0 < state["changed_share"] < 1
    ((pair_id, _),) = changed(client.post("/v1/pairs", json=PAIR))
    before = live_source.answerer.index
    assert live_source.reload()
    assert live_source.answerer.index is not before
    assert retrieve(client, PAIR["question"])["sources"][0]["id"] == pair_id
    assert changed(client.post("/v1/pairs", json=PAIR)) == [(pair_id, "unchanged")]
    live_source.answerer.live.compact()
    assert client.get("/v1/info").json()["live"] == {"changes": 0, "changed_share": 0.0, "compacting": False}
    assert retrieve(client, PAIR["question"])["sources"][0]["id"] == pair_id
    changed(client.delete(f"/v1/pairs/{pair_id}"))
    assert retrieve(client, PAIR["question"], k=50)["sources"][0]["id"] != pair_id
