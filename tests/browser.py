"""The page of a service in a real Chromium, and an answerer whose answers are known, for the tests of the page.

They need chromium, chromedriver, and what the dev extra brings; without them they are skipped, or fail if
REQUIRE_BROWSER is set.
"""

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
from docproduct.answering import Answer
from docproduct.answering.draft import Draft
from docproduct.answering.emergency import Emergency
from docproduct.answering.query import NOT_ANSWERABLE, Suggestion
from docproduct.answering.support import Sentence
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
MARKS = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=_REASON)]

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
VERDICTS = []
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --disable-dev-shm-usage "
    "--force-prefers-reduced-motion "  # no test meets a colour or a text half-way through its transition
    "--window-size=1280,900"
)


class GenerationSession:
    """Writes WRITTEN word by word; after the third word it waits until it may go on."""

    prompt = SimpleNamespace(answer_tokens=40, prompt_tokens=100, history=False)
    chat_template, tokenizer = None, SimpleNamespace(encode=lambda texts: [[] for _ in texts])

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
    """Finds PAIRS for every question; a question is answerable unless it contains "far".

    Where it is not, a cold may be meant, unless it contains "away".
    """

    def __init__(self, generator=None):
        self.generator, self.asked = generator, []
        self.triager = self.chooser = None
        pairs = SimpleNamespace(columns=("question", "answer", "source", "focus"))
        self.index = SimpleNamespace(num_answers=len(PAIRS), sources=lambda: self.sources, pairs=pairs)
        self.index.num_documents, self.index.sides = 0, ["answer", "question"]
        self.index.texts = dict(enumerate(PAIRS)).get
        self.sources, self.live = [], None
        self.examples = [QUESTION, "What is a cold?"]
        self.medical = Emergency.load(sample.EMERGENCY_LIST)

    def check(self, query):
        pass

    def check_support(self, written, finished=True):
        """Returns the verdicts of VERDICTS, which a test may change; by default there is nothing to check."""
        return VERDICTS or [Sentence(written)]

    def retrieve(self, queries):
        return [self._answer(query) for query in queries]

    def _answer(self, query):
        self.asked.append(query)
        answerable = "far" not in query.question
        hits = [Hit(0.9 - i / 10, i, *pair, "pairs.csv", "asthma") for i, pair in enumerate(PAIRS[: query.k])]
        quoted = hits[0].answer if answerable else NOT_ANSWERABLE
        seconds = {"encode": 0.004, "search": 0.002}
        advice = self.medical.advice(query.question)
        meant = () if answerable or "away" in query.question else (Suggestion("colds <b>", "What is a cold?"),)
        corrected = query.question.replace("astma", "asthma") if query.correct and "astma" in query.question else None
        answer = Answer(query.question, quoted, tuple(hits), answerable, None, 0, seconds, advice)
        return dataclasses.replace(answer, suggestions=meant, corrected=corrected)

    def writes(self, query, answer):
        return self.generator is not None and query.generate and answer.answerable

    def advice(self, question):
        return self.medical.advice(question)

    def draft(self, query, answer, *conversation):
        del conversation
        shortened = "very long" in answer.question
        answer = dataclasses.replace(answer, num_contexts=0 if shortened else 2, shortened=shortened)
        return Draft(answer, [1], self.check_support, query.only_supported)

    def sampling(self, **given):
        return GenerationSettings(**{"max_tokens": 40, **given})


@contextlib.contextmanager
def serving(answerer, wrap=lambda app: app, request_limits=RequestLimits(), feedback_file=None, **limits):
    """Serves the answerer in a thread; gives the server, with its address as `url`."""
    settings = ServiceSettings(feedback_file=feedback_file, limits=Limits(**limits), request_limits=request_limits)
    models = {"triager": answerer.triager, "chooser": answerer.chooser}
    app = wrap(create_app(SimpleNamespace(answerer=answerer, examples=answerer.examples, **models), settings))
    with in_thread(app, timeout_graceful_shutdown=1) as server:
        try:
            yield server
        finally:
            if answerer.generator:
                answerer.generator.go_on.set()


class Page:
    """The page as a person uses it: what one does with it, and what it shows."""

    def __init__(self, driver, url, has_examples=True):
        self.driver, self.url = driver, url
        driver.get(url)
        self.until(lambda: not has_examples or self.js("return document.querySelectorAll('#examples button').length"))

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


def start(user_data_dir):
    """Starts a Chromium that logs its console and its requests."""
    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={user_data_dir}"]:
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.get("about:blank")  # the browser's first tab sends requests of its own
    return driver


@contextlib.contextmanager
def opened(driver, url):
    """Opens the page; at the end its media, size and storage are as before, and its requests are checked."""
    driver.get("about:blank")  # the page of an earlier test sends no more requests
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    page = Page(driver, url)
    yield page
    page.set_media()
    page.set_width(1280, 900)
    page.js("localStorage.clear(); sessionStorage.clear()")
    requests = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls = [r["params"]["request"]["url"] for r in requests if r["method"] == "Network.requestWillBeSent"]
    assert not [url for url in urls if not url.startswith((page.url, "data:"))]
    assert not any("asthma" in url for url in urls)
    driver.get("about:blank")
