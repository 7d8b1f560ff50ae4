"""The service as other clients use it: OpenAI's, LangChain's, pages of other sites, readers of event streams."""

import dataclasses
import json

import pytest

from docproduct.web.responses import _event
from docproduct.web.server import create_app
from docproduct.web.settings import Limits, RequestLimits, ServiceSettings
from tests.serving import events, message, running

SITE = "https://a.example"
# Everything that str.splitlines treats as the end of a line.
LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def test_events_are_ascii_so_that_no_line_is_cut():
    sent = _event("text", {"text": f"a{LINE_ENDS}é中"}).decode("ascii")
    assert len(sent.splitlines()) == 3  # event, data, and the line that ends the event
    assert events(sent) == [("text", {"text": f"a{LINE_ENDS}é中"})]


def test_models_are_listed_as_openai_does(client):
    listing = client.get("/v1/models").json()
    assert listing["object"] == "list"
    model, chat = listing["data"]
    assert {**model, "created": 0} == {"id": "docproduct", "object": "model", "created": 0, "owned_by": "docproduct"}
    assert chat == {**model, "id": "docproduct-chat"}
    assert model["created"] > 1.7e9
    assert client.get("/v1/models/docproduct").json() == model
    said = message(client.get("/v1/models/gpt-4"), 404, "invalid_request")
    assert "no such model. Expected docproduct or docproduct-chat" in said
    assert client.post("/v1/embeddings", json={"input": "a"}).json()["model"] == model["id"]


@pytest.mark.parametrize("tokens", [[1, 2, 3], [[1, 2], [3]], [[0]], [[]], [[1], []]])
def test_token_ids_are_refused_with_langchains_remedy(client, tokens):
    detail = message(client.post("/v1/embeddings", json={"input": tokens}), 422, "invalid_request")
    assert detail.startswith("input: The input is token ids of another model's tokenizer; expected a text")
    assert "check_embedding_ctx_length=False" in detail


@pytest.mark.parametrize("wrong", [[], [True], ["a", 5], [1.5], [["a"]], [[1], ["a"]], {"a": 1}, None, 5])
def test_other_wrong_inputs_are_not_reported_as_token_ids(client, wrong):
    detail = message(client.post("/v1/embeddings", json={"input": wrong}), 422, "invalid_request")
    assert detail.startswith("input")
    assert "token ids" not in detail


def by_lines(lines):
    """Parses server-sent events from lines, as some clients do."""
    blocks = [[]]
    for line in lines:
        blocks[-1].append(line) if line else blocks.append([])
    assert blocks.pop() == []  # each event ends with an empty line
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_clients_that_read_lines_get_whole_events(client):
    question = f"what\n\r{LINE_ENDS}is \U0001f600?"
    body = {"question": question, "stream": True}
    response = client.post("/v1/answer", json=body)
    with client.stream("POST", "/v1/answer", json=body) as streamed:
        from_lines = by_lines(streamed.iter_lines())
    for parsed in (events(response.text), by_lines(response.text.splitlines()), from_lines):
        assert (parsed[0][0], parsed[-1][0]) == ("answer", "done")
        assert parsed[0][1]["question"] == parsed[-1][1]["question"] == question
        assert "".join(data["text"] for _, data in parsed[1:-1]) == parsed[-1][1]["generated"]


def test_the_body_limit_has_room_for_the_longest_allowed_request():
    # In JSON an emoji takes 12 bytes; beside it, there is a kibibyte for the other fields.
    assert RequestLimits(10, 1, 1_000).body_bytes == 13 * 1_024  # 12,000 + 1,024 of the 13,312
    assert RequestLimits(1_000, 1, 10).body_bytes == 13 * 1_024
    assert RequestLimits().body_bytes <= Limits().body_bytes


def test_other_sites_are_allowed_only_by_flag(source, client):
    request = {"headers": {"Origin": SITE}, "json": {"question": "what is a3?", "k": 1}}
    preflight = {"Origin": SITE, "Access-Control-Request-Method": "POST"}
    preflight |= {"Access-Control-Request-Headers": "authorization,content-type"}
    assert "access-control-allow-origin" not in client.post("/v1/retrieve", **request).headers
    assert client.options("/v1/retrieve", headers=preflight).status_code == 405
    limits = Limits(token="s3cret", cors_origins=(SITE, "http://localhost:3000"), body_bytes=20_000)
    with running(create_app(source, ServiceSettings(limits=limits))) as other:
        allowed = other.options("/v1/retrieve", headers=preflight)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == SITE
        token = {"Authorization": "Bearer s3cret", "Origin": SITE}
        answered = other.post("/v1/answer", headers=token, json=request["json"] | {"stream": True})
        refused = other.post("/v1/retrieve", **request)
        too_long = other.post("/v1/retrieve", headers=token, content=b"x" * 30_000)
        assert [answer.status_code for answer in (answered, refused, too_long)] == [200, 401, 413]
        for answer in (answered, refused, too_long):
            assert answer.headers["access-control-allow-origin"] == SITE
            assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
        stranger = other.options("/v1/retrieve", headers=preflight | {"Origin": "https://b.example"})
        assert "access-control-allow-origin" not in stranger.headers


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://a.example/x", "ftp://a.example", ""])
def test_invalid_origins_are_refused(origin):
    with pytest.raises(ValueError, match="cors_origins has .*expected scheme and host without a path"):
        Limits(cors_origins=(origin,))
    assert Limits(cors_origins=("*", "http://[::1]:8080", "https://a.example:8443"))


def test_request_limits_can_be_set(source):
    limits = RequestLimits(question_chars=12, texts=2, text_chars=5)
    with running(create_app(source, ServiceSettings(request_limits=limits))) as client:
        assert client.post("/v1/retrieve", json={"question": "what is a3?"}).status_code == 200
        for route in ("/v1/retrieve", "/v1/answer"):
            detail = message(client.post(route, json={"question": "what is a333?"}), 422, "invalid_request")
            assert "question: String should have at most 12 characters" in detail
        assert client.post("/v1/embeddings", json={"input": ["a", "abcde"]}).status_code == 200
        for texts in (["a", "b", "c"], ["abcdef"], "abcdef"):
            message(client.post("/v1/embeddings", json={"input": texts}), 422, "invalid_request")
        info = client.get("/v1/info").json()
        names = ("max_question_chars", "max_texts", "max_text_chars", "max_body_bytes")
        assert [info[name] for name in names] == [12, 2, 5, 262_144]
        detail = message(client.post("/v1/embeddings", content=b"a" * 262_145), 413, "too_large")
        assert detail == "The body is longer than 262144 bytes. Send less at once."
        page = client.get("/openapi.json").json()["components"]["schemas"]
        assert page["AnswerRequest"]["properties"]["question"]["maxLength"] == 12
        assert page["AnswerRequest"]["description"].startswith("A question")
        assert page["AnswerRequest"]["properties"]["no_repeat_ngram_size"]["default"] == 8


def test_request_limits_must_fit_the_body_limit():
    with pytest.raises(ValueError, match="question_chars is 2000, and a body may have 1024 bytes"):
        ServiceSettings(limits=Limits(body_bytes=1_024))
    for field in dataclasses.fields(RequestLimits):
        with pytest.raises(ValueError, match=rf"{field.name} is 0; expected \d or more"):
            RequestLimits(**{field.name: 0})
