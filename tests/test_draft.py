"""An answer while it is written: checked when it is complete, or sentence by sentence."""

import dataclasses

import pytest

from docproduct.answering import Answer
from docproduct.answering.draft import Draft
from docproduct.answering.query import LEAST_SUPPORT
from docproduct.answering.support import SupportChecker
from docproduct.generation.session import Generation

SOURCES = [
    ("How is asthma treated?", "Asthma is treated with inhaled steroids. Smoking makes asthma worse."),
    ("How is gout treated?", "Gout is treated with colchicine for 3 days."),
]
TRUE = ("Asthma is treated with inhaled steroids [1].", "Smoking makes asthma worse [7].")
FALSE = ("Gout is treated with colchicine for 30 days [2].", "Gallstones are removed through the mouth.")
REFUSAL = "The sources do not say."


def draft(only_supported=False):
    check = SupportChecker().against(SOURCES)
    return Draft(Answer("q", "a", (), True, None, 2, {"search": 1.0}), [5], check, only_supported)


def written(*sentences, finished=True):
    return Generation((), " ".join(sentences), finished, 1)


def test_a_complete_text_is_checked():
    answer = draft().complete(written(TRUE[0], FALSE[0], TRUE[1], REFUSAL), 2.0)
    assert [sentence.supported for sentence in answer.sentences] == [True, False, True, False]
    assert [sentence.checkable for sentence in answer.sentences] == [True, True, True, False]
    assert (answer.support, answer.is_supported) == (pytest.approx(2 / 3), True)
    # There is no source 7.
    assert answer.generated == f"{TRUE[0]} {FALSE[0]} Smoking makes asthma worse. {REFUSAL}"
    assert answer.seconds == {"search": 1.0, "write": 2.0}
    assert (answer.finished, answer.num_left_out) == (True, 0)
    stored = answer.as_json()
    assert [sentence["sources"] for sentence in stored["sentences"]][:2] == [(1,), (2,)]
    assert "30 days" in stored["sentences"][1]["reason"]
    assert (stored["support"], stored["supported"]) == (answer.support, True)


def test_a_text_with_little_support_is_not_shown_at_once():
    answer = draft().complete(written(*FALSE, TRUE[0]), 0)
    assert answer.support == pytest.approx(1 / 3)
    assert answer.support < LEAST_SUPPORT
    assert answer.is_supported is False


def test_a_refusal_makes_no_statement():
    answer = draft().complete(written(REFUSAL), 0)
    assert (answer.generated, answer.support, answer.is_supported) == (REFUSAL, None, None)


def test_a_growing_text_is_not_checked():
    answer = draft().growing(written(TRUE[0], FALSE[0], finished=False), 0)
    assert (answer.generated, answer.sentences, answer.finished) == (f"{TRUE[0]} {FALSE[0]}", (), False)


def test_only_supported_sentences():
    parts = [TRUE[0], FALSE[0], REFUSAL, FALSE[1], TRUE[1]]
    made = draft(only_supported=True)
    shown = [made.growing(written(*parts[:end], finished=False), 0).generated for end in range(1, 6)]
    # The last sentence of a growing text may not be complete.
    assert shown == ["", TRUE[0], TRUE[0], f"{TRUE[0]} {REFUSAL}", f"{TRUE[0]} {REFUSAL}"]
    answer = made.complete(written(*parts), 0)
    assert answer.generated == f"{TRUE[0]} {REFUSAL} Smoking makes asthma worse."
    assert (answer.num_left_out, answer.support) == (2, 1.0)


def test_nothing_is_left():
    answer = draft(only_supported=True).complete(written(*FALSE), 0)
    assert (answer.generated, answer.num_left_out, answer.support) == ("", 2, None)


def test_another_question_has_its_own_settings():
    made = draft()
    other = made._replace(only_supported=True)
    text = written(*FALSE)
    assert made.complete(text, 0).generated
    assert dataclasses.replace(other.complete(text, 0), num_left_out=0).generated == ""
