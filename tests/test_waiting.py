"""Requests that wait in the service: shared batches, limits, timeouts, clients that leave, and reloading."""

import asyncio
import concurrent.futures
import gc
import pathlib
import shutil
import socket
import threading
import types
import weakref

import httpx
import numpy as np
import pytest

from docproduct.web.measures import Measures
from docproduct.web.reloading import Reloadable
from docproduct.web.server import create_app
from docproduct.web.service import Service
from docproduct.web.settings import ServiceSettings
from tests.serving import QUESTION, Slow, answer_directly, message, post_all, running, wait_until, without_seconds


def test_clients_share_batches_and_get_their_own_answers(source):
    questions = [f"what is {letter}{i}?" for letter in "abc" for i in range(20)]
    app = create_app(source, ServiceSettings(max_wait_ms=50))
    with running(app) as client, concurrent.futures.ThreadPoolExecutor(20) as threads:
        responses = list(
            threads.map(lambda q: without_seconds(client.post("/v1/retrieve", json={"question": q})), questions)
        )
        counted = client.get("/metrics").text
    for question, response in zip(questions, responses, strict=True):
        expected = answer_directly(source.answerer, question)
        assert response["question"] == question
        assert [s["question"] for s in response["sources"]] == [s["question"] for s in expected["sources"]]
        np.testing.assert_allclose(
            [s["score"] for s in response["sources"]], [s["score"] for s in expected["sources"]], atol=2e-4
        )
    numbers = dict(line.rsplit(" ", 1) for line in counted.splitlines() if not line.startswith("#"))
    assert float(numbers['docproduct_batch_size_sum{queue="retrieval"}']) == 60
    assert float(numbers['docproduct_batch_size_count{queue="retrieval"}']) < 30
    assert float(numbers['docproduct_requests_total{route="/v1/retrieve",status="200"}']) == 60
    assert float(numbers['docproduct_waiting{queue="retrieval"}']) == 0


def test_a_question_is_answered_by_the_answerer_that_checked_it(source):
    """An answerer that is loaded while the question waits may have fewer answers."""
    slow, changing = Slow(source.answerer), types.SimpleNamespace(examples=[], triager=None, chooser=None)
    changing.answerer = slow
    with running(create_app(changing, ServiceSettings(max_batch=1))) as client:
        threads, futures = post_all(client, 3)
        with threads:
            wait_until(lambda: 'docproduct_waiting{queue="retrieval"} 2.0' in client.get("/metrics").text)
            changing.answerer = Slow(source.answerer)
            changing.answerer.go_on.set()
            later = threads.submit(client.post, "/v1/retrieve", json=QUESTION)
            slow.go_on.set()
        assert [future.result().status_code for future in [*futures, later]] == [200] * 4
    assert (slow.asked, changing.answerer.asked) == (3, 1)


def test_requests_beyond_the_queue_limit_are_refused_at_once(source):
    slow = Slow(source.answerer)
    with running(create_app(slow, ServiceSettings(max_batch=2, max_wait_ms=0, max_waiting=3))) as client:
        threads, futures = post_all(client, 20)
        with threads:
            wait_until(lambda: sum(future.done() for future in futures) >= 15)
            slow.go_on.set()
        statuses = [future.result().status_code for future in futures]
        assert set(statuses) == {200, 503}
        assert 3 <= statuses.count(200) <= 5
        refused = next(future.result() for future in futures if future.result().status_code == 503)
        message(refused, 503, "overloaded")
        assert refused.headers["retry-after"] == "1"
        assert client.post("/v1/retrieve", json=QUESTION).status_code == 200


def test_requests_time_out(source):
    slow = Slow(source.answerer)
    with running(create_app(slow, ServiceSettings(timeout=0.3, max_batch=1))) as client:
        threads, futures = post_all(client, 4)
        with threads:
            for future in futures:
                message(future.result(), 504, "timeout")
        slow.go_on.set()
        assert client.post("/v1/retrieve", json=QUESTION).status_code == 200
        assert slow.asked == 2  # the first and the last; requests that timed out in the queue were never processed


def test_a_client_that_disconnects_frees_its_place(source):
    slow = Slow(source.answerer)
    body = b'{"question": "a"}'
    head = b"POST /v1/retrieve HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    with running(create_app(slow, ServiceSettings(max_batch=1, max_wait_ms=0, max_waiting=4))) as client:
        connections = []
        for number in range(5):  # one is processed, four wait
            connections.append(socket.create_connection((client.base_url.host, client.base_url.port)))
            connections[-1].sendall(head % len(body) + body)
            if not number:
                wait_until(lambda: slow.asked == 1)
        wait_until(lambda: 'docproduct_waiting{queue="retrieval"} 4.0' in client.get("/metrics").text)
        for connection in connections:
            connection.close()
        wait_until(lambda: 'route="/v1/retrieve",status="499"} 5.0' in client.get("/metrics").text)
        slow.go_on.set()
        assert client.post("/v1/retrieve", json=QUESTION).status_code == 200
        assert slow.asked == 2


@pytest.mark.long
def test_reloading_while_requests_arrive(folders, tmp_path):
    """New folders replace the answerer, a missing model changes nothing, and no request fails."""
    shutil.copytree(pathlib.Path(folders.model_dir).parent, tmp_path / "s")
    mine = type(folders)(*(str(tmp_path / "s" / name) for name in ("model", "index", "generator")), threshold=-1.0)
    source = Reloadable(mine)
    first = id(source.answerer)
    stop, statuses = threading.Event(), []
    with running(create_app(source)) as client, httpx.Client(base_url=client.base_url, timeout=30) as other:

        def ask():
            while not stop.is_set():
                statuses.append(other.post("/v1/answer", json=QUESTION | {"max_tokens": 3}).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            assert source.reload()
            assert id(source.answerer) != first
            second = source.answerer
            shutil.rmtree(tmp_path / "s" / "model")
            assert not source.reload()
            assert source.answerer is second
            wait_until(lambda: len(statuses) > 3)
        finally:
            stop.set()
            asking.join()
    assert set(statuses) == {200}


@pytest.mark.long
def test_reloading_frees_the_old_models(folders):
    source = Reloadable(folders)
    service = Service(source, ServiceSettings(timeout=0.1), Measures())
    old = weakref.ref(source.answerer.retriever)
    gc.disable()  # so that nothing is freed by chance
    try:
        asyncio.run(service.reload())
    finally:
        gc.enable()
    assert old() is None
    service.close()
