"""CORS: which sites' pages may call the service from a browser, and the headers of its answers."""

import concurrent.futures

import pytest

from docproduct.web.origins import normal
from docproduct.web.server import create_app
from docproduct.web.settings import Limits, ServiceSettings
from tests.serving import Slow, events, message, running, wait_until

SITE, OTHER = "https://a.example", "https://evil.example"
QUESTION = {"question": "what is a3?"}
ASKS = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
}
ALLOW = "access-control-allow-origin"


def started(source, *allowed, **limits):
    return running(create_app(source, ServiceSettings(limits=Limits(cors_origins=allowed, **limits))))


def shared(response, origin=SITE):
    """Returns whether a browser lets a page of `origin` read the response."""
    names = [response.headers.get(ALLOW), response.headers.get("cross-origin-resource-policy")]
    assert response.headers["cross-origin-opener-policy"] == "same-origin"
    assert "Origin" in response.headers["vary"]
    if names == ["*" if origin == "*" else origin, "cross-origin"]:
        assert response.headers["access-control-expose-headers"] == "Retry-After"
        return True
    assert names == [None, "same-origin"]
    return False


@pytest.mark.parametrize("token", [None, "s3cret"])
def test_a_preflight_needs_no_token(source, token):
    with started(source, SITE, "http://localhost:3000", token=token) as client:
        for site in (SITE, "http://localhost:3000"):
            response = client.options("/v1/answer", headers={"Origin": site} | ASKS)
            assert response.status_code == 200
            assert response.headers[ALLOW] == site
            assert {"GET", "POST"} <= set(response.headers["access-control-allow-methods"].split(", "))
            assert response.headers["access-control-allow-headers"] == ASKS["Access-Control-Request-Headers"]
            assert "access-control-allow-credentials" not in response.headers
        for site in (OTHER, "http://a.example", "https://a.example:444", "https://b.a.example", "null"):
            response = client.options("/v1/answer", headers={"Origin": site} | ASKS)
            assert response.status_code == 400
            assert ALLOW not in response.headers
        response = client.post(
            "/v1/retrieve", json=QUESTION, headers={"Origin": SITE, "Authorization": "Bearer s3cret"}
        )
        assert response.status_code == 200
        assert shared(response)
        response = client.post(
            "/v1/retrieve", json=QUESTION, headers={"Origin": OTHER, "Authorization": "Bearer s3cret"}
        )
        assert response.status_code == 200  # the browser, not the service, keeps it from the page
        assert not shared(response)


def test_streams_and_refusals_are_shared(source):
    with started(source, SITE, token="s3cret", rate="5/minute") as client:
        client.headers.update({"Origin": SITE})
        refused = client.post("/v1/retrieve", json=QUESTION)
        message(refused, 401, "unauthorized")
        assert shared(refused)
        client.headers.update({"Authorization": "Bearer s3cret"})
        with client.stream("POST", "/v1/answer", json=QUESTION | {"stream": True}) as response:
            assert shared(response)
            assert events(response.read().decode())[-1][0] == "done"
        for body, status in (("a" * 300_000, 413), ("{", 422)):
            refused = client.post("/v1/answer", content=body, headers={"Content-Type": "application/json"})
            assert refused.status_code == status
            assert shared(refused)
        assert shared(client.get("/v1/nowhere"))
        refused = client.get("/v1/info")
        message(refused, 429, "rate_limited")
        assert shared(refused)
        assert int(refused.headers["retry-after"]) >= 1


def test_server_errors_are_shared(source):
    slow = Slow(source.answerer)
    settings = ServiceSettings(limits=Limits(cors_origins=(SITE,)), max_batch=1, max_wait_ms=0, max_waiting=1)
    with running(create_app(slow, settings)) as client, concurrent.futures.ThreadPoolExecutor(2) as threads:
        client.headers.update({"Origin": SITE})
        ask = lambda: client.post("/v1/retrieve", json=QUESTION)  # noqa: E731
        waiting = [threads.submit(ask)]
        wait_until(lambda: slow.asked == 1)
        waiting.append(threads.submit(ask))
        wait_until(lambda: 'docproduct_waiting{queue="retrieval"} 1.0' in client.get("/metrics").text)
        refused = ask()
        message(refused, 503, "overloaded")
        assert shared(refused)
        slow.go_on.set()
        assert {future.result().status_code for future in waiting} == {200}
        slow.retrieve = lambda queries: [][0]
        failed = ask()
        message(failed, 500, "internal")
        assert shared(failed)


def test_a_star_allows_every_site(source):
    with started(source, "*") as client:
        assert client.options("/v1/answer", headers={"Origin": OTHER} | ASKS).headers[ALLOW] == "*"
        assert shared(client.post("/v1/retrieve", json=QUESTION, headers={"Origin": OTHER}), "*")


def test_without_the_flag_nothing_changes(client):
    for response in (
        client.options("/v1/answer", headers={"Origin": SITE} | ASKS),
        client.get("/healthz", headers={"Origin": SITE}),
    ):
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert "vary" not in response.headers
    assert client.options("/v1/answer", headers={"Origin": SITE} | ASKS).status_code == 405


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://a.example", "https://a.example"),
        ("HTTPS://A.Example", "https://a.example"),
        (" http://localhost:3000 ", "http://localhost:3000"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://a.example:443", "http://a.example:443"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("http://192.168.0.7", "http://192.168.0.7"),
        ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ("capacitor://localhost", "capacitor://localhost"),
        ("*", "*"),
    ],
)
def test_origins_are_normalized_as_browsers_send_them(origin, expected):
    assert normal([origin, origin]) == (expected,)
    assert Limits(cors_origins=(origin,)).cors_origins == (expected,)


@pytest.mark.parametrize(
    ("origin", "reason"),
    [
        ("a.example", "it has no scheme"),
        ("localhost:3000", "it has no scheme"),
        ("//a.example", "it has no scheme"),
        ("", "it has no scheme"),
        ("null", "it has no scheme"),
        ("file://", "it has no scheme"),
        ("ftp://a.example", "it has no scheme"),
        ("https://a.example/", "it has a path; a browser sends https://a.example for all of them"),
        ("http://localhost:3000/app?x#y", "it has a path; a browser sends http://localhost:3000 for all of them"),
        ("https://*.a.example", "'*.a.example' is not the name of a host"),
        ("https://me@a.example", "'me@a.example' is not the name of a host"),
        ("https://a b.example", "'a b.example' is not the name of a host"),
        ("https://", "'' is not the name of a host"),
        ("https://:3000", "'' is not the name of a host"),
        ("https://a.example:", "'a.example:' is not the name of a host"),
        ("https://a.example:http", "Port could not be cast"),
        ("https://a.example:70000", "Port out of range"),
        ("https://[::1", "Invalid IPv6 URL"),
    ],
)
def test_invalid_origins_are_refused(origin, reason):
    with pytest.raises(ValueError, match="^cors_origins has .*; expected scheme and host without a path") as error:
        Limits(cors_origins=(SITE, origin))
    assert reason in str(error.value)
