"""The page in a real Chromium: ratings of answers."""

import json

from tests import browser
from tests.browser import Page, serving

pytestmark = browser.MARKS


def test_an_answer_is_rated_once_and_a_refusal_is_not(driver, answerer, tmp_path):
    path = tmp_path / "feedback.jsonl"
    with serving(answerer, feedback_file=str(path)) as server:
        page = Page(driver, server.url)
        page.until(lambda: "keeps ratings, and questions that it cannot answer." in page.text("#disclaimer"))
        page.ask("asthma")
        page.until(lambda: page.shows("#rate"))
        assert page.violations() == []
        page.js("document.getElementById('missed').click(); document.getElementById('missed').click()")
        page.until(lambda: page.text("#rate") == "Thank you, it is noted.")
        page.ask("far away")
        page.until(lambda: page.shows("#far"))
        assert not page.shows("#rate")
        page.ask("asthma again")
        page.until(lambda: page.shows("#helped"))
        page.js("document.getElementById('helped').click()")
        page.until(lambda: page.text("#rate") == "Thank you, it is noted.")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    expected = [("rating", "asthma", False), ("refused", "far away", None), ("rating", "asthma again", True)]
    assert [(line["kind"], line["question"], line.get("helpful")) for line in lines] == expected


def test_nothing_is_asked_where_nothing_is_kept(page):
    page.ask("asthma")
    page.until(lambda: page.shows("#foot"))
    assert not page.shows("#rate")
    assert "keeps" not in page.text("#disclaimer")
