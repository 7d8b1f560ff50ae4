"""What the service refuses, and what it never reveals."""

import contextlib
import logging
import socket

import pytest

from docproduct.web.server import create_app
from docproduct.web.settings import Limits, ServiceSettings
from tests.fuzz_service import send_described_requests, send_random_bodies
from tests.serving import message, running

QUESTION = {"question": "what is a3?"}


def test_invalid_bodies_are_refused(client):
    headers = {"content-type": "application/json"}

    def send(body):
        return client.post("/v1/answer", content=body, headers=headers)

    message(send(b"{"), 422, "invalid_request")
    message(send(b'{"question": "\\ud800"}'), 422, "invalid_request")
    message(send(b'{"question": "a", "temperature": NaN}'), 422, "invalid_request")
    message(send(b'{"question": "a", "seed": ' + b"9" * 50 + b"}"), 422, "invalid_request")
    message(send(b'{"question": "a", "seed": ' + b"9" * 5_000 + b"}"), 400, "invalid_request")
    assert send(b"[" * 100_000).status_code in (400, 422)
    assert send(b'{"question": ' + b'{"a":' * 40_000).status_code in (400, 422)
    assert send(b"\xff\xfe").status_code in (400, 422)
    message(send(b"a" * 300_000), 413, "too_large")
    message(client.post("/v1/answer", content=iter([b"a" * 100_000] * 3), headers=headers), 413, "too_large")
    assert client.post("/v1/retrieve", json=QUESTION).status_code == 200


def raw(client, data, wait=5.0):
    """Sends bytes and returns everything received until the service closes the connection."""
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=wait) as connection:
        received = []
        with contextlib.suppress(ConnectionError):  # it may hang up while bytes are still being sent
            connection.sendall(data)
            received += iter(lambda: connection.recv(65_536), b"")
        return b"".join(received)


def test_headers_are_limited(client):
    flood = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X-%d: a\r\n" % i for i in range(5_000))
    assert b" 431 " in raw(client, flood + b"\r\n").split(b"\r\n")[0]
    assert b" 200 " not in raw(client, flood * 5)  # headers without an end
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/static/..%2fserver.py",
        "/static/page.html",
        "/static//etc/passwd",
        "/static/page.js%00.py",
        "/docs/..%2f__init__.py",
        "/docs/%2e%2e/%2e%2e/fastapi/__init__.py",
        "//etc/passwd",
    ],
)
def test_no_path_leads_to_other_files(client, path):
    answer = raw(client, f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.split(b" ")[1] in (b"404", b"422", b"405"), answer
    assert b"import" not in answer


def test_requests_need_the_token(source):
    with running(create_app(source, ServiceSettings(limits=Limits(token="s3cret")))) as client:
        for headers in (
            {},
            *({"Authorization": value} for value in ("Bearer wrong", "Bearer", "Basic s3cret", "é")),
        ):
            headers = {name: value.encode() for name, value in headers.items()}
            response = client.post("/v1/retrieve", json=QUESTION, headers=headers)
            assert "wants a token" in message(response, 401, "unauthorized")
            assert response.headers["www-authenticate"] == "Bearer"
            assert client.get("/metrics", headers=headers).status_code == 401
        for path in ("/", "/healthz", "/readyz", "/static/page.js"):
            assert client.get(path).status_code == 200
        right = {"Authorization": "Bearer s3cret"}
        assert client.post("/v1/retrieve", json=QUESTION, headers=right).status_code == 200
        assert client.get("/metrics", headers=right).status_code == 200
    with pytest.raises(ValueError, match="token is empty"):
        Limits(token=" ")


def test_the_rate_is_limited(source):
    with running(create_app(source, ServiceSettings(limits=Limits(rate="3/minute")))) as client:
        assert [client.post("/v1/retrieve", json=QUESTION).status_code for _ in range(5)] == [200] * 3 + [429] * 2
        refused = client.post("/v1/retrieve", json=QUESTION)
        message(refused, 429, "rate_limited")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert client.get("/healthz").status_code == 200
    with pytest.raises(ValueError, match="rate is 'often'"):
        Limits(rate="often")


def test_other_host_names_are_refused(source):
    with running(create_app(source, ServiceSettings(limits=Limits(hosts=("localhost", "127.0.0.1"))))) as client:
        assert client.get("/healthz").status_code == 200
        for name in ("evil.example", "localhost.evil.example:80", ""):
            refused = client.get("/v1/info", headers={"Host": name})
            assert "not called by this name" in message(refused, 400, "invalid_request")


def test_questions_are_logged_only_by_setting(source, caplog):
    with caplog.at_level(logging.INFO, "absl"):
        with running(create_app(source)) as client:
            client.post("/v1/retrieve", json={"question": "what is secret9?"})
            client.get("/nowhere/secret9")
        assert "POST /v1/retrieve 200" in caplog.text
        assert "secret9" not in caplog.text
        with running(create_app(source, ServiceSettings(log_questions=True))) as client:
            client.post("/v1/retrieve", json={"question": "what is secret9?"})
        assert "secret9" in caplog.text


def test_slow_clients_do_not_block_others(source):
    settings = ServiceSettings(limits=Limits(body_seconds=0.5))
    with running(create_app(source, settings)) as client, contextlib.ExitStack() as stack:
        connections = []
        for _ in range(50):
            address = (client.base_url.host, client.base_url.port)
            connections.append(stack.enter_context(socket.create_connection(address, timeout=10)))
            connections[-1].sendall(b"POST /v1/answer HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{")
        assert client.post("/v1/retrieve", json=QUESTION).status_code == 200
        assert b" 408 " in connections[0].recv(1_000)


@pytest.mark.parametrize("count", [(14, 200), pytest.param((60, 300), marks=pytest.mark.long)])
def test_random_requests_never_fail(client, count):
    """`python -m tests.fuzz_service` sends ten thousand."""
    described, random = count
    statuses = send_described_requests(client, described) + send_random_bodies(client, random)
    assert {200, 422} <= set(statuses)
    assert statuses[422] > random / 3
