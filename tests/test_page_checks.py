"""The page in a real Chromium: what the check of written sentences shows."""

import pytest

from docproduct.answering.support import Sentence
from tests import browser
from tests.browser import Keys

pytestmark = browser.MARKS
GOOD = Sentence("Inhalers help [1]. ", (1,), (), (1, 2), 0.9, True, True)
BAD = Sentence("So does gold [2]. ", (2,), (), (2,), 0.1, False, True, "Source 2 does not mention 'gold' here.")
REFUSAL = Sentence("The sources do not say.")


@pytest.fixture
def verdicts(monkeypatch):
    made = []
    monkeypatch.setattr(browser, "VERDICTS", made)
    return made


def test_each_sentence_has_its_sources_or_a_doubt(page, verdicts):
    verdicts += [GOOD, BAD]
    page.ask("asthma")
    assert page.shows("#quoted")  # above what was written
    assert page.at("#quoted").location["y"] < page.at("#written").location["y"]
    assert page.text("#written_text").strip() == f"Inhalers help.12 So does gold.{BAD.reason}"
    assert [part.text for part in page.driver.find_elements("css selector", ".doubtful")] == ["So does gold."]
    assert "Of 2 statements, 1 is in them." in page.text("#written .label").replace("\n", " ")
    assert page.violations() == []
    page.tab_to(".cite:nth-of-type(2)")
    page.keys(Keys.ENTER)
    opened = page.js("return [...document.querySelectorAll('.sources details')].map((one) => one.open)")
    assert opened == [False, True, False, False]
    assert page.js("return document.activeElement.matches('.sources li:nth-child(2) summary')")


def test_a_text_with_little_support_is_folded(page, verdicts):
    verdicts += [BAD, BAD, GOOD]
    page.ask("asthma")
    assert not page.shows("#written_text")
    assert "Of 3 statements, 1 is in them. So it is not shown at once." in page.text("#written .label")
    page.at("#unfold_written").click()
    assert page.text("#written_text").startswith("So does gold.")
    assert not page.shows("#unfold_written")
    page.ask("another")  # folded again
    assert not page.shows("#written_text")
    assert page.violations() == []


def test_a_refusal_stands_under_the_quoted_answer(page, verdicts):
    verdicts += [REFUSAL]
    page.ask("asthma")
    assert page.text("#written_text") == REFUSAL.text
    assert page.text("#support") == ""


def test_unsupported_sentences_can_be_left_out(page, answerer, verdicts):
    verdicts += [GOOD, BAD]
    page.at("#settings_button").click()
    page.at("#only_supported").click()
    page.ask("asthma")
    assert answerer.asked[-1].only_supported
    assert page.text("#written_text").strip() == "Inhalers help.12"
    assert "1 sentence without support was left out." in page.text("#support")
