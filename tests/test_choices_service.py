"""Multiple choice over HTTP and on the page."""

import concurrent.futures
import dataclasses
import types

import numpy as np
import pytest

from docproduct import sample
from docproduct.answering import Folders
from docproduct.answering.choices import ChoiceAnswerer
from docproduct.answering.emergency import Emergency
from docproduct.systems.multiple_choice.export import export
from docproduct.systems.multiple_choice.questions import Encoded
from docproduct.web.reloading import Reloadable
from docproduct.web.server import create_app
from docproduct.web.settings import RequestLimits, ServiceSettings
from tests import browser
from tests.browser import Keys, Page, serving
from tests.serving import QUESTION, in_thread, message, running
from tests.test_choices_use import CASE, make, save

EMERGENCY = Emergency.load(sample.EMERGENCY_LIST)
BODY = dict(zip(("question", "choices", "context"), CASE, strict=True))


class Told:
    """A model that gives each choice its share of the letters; texts with "long" are too long, "broken" ones fail."""

    def __init__(self, threshold=0.3):
        self.threshold = threshold

    def encode(self, asked):
        row = asked[0].row
        if any("long" in choice for choice in row.choices):
            raise ValueError("The choices of a question have 9 tokens; expected fewer than 5.")
        return [Encoded([1], [[1] for _ in row.choices], "long" in row.context, "long" in row.question)]

    def probabilities_of(self, encoded, asked):
        if "broken" in asked[0].row.question:
            raise ValueError("The model is broken.")
        sizes = np.array([len(choice) for choice in asked[0].row.choices])
        return [sizes / sizes.sum()]


def app_of(model, settings=ServiceSettings()):
    answerer = browser.Answerer()
    models = {"triager": None, "chooser": model and ChoiceAnswerer(model, EMERGENCY)}
    return create_app(types.SimpleNamespace(answerer=answerer, examples=answerer.examples, **models), settings)


@pytest.fixture(scope="module")
def client():
    with running(app_of(Told())) as client:
        yield client


def test_route(client):
    answer = client.post("/v1/choices", json={"question": "  what  now?", "choices": ["é", " 皮 肤", "x"]}).json()
    assert answer.pop("seconds").keys() == {"choose"}
    assert "not medical advice" in answer.pop("disclaimer")
    assert answer == {
        "question": "what now?",
        "choices": [
            {"choice": "é", "probability": 0.2, "chosen": False},
            {"choice": "皮 肤", "probability": 0.6, "chosen": True},
            {"choice": "x", "probability": 0.2, "chosen": False},
        ],
        "chosen": ["皮 肤"],
        "trained": True,
        "context_shortened": False,
        "question_shortened": False,
        "emergency": None,
    }
    several = {"question": "a long one", "choices": ["aaa", "b", "ccc"], "context": "long", "several": True}
    answer = client.post("/v1/choices", json=several).json()
    assert answer["chosen"] == ["aaa", "ccc"]
    assert (answer["context_shortened"], answer["question_shortened"]) == (True, True)
    urgent = {"question": "what now?", "choices": ["a", "b"], "context": "chest pain and no breath"}
    assert "112" in client.post("/v1/choices", json=urgent).json()["emergency"]
    info = client.get("/v1/info").json()
    assert (info["choices"], info["choices_several"], info["max_choices"]) == (True, True, 20)
    assert 'queue="choices"' in client.get("/metrics").text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"question": ""}, "question: String should have at least 1 character"),
        ({"question": " \u200b\n"}, "The question is empty"),
        ({"question": "a" * 2_001}, "question: String should have at most 2000 characters"),
        ({"question": None}, "question: Input should be a valid string"),
        ({"choices": None}, "choices: Input should be a valid list"),
        ({"choices": "a, b"}, "choices: Input should be a valid list"),
        ({"choices": ["a"]}, "choices: List should have at least 2 items"),
        ({"choices": list("abcdefghijklmnopqrstu")}, "choices: List should have at most 20 items"),
        ({"choices": ["a", ""]}, "choices.1: String should have at least 1 character"),
        ({"choices": ["a", "b" * 2_001]}, "choices.1: String should have at most 2000 characters"),
        ({"choices": ["a", 1]}, "choices.1: Input should be a valid string"),
        ({"choices": ["a", " a"]}, "The choices are 'a', 'a'; expected two or more different texts"),
        ({"choices": ["a", "\u200b"]}, "expected two or more different texts"),
        ({"choices": ["a", "long"]}, "The choices of a question have 9 tokens; expected fewer than 5"),
        ({"context": "a" * 20_001}, "context: String should have at most 20000 characters"),
        ({"several": "perhaps"}, "several: Input should be a valid boolean"),
        ({"k": 3}, "k: Extra inputs"),
    ],
)
def test_wrong_requests(client, change, words):
    response = client.post("/v1/choices", json={"question": "q", "choices": ["a", "b"]} | change)
    assert words in message(response, 422, "invalid_request")


def test_other_errors(client):
    assert "no JSON" in message(client.post("/v1/choices", content=b"{"), 422, "invalid_request")
    assert "question: Field required" in message(client.post("/v1/choices", json={}), 422, "invalid_request")
    message(client.get("/v1/choices"), 405, "invalid_request")
    large = client.post("/v1/choices", json={"question": "q", "choices": ["a" * 200_000, "b" * 200_000]})
    assert "262144" in message(large, 413, "too_large")
    # What the model does wrong is no fault of the request.
    broken = client.post("/v1/choices", json={"question": "broken", "choices": ["a", "b"]})
    message(broken, 500, "internal")


def test_without_a_model():
    with running(app_of(None)) as client:
        refused = client.post("/v1/choices", json={"question": "q", "choices": ["a", "b"]})
        assert "no model that chooses. Start it with --choices_dir" in message(refused, 404, "invalid_request")
        assert client.get("/v1/info").json()["choices"] is False


def test_untrained_models_choose_one():
    settings = ServiceSettings(request_limits=RequestLimits(choices=3))
    with running(app_of(Told(threshold=None), settings)) as client:
        answer = client.post("/v1/choices", json={"question": "q", "choices": ["aa", "b"]}).json()
        assert (answer["trained"], answer["chosen"]) == (False, ["aa"])
        info = client.get("/v1/info").json()
        assert (info["choices"], info["choices_several"], info["max_choices"]) == (True, False, 3)
        refused = client.post("/v1/choices", json={"question": "q", "choices": ["a", "b"], "several": True})
        assert "several needs a model that was trained" in message(refused, 422, "invalid_request")
        refused = client.post("/v1/choices", json={"question": "q", "choices": list("abcd")})
        assert "at most 3 items" in message(refused, 422, "invalid_request")


@pytest.fixture(scope="module", params=["folder", "export"])
def folder(bpe, request, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("chooser") / "m")
    if request.param == "folder":
        return save(make(bpe), path)
    export(make(bpe), path)
    return path


def test_the_service_gives_what_the_model_gives(folders, folder):
    expected = ChoiceAnswerer.load(folder).ask(*CASE, several=True).as_json() | {"seconds": {}}
    with running(create_app(Reloadable(dataclasses.replace(folders, choices_dir=folder)))) as client:
        with concurrent.futures.ThreadPoolExecutor(8) as threads:
            bodies = [BODY | {"several": True}, {"question": "what?", "choices": ["x", "y"]}] * 8
            answers = list(threads.map(lambda body: client.post("/v1/choices", json=body).json(), bodies))
        for answer in answers[::2]:
            for choice, ours in zip(answer["choices"], expected["choices"], strict=True):
                assert choice == ours | {"probability": pytest.approx(ours["probability"], abs=1e-6)}
            assert answer | {"seconds": {}, "choices": expected["choices"]} == expected
        assert len({str(answer["choices"]) for answer in answers}) == 2


def test_alone(folder):
    """Without an index, questions are not answered; all else is as beside one."""
    with running(create_app(Reloadable(Folders(choices_dir=folder)))) as client:
        assert client.post("/v1/choices", json=BODY).json()["trained"]
        for route, body in (("answer", QUESTION), ("retrieve", QUESTION), ("embeddings", {"input": "a"})):
            for more in ({}, {"stream": True}) if route == "answer" else ({},):
                refused = client.post(f"/v1/{route}", json=body | more)
                assert "answers no questions. Start it with --model_dir" in message(refused, 404, "invalid_request")
        info = client.get("/v1/info").json()
        assert (info["num_answers"], info["generator"], info["examples"], info["choices"]) == (0, False, [], True)
        assert client.get("/readyz").json() == {"status": "ready"}


def test_what_an_answerer_needs():
    for folders, missing in (
        (Folders(), "Missing: --model_dir and --index_dir. Questions"),
        (Folders("m", choices_dir="c"), "Missing: --index_dir. Questions"),
        (Folders(generator_dir="g", triage_dir="t"), "Missing: --model_dir and --index_dir. Questions"),
    ):
        with pytest.raises(ValueError, match=missing):
            Reloadable(folders)


def choose(page, question="", context="", lines=""):
    for id, text in (("exam_question", question), ("exam_context", context), ("exam_lines", lines)):
        box = page.at(f"#{id}")
        box.clear()
        box.send_keys(text)
    page.at("#exam_submit").send_keys(Keys.ENTER)


@pytest.mark.skipif(bool(browser.MISSING), reason="the page is tested in Chromium")
def test_panel(driver):
    answerer = browser.Answerer()
    with serving(answerer) as server:
        page = Page(driver, server.url)
        assert not page.shows("#exam")
    answerer.chooser = ChoiceAnswerer(Told(), EMERGENCY)
    with serving(answerer) as server:
        page = Page(driver, server.url)
        page.until(lambda: page.shows("#exam"))
        for texts, words in (
            ((" ", "", "a\nb"), "Write the question first."),
            (("q", "", " a \n\n"), "Write two or more choices, each on a line of its own."),
            (("q", "", "a\nb\n a"), "Two choices are the same."),
            (("q", "", "a\nlong"), "The choices of a question have 9 tokens; expected fewer than 5."),
            (("q", "", "\n".join("abcdefghijklmnopqrstu")), "There are 21 choices; this service reads at most 20."),
        ):
            choose(page, *texts)
            page.until(lambda words=words: page.text("#exam_problem") == words)
            assert not page.shows("#chosen")
        assert page.at("#exam_lines").get_attribute("aria-invalid") == "true"
        choose(page, "what now?", "a long case: chest pain and no breath", "aaa\n<b>\n\nccc")
        page.until(lambda: page.shows("#chosen"))
        order = page.js("return [...document.querySelectorAll('#chosen > :not([hidden])')].map((part) => part.id)")
        assert order == ["exam_emergency", "exam_summary", "exam_choices", "exam_note", "exam_disclaimer"]
        assert "112" in page.text("#exam_emergency")
        rows = [item.text.split("\n") for item in page.driver.find_elements("css selector", "#exam_choices li")]
        assert [row[0].removesuffix(" (chosen)") for row in rows] == ["aaa", "<b>", "ccc"]
        assert [row[-1] for row in rows] == ["33%"] * 3
        assert len(page.driver.find_elements("css selector", "#exam_choices .chosen")) == 1
        assert page.text("#exam_note") == "The context is too long for the model: its end was not read."
        assert "not medical advice" in page.text("#exam_disclaimer")
        page.at("#exam_several").send_keys(Keys.SPACE)
        choose(page, "what now?", "", "aaa\nb\nccc")
        page.until(lambda: page.text("#exam_summary") == "Chosen: aaa; ccc")
        assert page.violations() == []
    answerer.chooser = ChoiceAnswerer(Told(threshold=None), EMERGENCY)
    with serving(answerer) as server:
        page = Page(driver, server.url)
        page.until(lambda: page.shows("#exam"))
        assert not page.shows("#exam_several")
        choose(page, "what now?", "", "aaa\nb\nccc")
        page.until(lambda: page.shows("#exam_note"))
        assert page.text("#exam_note").startswith("The model was not trained to choose")
        assert page.violations() == []


@pytest.mark.skipif(bool(browser.MISSING), reason="the page is tested in Chromium")
def test_page_without_stored_answers(driver):
    models = {"answerer": None, "examples": [], "triager": None, "chooser": ChoiceAnswerer(Told(), EMERGENCY)}
    with in_thread(create_app(types.SimpleNamespace(**models)), timeout_graceful_shutdown=1) as server:
        page = Page(driver, server.url, has_examples=False)
        page.until(lambda: page.shows("#exam"))
        assert not page.shows("#ask")
        assert page.text("h1") == "Ask the models below."
        assert page.js("return document.activeElement.id") == "exam_question"
        choose(page, "what now?", "", "aaa\nb\ncc")
        page.until(lambda: page.text("#exam_summary") == "Chosen: aaa")
        assert page.violations() == []
