"""Triage over HTTP, in the terminal and on the page, with a model that says what it is told to."""

import json
import types

import pytest

from docproduct import sample
from docproduct.answering.emergency import Emergency
from docproduct.answering.triage import NOT_SURE, Triager
from docproduct.web.server import create_app
from tests import browser
from tests.browser import Keys, Page, serving
from tests.serving import message, running
from tests.test_scripts import run
from tests.test_triage_use import Told, make

EMERGENCY = Emergency.load(sample.EMERGENCY_LIST)
SURE, UNSURE = [0.02, 0.9, 0.05, 0.03], [0.3, 0.4, 0.2, 0.1]


def triager_of(probs):
    return Triager(Told(probs), EMERGENCY)


def app_of(triager):
    answerer = browser.Answerer()
    models = {"triager": triager, "chooser": None}
    return create_app(types.SimpleNamespace(answerer=answerer, examples=answerer.examples, **models))


@pytest.fixture(scope="module")
def client():
    with running(app_of(triager_of(SURE))) as client:
        yield client


def test_route(client):
    answer = client.post("/v1/triage", json={"text": "  a  red itch "}).json()
    assert answer["text"] == "a red itch"
    assert [d["label"] for d in answer["departments"]] == ["skin", "lung", "eye"]
    assert (answer["sure"], answer["note"], answer["advice"], answer["reply"]) == (True, None, None, None)
    assert "not medical advice" in answer["disclaimer"]
    assert client.post("/v1/triage", json={"text": "皮肤很痒", "reply": True}).json()["reply"] == "about 皮肤很痒"
    urgent = client.post("/v1/triage", json={"text": "chest pain and no breath"}).json()
    assert "112" in urgent["advice"]
    info = client.get("/v1/info").json()
    assert (info["triage"], info["triage_reply"]) == (True, True)
    assert 'queue="triage"' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"text": ""}, 422, "at least 1 character"),
        ({"text": " \n"}, 422, "The text is empty"),
        ({"text": " \u200b\n"}, 422, "The text is empty"),
        ({"text": "a" * 2_001}, 422, "at most 2000 characters"),
        ({"text": "a", "k": 3}, 422, "k: Extra inputs"),
        ({}, 422, "text: Field required"),
    ],
)
def test_wrong_requests(client, body, status, words):
    assert words in message(client.post("/v1/triage", json=body), status, "invalid_request")


def test_without_a_model():
    with running(app_of(None)) as client:
        assert "no triage model" in message(client.post("/v1/triage", json={"text": "a"}), 404, "invalid_request")
        assert client.get("/v1/info").json()["triage"] is False


@pytest.mark.long
def test_terminal(tokenizer, tmp_path):
    folder = str(tmp_path / "m")
    triage = make(tokenizer)
    (tmp_path / "m").mkdir()
    triage.save_config(folder, {})
    triage.save_weights(folder)
    (tmp_path / "m" / "metrics.json").write_text("{}")
    done = run("docproduct.triage", f"--triage_dir={folder}", "--text=what is a3?", "--reply", check=True)
    answer = json.loads(done.stdout)
    assert len(answer["departments"]) == 3
    assert answer["departments"][0]["label"] in done.stderr
    assert "not medical advice" in done.stderr
    assert "which nobody has checked" in done.stderr
    lines = run("docproduct.triage", f"--triage_dir={folder}", input="what is a?\n\n头痛\n", check=True).stdout
    assert [json.loads(line)["text"] for line in lines.splitlines()] == ["what is a?", "头痛"]
    for arguments, words in ((["--text= "], "The text is empty"), (["--triage_dir=none"], "There is no folder none")):
        done = run("docproduct.triage", f"--triage_dir={folder}", *arguments)
        assert done.returncode == 1
        assert f"error: {words}" in done.stderr
        assert "Traceback" not in done.stderr


def triage(page, text):
    box = page.at("#complaint")
    box.clear()
    box.send_keys(text)
    page.at("#triage_submit").send_keys(Keys.ENTER)


@pytest.mark.skipif(bool(browser.MISSING), reason="the page is tested in Chromium")
def test_panel(driver):
    answerer = browser.Answerer()
    with serving(answerer) as server:
        page = Page(driver, server.url)
        assert not page.shows("#triage")
    answerer.triager = triager_of(UNSURE)
    with serving(answerer) as server:
        page = Page(driver, server.url)
        page.until(lambda: page.shows("#triage"))
        triage(page, " ")
        page.until(lambda: page.text("#complaint_problem") == "Describe the complaint first.")
        triage(page, "chest pain and no breath <b>")
        page.until(lambda: page.shows("#triaged"))
        order = page.js("return [...document.querySelectorAll('#triaged > :not([hidden])')].map((part) => part.id)")
        assert order == ["triage_advice", "triage_note", "departments", "draft", "triage_disclaimer"]
        assert "112" in page.text("#triage_advice")
        assert page.text("#triage_note") == NOT_SURE
        rows = [item.text.split("\n") for item in page.driver.find_elements("css selector", "#departments li")]
        assert rows == [["skin", "40%"], ["heart", "30%"], ["lung", "20%"]]
        assert page.text("#draft summary") == "Draft reply (not reviewed)"
        page.at("#draft summary").send_keys(Keys.ENTER)
        page.until(lambda: page.text("#draft .text") == "about chest pain and no breath <b>")
        assert "not medical advice" in page.text("#triage_disclaimer")
        assert page.violations() == []
