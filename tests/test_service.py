"""The service: its routes, its queues, and its refusals."""

import base64
import dataclasses

import numpy as np
import pytest

from docproduct.answering import Answerer, Query
from docproduct.answering.emergency import ADVICE
from docproduct.generation.sampling import GenerationSettings
from docproduct.search.store import StoreError
from docproduct.web import schemas
from docproduct.web.server import create_app
from tests.serving import PROMPT, QUESTION, Slow, answer_directly, events, message, running, without_seconds


def test_request_defaults_are_the_generation_defaults():
    request = schemas.AnswerRequest(question="a")
    names = {field.name for field in dataclasses.fields(GenerationSettings)} - {"num_samples", "biased"}
    assert names < set(schemas.AnswerRequest.model_fields)
    assert set(request.sampling()) == names - {"max_tokens"}  # the generator decides the default length
    assert GenerationSettings(**request.sampling()) == GenerationSettings()


def test_a_store_that_is_gone_is_told(source, client, monkeypatch):
    def fail(*_):
        raise StoreError("milvus://host/x failed")

    monkeypatch.setattr(source.answerer.index, "search_many", fail)
    assert "Try again in a moment" in message(client.post("/v1/retrieve", json=QUESTION), 503, "unavailable")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("max_tokens", 0, 4_097),
        ("temperature", -0.1, 2.1),
        ("top_k", -1, 100_001),
        ("top_p", 0.0, 1.1),
        ("repetition_penalty", 0.09, 10.1),
        ("no_repeat_ngram_size", -1, 65),
        ("seed", -1, 2**31),
    ],
)
def test_bounds_of_sampling_settings(name, low, high):
    for value in (low, high):
        with pytest.raises(ValueError, match=name):
            schemas.AnswerRequest(question="a", **{name: value})
    described = schemas.AnswerRequest.model_json_schema()["properties"][name]
    assert described["description"] == GenerationSettings.__dataclass_fields__[name].metadata["description"].help


def test_the_service_returns_what_the_answerer_returns(client, source):
    expected = answer_directly(source.answerer)
    retrieved = without_seconds(client.post("/v1/retrieve", json=QUESTION))
    assert retrieved == {name: expected[name] for name in schemas.RetrieveResponse.model_fields}
    assert without_seconds(client.post("/v1/answer", json=QUESTION | {"generate": False})) == expected
    by_question = answer_directly(source.answerer, k=2, search_by="question")
    request = QUESTION | {"k": 2, "search_by": "question", "generate": False}
    assert without_seconds(client.post("/v1/answer", json=request)) == by_question


def test_a_stream_ends_with_the_whole_answer(client, source):
    whole = without_seconds(client.post("/v1/answer", json=QUESTION))
    answerer = source.answerer
    draft = answerer.draft(Query("what is a3?"), answerer.retrieve([Query("what is a3?")])[0])
    ((generation,),) = answerer.generator.write([draft.prompt_ids], GenerationSettings(max_tokens=PROMPT.answer_tokens))
    assert whole["generated"] == generation.text.strip()
    assert [source_json["in_prompt"] for source_json in whole["sources"]] == [True, True, False, False, False]
    response = client.post("/v1/answer", json=QUESTION | {"stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    (first, retrieved), *pieces, (last, done) = events(response.text)
    assert (first, last) == ("answer", "done")
    assert [source_json.pop("in_prompt") for source_json in retrieved["sources"]] == [True, True, False, False, False]
    expected = answer_directly(source.answerer)
    assert not any(source_json.pop("in_prompt") for source_json in expected["sources"])
    assert retrieved | {"seconds": {}} == expected
    assert len(pieces) > 1
    assert {name for name, _ in pieces} == {"text"}
    assert "".join(data["text"] for _, data in pieces) == done["generated"]
    assert done | {"seconds": {}} == whole
    assert set(done["seconds"]) == {"encode", "search", "write"}


def test_settings_reach_the_generator(client):
    texts = {}
    for changed in ({}, {"max_tokens": 5}, {"temperature": 1.5, "seed": 1}, {"temperature": 1.5, "seed": 2}):
        texts[str(changed)] = client.post("/v1/answer", json=QUESTION | changed).json()["generated"]
    assert len(set(texts.values())) == 4
    again = client.post("/v1/answer", json=QUESTION | {"temperature": 1.5, "seed": 2}).json()["generated"]
    assert again == texts[str({"temperature": 1.5, "seed": 2})]
    detail = message(client.post("/v1/answer", json=QUESTION | {"max_tokens": 41}), 422, "invalid_request")
    assert detail == "max_tokens is 41; expected 1 to 40, what this generator was trained for."


def test_embeddings_are_those_of_the_retriever(client, source):
    texts = ["the x z 3.", "a"]
    for side in ("question", "answer"):
        expected = source.answerer.retriever.embed(texts, side).head
        response = client.post("/v1/embeddings", json={"input": texts, "side": side, "model": "m", "user": "u"}).json()
        np.testing.assert_allclose([row["embedding"] for row in response["data"]], expected, atol=1e-6)
        assert [row["index"] for row in response["data"]] == [0, 1]
        assert response["model"] == "m"
        assert response["usage"]["total_tokens"] == 7 + 3  # [CLS] the x z 3 . [SEP]; [CLS] a [SEP]
    body = {"input": "a", "side": "answer", "encoding_format": "base64"}
    response = client.post("/v1/embeddings", json=body).json()
    vector = np.frombuffer(base64.b64decode(response["data"][0]["embedding"]), "<f4")
    np.testing.assert_allclose(vector, expected[1], atol=1e-6)
    short = client.post("/v1/embeddings", json={"input": "a", "side": "answer", "dimensions": 4}).json()
    cut = expected[1][:4]
    np.testing.assert_allclose(short["data"][0]["embedding"], cut / np.linalg.norm(cut), atol=1e-6)
    detail = message(client.post("/v1/embeddings", json={"input": "a", "dimensions": 99}), 422, "invalid_request")
    assert detail == "dims is 99; expected 1 to 10, the width of this model."


def test_routes_that_the_page_needs(client, source):
    info = client.get("/v1/info").json()
    assert (info["num_answers"], info["generator"], info["max_k"], info["max_tokens"]) == (60, True, 50, 40)
    assert len(info["examples"]) == 6
    assert set(info["examples"]) <= set(source.answerer.index.questions())
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "script-src 'self';" in page.headers["content-security-policy"]
    assert client.get("/docs").status_code == 200
    assert "://" not in client.get("/docs").text.replace("http://www.w3.org", "")
    assert client.get("/docs/swagger-ui.css").status_code == 200
    assert {"/v1/answer", "/v1/retrieve", "/v1/embeddings"} <= set(client.get("/openapi.json").json()["paths"])


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "question: Field required"),
        ({"question": ""}, "question: String should have at least 1 character"),
        ({"question": " \u200b\n"}, "The question is empty"),
        ({"question": "a" * 2_001}, "question: String should have at most 2000 characters"),
        ({"question": 5}, "question: Input should be a valid string"),
        ({"question": "a", "k": 0}, "k: Input should be greater than or equal to 1"),
        ({"question": "a", "search_by": "both"}, "search_by: Input should be 'answer' or 'question'"),
        ({"question": "a", "kk": 3}, "kk: Extra inputs are not permitted"),
        ([], "The body is no JSON object, or its header"),
    ],
)
def test_bad_requests_are_told_what_is_wrong(client, body, detail):
    assert message(client.post("/v1/retrieve", json=body), 422, "invalid_request").startswith(detail)
    streamed = body | {"stream": True} if isinstance(body, dict) else body
    assert message(client.post("/v1/answer", json=streamed), 422, "invalid_request").startswith(detail)


def test_errors_name_the_field(client):
    wrong = {"question": "a", "stream": 5}
    detail = message(client.post("/v1/answer", json=wrong), 422, "invalid_request")
    assert detail.startswith("stream: Input should be a valid boolean")
    detail = message(client.post("/v1/embeddings", json={"input": 5}), 422, "invalid_request")
    assert detail == "input: Input should be a valid string; input: Input should be a valid list"


def test_internal_errors_reveal_nothing(source):
    slow = Slow(source.answerer)
    slow.retrieve = lambda queries: [][0]
    with running(create_app(slow)) as client:
        detail = message(client.post("/v1/retrieve", json=QUESTION), 500, "internal")
        assert "log" in detail
        counted = client.get("/metrics").text
        assert 'docproduct_requests_total{route="/v1/retrieve",status="500"} 1.0' in counted
        assert client.post("/v1/retrieve", json=QUESTION).headers["x-content-type-options"] == "nosniff"
        assert "index out of range" not in detail


def test_an_emergency_comes_with_every_kind_of_answer(client):
    question = {"question": "I have chest pain and trouble breathing"}
    request = question | {"max_tokens": 3}
    for response in (client.post("/v1/answer", json=request), client.post("/v1/retrieve", json=question)):
        assert response.json()["emergency"] == ADVICE
        assert "not medical advice" in response.json()["disclaimer"]
    (_, first), *_ = events(client.post("/v1/answer", json=request | {"stream": True}).text)
    assert first["emergency"] == ADVICE


def test_an_answerer_needs_a_generator_that_answers(source):
    class Untrained:
        prompt = None

    with pytest.raises(ValueError, match="was not trained to answer"):
        Answerer(source.answerer.retriever, source.answerer.index, Untrained())
