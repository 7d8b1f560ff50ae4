"""The page in a real Chromium: by keyboard, on a phone, in both themes, with hostile texts, and when the service ends.

Needs chromium, chromedriver, and what the dev extra brings; without them these tests are skipped, or fail if
REQUIRE_BROWSER is set.
"""

import asyncio
import contextlib
import dataclasses
import importlib
import importlib.util
import json
import os
import pathlib
import shutil
import threading
import time
from types import SimpleNamespace

import pytest

from docproduct import sample
from docproduct.answering import DISCLAIMER, Answer
from docproduct.answering.emergency import ADVICE, Emergency
from docproduct.answering.query import NOT_ANSWERABLE
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation
from docproduct.index import Hit
from docproduct.web.server import create_app
from docproduct.web.settings import Limits, RequestLimits, ServiceSettings
from tests.serving import in_thread

MISSING = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
MISSING += [name for name in ("selenium", "axe_core_python") if not importlib.util.find_spec(name)]
if MISSING and os.environ.get("REQUIRE_BROWSER"):
    raise RuntimeError(f"REQUIRE_BROWSER is set, but these are missing: {', '.join(MISSING)}.")

webdriver, Keys, WebDriverWait = None, None, None
if not MISSING:
    webdriver = importlib.import_module("selenium.webdriver")
    WebDriverWait = importlib.import_module("selenium.webdriver.support.ui").WebDriverWait
    Keys = webdriver.Keys

# A mark, not a skip of the whole file: pytest then counts its tests.
_REASON = f"the page is tested in Chromium; missing: {', '.join(MISSING)} (apt-get install chromium chromium-driver)"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=_REASON)]

QUESTION = "How is asthma treated? 哮喘"
HOSTILE = "Smaller doses. <script>alert(1)</script> <img src=x onerror=alert(2)>"
LONG = "An inhaler opens the airways of people with ASTHMA, the nurse shows how. " * 30
PAIRS = [
    ("What helps people with asthma?", LONG),
    ("How are children treated?", HOSTILE),
    ("气短怎么办？", "气短可能由哮喘引起。"),
    ("كيف يعالج الربو؟", "x" * 400),
]
WRITTEN = "Asthma is treated with inhalers, 哮喘 too, and with a plan that says when to call for help."
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage "
    "--window-size=1280,900"
)


class GenerationSession:
    """Writes WRITTEN word by word; after the third word it waits until it may go on."""

    prompt = SimpleNamespace(answer_tokens=40)

    def __init__(self):
        self.go_on = threading.Event()
        self.fails = self.given_up = False
        self.settings = None

    def stream_many(self, prompts, settings):
        self.settings = settings
        words = WRITTEN.split(" ")
        try:
            for end in range(1, len(words) + 1):
                text = " ".join(words[:end])
                yield [Generation((7,) * end, text, end == len(words), end) for _ in prompts]
                if end == 3:
                    self.go_on.wait(20)
                    if self.fails:
                        raise RuntimeError("The generator fails.")
                time.sleep(0.01)
        except GeneratorExit:
            self.given_up = True
            raise


class Answerer:
    """Finds PAIRS for every question; a question is answerable unless it contains "far"."""

    def __init__(self, generator=None):
        self.generator, self.asked = generator, []
        self.index = SimpleNamespace(num_answers=len(PAIRS))
        self.examples = [QUESTION, "What is a cold?"]
        self.medical = Emergency.load(sample.EMERGENCY_LIST)

    def check(self, query):
        pass

    def retrieve(self, queries):
        return [self._answer(query) for query in queries]

    def _answer(self, query):
        self.asked.append(query)
        answerable = "far" not in query.question
        hits = [Hit(0.9 - i / 10, i, *pair, "pairs.csv", "asthma") for i, pair in enumerate(PAIRS[: query.k])]
        quoted = hits[0].answer if answerable else NOT_ANSWERABLE
        seconds = {"encode": 0.004, "search": 0.002}
        advice = self.medical.advice(query.question)
        return Answer(query.question, quoted, tuple(hits), answerable, None, 0, seconds, advice)

    def writes(self, query, answer):
        return self.generator is not None and query.generate and answer.answerable

    def prompt(self, answer):
        shortened = "very long" in answer.question
        return dataclasses.replace(answer, num_contexts=0 if shortened else 2, shortened=shortened), [1]

    def sampling(self, **given):
        return GenerationSettings(**{"max_tokens": 40, **given})


@contextlib.contextmanager
def serving(answerer, wrap=lambda app: app, request_limits=RequestLimits(), **limits):
    """Serves the answerer in a thread; gives the server, with its address as `url`."""
    settings = ServiceSettings(limits=Limits(**limits), request_limits=request_limits)
    app = wrap(create_app(SimpleNamespace(answerer=answerer, examples=answerer.examples), settings))
    with in_thread(app, timeout_graceful_shutdown=1) as server:
        try:
            yield server
        finally:
            if answerer.generator:
                answerer.generator.go_on.set()


def in_pieces(app):
    """Sends event streams with CRLF and in pieces of 5 bytes, which end inside characters and line ends."""

    async def wrapped(scope, receive, send):
        streams = False

        async def sending(message):
            nonlocal streams
            if message["type"] == "http.response.start":
                streams = b"text/event-stream" in dict(message["headers"])[b"content-type"]
            body = message.get("body", b"")
            if not streams or not body:
                await send(message)
                return
            body = body.replace(b"\n", b"\r\n")
            for start in range(0, len(body), 5):
                await send(message | {"body": body[start : start + 5], "more_body": True})
                await asyncio.sleep(0.0005)

        await app(scope, receive, sending if scope["type"] == "http" else send)

    return wrapped


def cut(server):
    """Ends the service as a killed process would: no new connections, and open ones are reset."""
    server.should_exit = True
    for connection in list(server.server_state.connections):
        connection.loop.call_soon_threadsafe(connection.transport.abort)


class Page:
    """The page as a person uses it: what one does with it, and what it shows."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url
        driver.get(url)
        self.until(lambda: self.js("return document.querySelectorAll('#examples button').length"))

    def js(self, script, *values):
        return self.driver.execute_script(script, *values)

    def at(self, css):
        return self.driver.find_element("css selector", css)

    def text(self, css):
        return self.at(css).text

    def shows(self, css):
        return self.at(css).is_displayed()

    def until(self, condition):
        return WebDriverWait(self.driver, 20, poll_frequency=0.02).until(lambda _: condition())

    def keys(self, *keys):
        self.driver.switch_to.active_element.send_keys(*keys)

    def ask(self, question, wait=True):
        box = self.at("#question")
        box.clear()
        box.send_keys(question, Keys.ENTER)
        if wait:
            self.until(lambda: self.at("#submit").text == "Ask" and self.shows("#answer"))

    def tab_to(self, css):
        """Presses Tab until the element has the focus."""
        for _ in range(40):
            if self.js("return document.activeElement.matches(arguments[0])", css):
                return
            self.keys(Keys.TAB)
        raise AssertionError(f"Tab does not reach {css}.")

    def violations(self):
        """Returns the violations that axe-core calls serious or critical."""
        (script,) = pathlib.Path(importlib.util.find_spec("axe_core_python").origin).parent.rglob("axe.min.js")
        self.js(script.read_text(encoding="utf-8"))
        violations = self.driver.execute_async_script("axe.run(document).then((run) => arguments[0](run.violations));")
        return [
            (violation["id"], [node["html"] for node in violation["nodes"]])
            for violation in violations
            if violation["impact"] in ("serious", "critical")
        ]

    def set_media(self, **features):
        values = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": values})

    def set_width(self, width, height=844):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)

    def is_too_wide(self):
        return self.js("return document.documentElement.scrollWidth > innerWidth")

    def background(self):
        return self.js("return getComputedStyle(document.body).backgroundColor")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.get("about:blank")  # the browser's first tab sends requests of its own
    yield driver
    driver.quit()


@pytest.fixture
def answerer():
    answerer = Answerer(GenerationSession())
    answerer.generator.go_on.set()
    return answerer


@pytest.fixture
def server(answerer):
    with serving(answerer) as server:
        yield server


@pytest.fixture
def page(driver, server):
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    page = Page(driver, server.url)
    yield page
    page.set_media()
    page.set_width(1280, 900)
    page.js("localStorage.clear(); sessionStorage.clear()")
    requests = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [r["params"]["request"]["url"] for r in requests if r["method"] == "Network.requestWillBeSent"]
    assert not [url for url in urls if not url.startswith((server.url, "data:"))]
    assert not any("asthma" in url for url in urls)
    driver.get("about:blank")


def console(page):
    return [entry["message"] for entry in page.driver.get_log("browser")]


def test_ask_and_open_a_source_by_keyboard_alone(page, answerer):
    answerer.generator.go_on.clear()
    page.js("document.activeElement.blur()")
    page.keys("/")
    page.keys("asthma?", Keys.SHIFT, Keys.ENTER, Keys.NULL, "two")
    assert page.at("#question").get_property("value") == "asthma?\ntwo"
    page.keys(Keys.CONTROL, "a", Keys.NULL, QUESTION, Keys.ENTER)
    page.until(lambda: page.text("#written_text") == "Asthma is treated")
    assert page.at("#submit").text == "Stop"
    assert page.text("#status") == "4 sources found. Writing the answer."
    answerer.generator.go_on.set()
    page.until(lambda: page.text("#written_text") == WRITTEN)
    page.until(lambda: page.at("#submit").text == "Ask")
    assert page.text("#status") == "The answer is complete, with 4 sources."
    assert page.text("#written .label").startswith("Written by a machine from the sources marked")
    assert [dot.is_displayed() for dot in page.driver.find_elements("css selector", "summary .dot")] == [
        True,
        True,
        False,
        False,
    ]
    assert page.text("#disclaimer") == DISCLAIMER
    assert page.shows("#disclaimer")
    page.tab_to("summary")
    assert not page.shows("details .text")
    page.keys(Keys.ENTER)
    page.until(lambda: page.shows("details .text") and page.shows(".unfold"))
    page.tab_to(".unfold")
    folded = page.at("details .text").size["height"]
    page.keys(Keys.SPACE)
    page.until(lambda: page.at("details .text").size["height"] > 2 * folded)
    assert page.at(".unfold").get_attribute("aria-expanded") == "true"
    assert page.driver.current_url == page.url
    assert console(page) == []


def test_words_of_the_question_are_marked_and_texts_stay_texts(page):
    page.ask(QUESTION)
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    marks = page.js("return [...document.querySelectorAll('.sources mark')].map((mark) => mark.textContent)")
    # "is" and "how" are stop words; 气短 is not asked for.
    assert set(marks) == {"asthma", "ASTHMA", "treated", "哮喘"}
    texts = page.js("return [...document.querySelectorAll('.sources .text')].map((text) => text.textContent)")
    assert texts == [answer for _, answer in PAIRS]
    assert page.js("return document.querySelectorAll('.sources script, .sources img').length") == 0
    assert page.js("return getComputedStyle(document.querySelectorAll('summary .name')[3]).direction") == "rtl"
    assert console(page) == []


def test_empty_and_long_questions_are_not_sent(page, answerer):
    page.ask("  ", wait=False)
    assert page.text("#problem") == "Write a question first."
    assert page.at("#question").get_attribute("aria-invalid") == "true"
    page.js("document.querySelector('#question').value = arguments[0]", "😀" * 2001)
    page.keys(Keys.ENTER)
    words = "The question has 2001 characters, and this service reads at most 2000. Leave out 1."
    assert page.text("#problem") == words
    assert answerer.asked == []
    page.js("document.querySelector('#question').value = arguments[0]", "😀" * 2000)
    page.keys(Keys.ENTER)
    page.until(lambda: page.shows("#sources"))
    assert page.text("#problem") == ""


def test_settings_reach_the_service(page, answerer):
    page.at("#settings_button").click()
    page.at("#k").send_keys(Keys.ARROW_LEFT * 2)  # from 4, the number of pairs
    page.at("#temperature").send_keys(Keys.ARROW_RIGHT * 7)
    page.at("[value=question] + span").click()
    page.ask("a cough")
    assert [(query.question, query.k, query.search_by) for query in answerer.asked] == [("a cough", 2, "question")]
    assert answerer.generator.settings.temperature == pytest.approx(0.7)
    assert f"temperature 0.7, seed {answerer.generator.settings.seed}" in page.text("#timings")
    page.at("#generate").click()
    page.ask("a cold")
    assert page.text("#quoted_text").startswith("An inhaler opens")
    assert not page.shows("#written")


def test_a_shortened_question_is_reported(page):
    page.ask("asthma")
    assert not page.shows("#shortened")
    page.ask("a very long question")
    label = page.text("#written .label").replace("\n", " ")
    assert label.startswith("Written by a machine The question is too long for it")


def test_stop_keeps_what_was_written_and_frees_the_service(page, answerer):
    answerer.generator.go_on.clear()
    page.ask("asthma", wait=False)
    page.until(lambda: page.text("#written_text") == "Asthma is treated")
    page.keys(Keys.ESCAPE)
    page.until(lambda: page.text("#trouble_words") == "Stopped. What came before it is kept.")
    assert page.text("#written_text") == "Asthma is treated"
    answerer.generator.go_on.set()
    page.until(lambda: answerer.generator.given_up)
    page.at("#retry").click()
    page.until(lambda: page.text("#written_text") == WRITTEN)
    page.until(lambda: not page.shows("#trouble"))


def test_a_lost_connection_is_reported(page, server, answerer):
    answerer.generator.go_on.clear()
    page.ask("asthma", wait=False)
    page.until(lambda: page.text("#written_text") == "Asthma is treated")
    cut(server)
    page.until(lambda: page.shows("#trouble"))
    words = "The answer ended early: the connection was lost. What came before it is kept."
    assert page.text("#trouble_words") == words
    assert page.text("#written_text") == "Asthma is treated"
    assert len(page.driver.find_elements("css selector", "summary")) == 4
    answerer.generator.go_on.set()
    page.tab_to("#retry")
    page.keys(Keys.ENTER)
    page.until(lambda: page.text("#trouble_words").startswith("The service cannot be reached."))
    assert page.violations() == []


def test_line_separators_are_text(page, answerer, monkeypatch):
    """JavaScript treats U+2028 as the end of a line, and Python even more characters; JSON and event streams do not."""
    separators = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    monkeypatch.setitem(globals(), "PAIRS", [(f"a{separators}cold", f"x{separators}y\r\nz")])
    page.js("document.getElementById('question').value = arguments[0]", f"a cold{separators}or two")
    page.at("#question").send_keys(Keys.ENTER)
    page.until(lambda: page.at("#submit").text == "Ask" and page.shows("#answer"))
    assert page.text("#trouble_words") == ""
    assert page.text("#written_text") == WRITTEN
    assert answerer.asked[-1].question == f"a cold{separators}or two"
    assert page.js("return document.querySelector('.sources .text').textContent") == f"x{separators}y\r\nz"


def test_the_page_uses_the_limits_of_the_service(driver, answerer):
    with serving(answerer, request_limits=RequestLimits(question_chars=12)) as server:
        page = Page(driver, server.url)
        page.ask("a" * 13, wait=False)
        words = "The question has 13 characters, and this service reads at most 12. Leave out 1."
        page.until(lambda: page.text("#problem") == words)
        page.ask("a" * 12)
        assert page.text("#problem") == ""
        assert page.text("#written_text") == WRITTEN
        driver.get("about:blank")


def test_other_sites_read_answers_only_if_allowed(driver, answerer):
    """A browser lets another site's page read streams and refusals if its origin is allowed, and nothing otherwise."""
    ask = """
        const [url, token, done] = arguments;
        const headers = {"Content-Type": "application/json", Authorization: `Bearer ${token}`};
        const body = JSON.stringify({question: "a cold", stream: true});
        fetch(`${url}v1/answer`, {method: "POST", headers, body})
          .then(async (response) => done([response.status, (await response.text()).slice(0, 13)]))
          .catch((error) => done([0, String(error)]));"""
    with serving(answerer) as other:
        with serving(answerer, token="secret", cors_origins=(other.url.rstrip("/"),)) as server:
            driver.get(other.url + "healthz")  # a document without the page's own policy
            assert driver.execute_async_script(ask, server.url, "secret") == [200, "event: answer"]
            assert driver.execute_async_script(ask, server.url, "wrong")[0] == 401
        with serving(answerer, token="secret", cors_origins=("https://a.example",)) as server:
            assert driver.execute_async_script(ask, server.url, "secret") == [0, "TypeError: Failed to fetch"]
        driver.get("about:blank")
        driver.get_log("browser")


def test_a_failing_generator_is_reported(page, answerer):
    answerer.generator.fails = True
    page.ask("asthma")
    assert page.text("#trouble_words").startswith("Something went wrong here; the service's log says more. What came")
    assert page.text("#written_text") == "Asthma is treated"
    assert page.shows("#sources")


def test_no_answer_and_an_emergency(page):
    page.ask("a far country")
    assert page.text("#far h2") == "No answer"
    assert page.text("#status") == NOT_ANSWERABLE
    assert NOT_ANSWERABLE in page.text("#far")
    assert not page.shows("#copy")
    assert not page.shows("#emergency")
    page.ask("I have chest pain and can't breathe")
    assert page.text("#emergency") == ADVICE
    assert page.at("#emergency").location["y"] < page.at("#written").location["y"]
    assert page.at("#emergency").get_attribute("role") == "alert"


def test_back_and_the_list_go_to_earlier_questions(page, answerer):
    page.ask("a cold")
    page.ask("a cough")
    assert page.text("#earlier li") == "a cold"
    page.driver.back()
    page.until(lambda: page.at("#question").get_property("value") == "a cold")
    assert page.text("#written_text") == WRITTEN
    page.at("#earlier button").click()
    assert page.at("#question").get_property("value") == "a cough"
    assert len(answerer.asked) == 2
    page.at("#home").click()
    assert page.shows("#examples")
    page.at("#examples button").click()
    page.until(lambda: page.shows("#foot"))
    assert answerer.asked[-1].question == QUESTION
    assert page.js("return Object.keys(localStorage).length + Object.keys(sessionStorage).length") == 0


def test_a_token_is_asked_for_only_when_needed(driver, answerer):
    with serving(answerer, token="secret") as server:
        driver.get(server.url)
        WebDriverWait(driver, 20).until(lambda _: driver.switch_to.active_element.get_attribute("id") == "token")
        driver.switch_to.active_element.send_keys("wrong", Keys.ENTER)
        words = driver.find_element("id", "token_words")
        WebDriverWait(driver, 20).until(lambda _: words.text == "That token was not accepted.")
        driver.switch_to.active_element.send_keys("secret", Keys.ENTER)
        page = Page(driver, server.url)  # the tab keeps the token
        assert not page.shows("#token_form")
        page.ask("a cold")
        assert page.text("#written_text") == WRITTEN
        page.js("sessionStorage.clear()")
        driver.get("about:blank")


def test_the_rate_limit_is_reported(driver, answerer):
    with serving(answerer, rate="2/minute") as server:
        page = Page(driver, server.url)  # it asks for the service's facts
        page.ask("a cold")
        page.ask("a cough")
        assert "Try again in" in page.text("#trouble_words")
        driver.get("about:blank")


def test_an_answer_can_be_copied(page):
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    page.ask("a cold")
    page.at("#copy").click()
    page.until(lambda: page.text("#copy") == "Copied")
    copied = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert copied == f"{WRITTEN}\n\n{DISCLAIMER}"


def test_a_stream_that_comes_in_pieces(driver, answerer, monkeypatch):
    monkeypatch.setitem(globals(), "PAIRS", [("哮喘", "气短可能由哮喘引起。")])
    with serving(answerer, in_pieces) as server:
        page = Page(driver, server.url)
        page.ask("哮喘")
        assert page.text("#trouble_words") == ""
        assert page.text("#written_text") == WRITTEN
        assert page.text("summary mark") == "哮喘"
        driver.get("about:blank")


def test_the_nearest_answer_is_quoted_without_a_generator(driver, answerer):
    answerer.generator = None
    with serving(answerer) as server:
        page = Page(driver, server.url)
        page.at("#settings_button").click()
        assert page.shows("#k")
        assert not page.shows("#temperature")
        page.ask("asthma")
        assert page.text("#quoted .label").startswith("The nearest stored answer, quoted.")
        assert page.text("#quoted mark") == "ASTHMA"
        driver.get("about:blank")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_phone_screen_in_both_themes(page, theme):
    page.set_media(prefers_color_scheme=theme, prefers_reduced_motion="reduce")
    page.set_width(390)
    light = sum(map(int, page.background().strip("rgb()").split(","))) > 3 * 128
    assert light == (theme == "light")
    assert page.js("return document.getAnimations().length") == 0
    states = {"start": None, "answer": "asthma " + "x" * 300, "far": "far", "emergency": "chest pain, can't breathe"}
    for state, question in states.items():
        if question:
            page.ask(question)
            page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
        for width in (320, 390):
            page.set_width(width)
            assert not page.is_too_wide(), (state, width)
        assert page.violations() == [], state
        footer = page.js("return document.querySelector('#disclaimer').getBoundingClientRect().bottom <= innerHeight")
        assert footer, state


def test_the_theme_can_be_chosen_and_is_remembered(page):
    page.set_media(prefers_color_scheme="light")
    before = page.background()
    page.at("#theme").click()
    assert page.background() != before
    page.driver.refresh()
    page.until(lambda: page.shows("#examples"))
    assert page.background() != before
    page.at("#theme").click()
    assert page.background() == before
