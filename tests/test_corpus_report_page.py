"""The page of a corpus report in a real Chromium: light, dark, and on a phone."""

import pytest

from data_pipeline.corpora import PAIRS, Columns
from data_pipeline.report import ReportSettings, report
from data_pipeline.report.corpus import open_corpus
from data_pipeline.report.page import page
from tests import browser
from tests.conftest import write_csv

pytestmark = browser.MARKS
ROWS = [
    (
        f"What are the signs of illness {i % 9} in a person of {i} years?",
        f"Fever and pain in place {i}. " * (i % 40 + 1),
    )
    for i in range(60)
]
ROWS += [
    ("x" * 300, "an unbroken word"),
    ("كيف يعالج الربو؟", "mail me: a@b.example"),
    ("Is it?", "Yes"),
    ("Is it?", "No"),
]


class ReportPage(browser.Page):
    """A page that is a file."""

    def __init__(self, driver, url):
        self.driver, self.url = driver, url
        driver.get(url)
        self.js("document.querySelectorAll('details').forEach((one) => one.open = true)")


@pytest.fixture
def opened(driver, tmp_path):
    path = tmp_path / "report.html"
    first, second = (
        open_corpus([write_csv(tmp_path / f"questions_of_{name}.csv", rows)], PAIRS, Columns())
        for name, rows in (("first", ROWS), ("second", ROWS[30:]))
    )
    path.write_text(page(report(first, ReportSettings(), test=second, other=second)), encoding="utf-8")
    shown = ReportPage(driver, path.as_uri())
    yield shown
    shown.set_media()
    shown.set_width(1280, 900)


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_page_is_accessible_and_fits(opened, scheme, width):
    opened.set_media(prefers_color_scheme=scheme)
    opened.set_width(width)
    assert opened.violations() == []
    assert not opened.is_too_wide()
    assert opened.background() == {"light": "rgb(250, 248, 243)", "dark": "rgb(18, 21, 20)"}[scheme]


def test_names_of_rows_are_broken_between_words_on_a_phone(opened):
    opened.set_width(390)
    widths = "[...document.querySelectorAll('tbody th')].filter((name) => name.textContent.length > 12)"
    assert opened.js(f"return Math.min(...{widths}.map((name) => name.getBoundingClientRect().width))") > 60


def test_letters_of_charts_keep_their_size_on_a_phone(opened):
    opened.set_width(390)
    sizes = opened.js(
        "return [...document.querySelectorAll('svg text')].map((one) => one.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 12
    edges = opened.js(
        "return [...document.querySelectorAll('svg text')].map((one) => one.getBoundingClientRect().right)"
    )
    assert max(edges) <= 390
