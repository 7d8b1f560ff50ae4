"""The conversation of the page in a real Chromium: turns, stop, write again, sources, corrections, a lost service."""

import httpx

from tests import browser
from tests.browser import HOSTILE, WRITTEN, Keys, serving
from tests.test_page_service import cut

pytestmark = browser.MARKS


def talk(page):
    page.at("#view_talk").click()
    page.until(lambda: page.shows("#talk_text"))


def say(page, words, wait=True):
    page.at("#talk_text").send_keys(words, Keys.ENTER)
    if wait:
        page.until(lambda: page.text("#talk_submit") == "Send")


def replies(page):
    return [item.text for item in page.driver.find_elements("css selector", ".turn .reply")]


def is_reachable(server):
    try:
        httpx.get(server.url, timeout=1)
    except httpx.TransportError:
        return False
    return True


def test_three_turns(page, answerer):
    talk(page)
    assert not page.shows("#ask")
    assert page.shows("#view_talk[aria-current]")
    for words in ("What is asthma?", "And in children? asthma", "What helps? asthma"):
        say(page, words)
    page.until(lambda: replies(page) == [WRITTEN] * 3)
    assert [item.text for item in page.driver.find_elements("css selector", ".turn .words")][2] == "What helps? asthma"
    second = page.driver.find_elements("css selector", ".turn")[1]
    second.find_element("css selector", ".turn_sources > summary").click()
    details = second.find_elements("css selector", ".turn_sources details")
    details[1].find_element("css selector", "summary").click()
    page.until(lambda: details[1].find_element("css selector", ".text").text == HOSTILE)  # a text, not HTML
    again = [button.is_displayed() for button in page.driver.find_elements("css selector", ".again")]
    assert again == [False, False, True]
    assert page.violations() == []
    page.set_media(prefers_color_scheme="dark")
    page.set_width(390)
    assert not page.is_too_wide()
    assert page.violations() == []
    # The conversation outlives the page, in this tab.
    page.driver.refresh()
    page.until(lambda: page.shows("#view_talk"))
    talk(page)
    page.until(lambda: replies(page) == [WRITTEN] * 3)
    page.at("#talk_reset").click()
    assert replies(page) == []
    page.at("#view_ask").click()
    page.until(lambda: page.shows("#ask"))
    assert not page.shows("#talk")


def test_stop_and_write_again(page, answerer):
    talk(page)
    answerer.generator.go_on.clear()
    say(page, "What is asthma?", wait=False)
    page.until(lambda: replies(page) == ["Asthma is treated"])
    assert page.text("#talk_submit") == "Stop"
    page.keys(Keys.ESCAPE)
    page.until(lambda: page.text("#talk_submit") == "Send")
    page.until(lambda: answerer.generator.given_up or answerer.generator.go_on.set())
    page.until(lambda: replies(page) == ["Asthma is treated"])
    assert not page.shows("#talk_trouble")
    page.tab_to(".again")
    page.keys(Keys.ENTER)
    page.until(lambda: replies(page) == [WRITTEN])
    assert answerer.generator.settings.temperature == 0.7


def test_a_lost_service(page, server, answerer):
    talk(page)
    say(page, "What is asthma?")
    cut(server)
    page.until(lambda: not is_reachable(server))
    say(page, "And asthma in children?", wait=False)
    page.until(lambda: page.shows("#talk_trouble"))
    assert page.text("#talk_trouble_words").startswith("The service cannot be reached.")
    page.until(lambda: replies(page)[0] == WRITTEN)
    assert page.violations() == []


def test_emergencies_and_what_is_far(page, answerer):
    talk(page)
    say(page, "")
    assert page.text("#talk_problem") == "Write a message first."
    say(page, "I have crushing chest pain, far")
    page.until(lambda: page.shows(".turn .emergency"))
    assert "No stored answer is close enough" in replies(page)[0]
    assert page.text(".turn .emergency") not in replies(page)[0]
    assert not page.shows(".turn_sources")
    answerer.generator.go_on.clear()
    say(page, "I have crushing chest pain", wait=False)
    page.until(lambda: page.shows(".turn:last-child .emergency") and replies(page)[1] == "Asthma is treated")
    assert page.text("#talk_submit") == "Stop"  # the reply is not complete
    answerer.generator.go_on.set()
    page.until(lambda: replies(page)[1] == WRITTEN)
    say(page, "What helps against astma?")
    page.until(lambda: page.text(".turn:last-child .query") == "Searched for What helps against asthma?")
    assert not page.shows(".turn:last-child .emergency")
    say(page, "hello")
    page.until(lambda: replies(page)[3].startswith("Hello."))


def test_only_with_a_generator(driver):
    with serving(browser.Answerer()) as server, browser.opened(driver, server.url) as page:
        assert not page.shows("#view_talk")
