"""The page in a real Chromium, and what the service does to it: limits, tokens, failures, streams in pieces."""

import asyncio

from docproduct.web.settings import RequestLimits
from tests import browser
from tests.browser import WRITTEN, Keys, Page, WebDriverWait, serving

pytestmark = browser.MARKS


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
    monkeypatch.setattr(browser, "PAIRS", [(f"a{separators}cold", f"x{separators}y\r\nz")])
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


def test_a_stream_that_comes_in_pieces(driver, answerer, monkeypatch):
    monkeypatch.setattr(browser, "PAIRS", [("哮喘", "气短可能由哮喘引起。")])
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
