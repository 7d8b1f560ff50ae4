"""The page in a real Chromium: passages of documents, which have a place in place of a question."""

import pytest

from docproduct.answering.support import Sentence
from docproduct.index import Hit
from tests import browser

pytestmark = browser.MARKS
PLACES = ["Asthma guide, Treatment > In <b>children</b>, page 1", "leaflet.pdf, page 2"]


@pytest.fixture
def documents(answerer, monkeypatch):
    """The answerer finds passages only; the first two are of documents with and without a title."""

    def passage(score, number, question, answer, *_):
        del question
        parts = ("Asthma guide", "Treatment > In <b>children</b>") if not number else ("", "")
        return Hit(score, number, "", answer, "leaflet.pdf", "", None, *parts, str(number + 1))

    monkeypatch.setattr(browser, "Hit", passage)
    answerer.index.num_documents, answerer.index.sides = 2, ["answer"]


def test_a_passage_is_quoted_and_listed_with_its_place(documents, page, monkeypatch):
    del documents
    monkeypatch.setattr(browser, "VERDICTS", [Sentence("Inhalers help [1]. ", (1,), (), (1,), 0.9, True, True)])
    assert page.text("#about").startswith("Your question is compared with 4 passages of 2 documents.")
    assert not page.shows("#search_by")
    for width, theme in ((1280, "light"), (1280, "dark"), (360, "light")):
        page.set_width(width)
        page.set_media(prefers_color_scheme=theme)
        page.ask("asthma")
        assert page.text("#quoted_passage") == f"The nearest passage, quoted from {PLACES[0]}"
        names = [name.text for name in page.driver.find_elements("css selector", ".sources .name")]
        assert names[:2] == PLACES
        page.js("document.querySelector('.sources details').open = true")
        assert page.text(".sources .origin") == "leaflet.pdf"
        assert page.at("#written_text .cite").get_attribute("title") == PLACES[0]
        assert not page.is_too_wide()
        assert page.violations() == []
