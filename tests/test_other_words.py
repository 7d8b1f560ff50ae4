"""Questions in other words: rules by hand, slips, and what is left alone."""

import random

import pytest

from data_pipeline import cleaning
from data_pipeline.other_words import KINDS, by_another_name, misspelt, rewordings, topic
from data_pipeline.paraphrases import subject


def distance(a, b):
    """Restricted Damerau-Levenshtein distance, by the textbook's recursion."""
    rows = [[i + j if not i * j else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            cost = a[i - 1] != b[j - 1]
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + cost)
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


def by_kind(question, focus="", seeds=range(30), stored=()):
    found = {}
    for seed in seeds:
        for text, kind in rewordings(question, focus, random.Random(seed), stored):
            found.setdefault(kind, set()).add(text)
    return found


def test_every_kind_by_hand():
    found = by_kind("What are the symptoms of Noonan Syndrome ?", "Noonan Syndrome")
    assert set(found) == set(KINDS)
    assert found["name"] == {"Noonan Syndrome", "noonan syndrome"}
    terms = {"Noonan Syndrome symptoms", "symptoms Noonan Syndrome"}
    assert found["terms"] == terms | set(map(str.lower, terms))
    assert "How do I know if I have Noonan Syndrome?" in found["rephrased"]
    assert "where can i find information on noonan syndrome" in found["information"]
    assert "can you tell me what are the symptoms of Noonan Syndrome?" in found["asked"]
    # The slip is in the name, which stands in the question or beside its other word.
    for text in found["misspelt"]:
        assert "symptoms" in text
        bases = {"What are the symptoms of Noonan Syndrome?", *terms}
        assert min(distance(text.lower(), base.lower()) for base in bases) == 1


def test_the_form_of_a_question_names_its_topic_where_no_focus_does():
    for focus in ("", "hay fever"):
        found = by_kind("What are the symptoms of Noonan Syndrome ?", focus)
        assert set(found) == set(KINDS)
        assert found["name"] == {"Noonan Syndrome", "noonan syndrome"}
        assert "my son has noonan syndrome" in found["information"]


def test_another_name_takes_the_place_of_the_topic():
    names = ("noonan syndrome", " Male Turner syndrome ", "", "NS1")  # the first is its own
    question = "What is (are) noonan Syndrome ?"
    made = {by_another_name(question, "Noonan Syndrome", names, random.Random(i)) for i in range(30)}
    assert made == {"What is Male Turner syndrome?", "What is NS1?"}
    # The last is a question about something else than the focus, whose names would change it.
    for question, focus in (
        ("Why do I sneeze?", "hay fever"),
        ("What causes measles?", "measles"),
        ("What causes sneezing?", "hay fever"),
        ("What causes measles?", ""),
    ):
        assert by_another_name(question, focus, ("Measles",), random.Random(0)) == ""


def test_the_marks_of_a_table_are_not_asked():
    found = by_kind("What is (are) REN-related disease? ?")
    asked = {text.lower() for text in found["asked"]}
    assert "can you tell me what is ren-related disease?" in asked
    assert not any("(are)" in text or "? ?" in text for texts in found.values() for text in texts)


def test_a_focus_that_is_not_in_the_question_is_no_name():
    found = by_kind("Why do I sneeze in spring?", "hay fever")
    assert {"name", "information"} & set(found) == set()
    assert found["terms"] == {"sneeze spring"}
    assert (topic("Why do I sneeze in spring?", "Hay Fever"), topic("Is measles inherited?", "")) == (
        cleaning.normal_form("hay fever"),
        cleaning.normal_form("measles"),
    )
    assert topic("Why?", "") == cleaning.normal_form("Why?")
    assert (subject("What is (are) Flat feet ?"), subject("Why do I sneeze?")) == ("Flat feet", None)


def test_a_seed_decides_and_stored_questions_are_no_other_words():
    question, focus = "How to prevent Influenza ?", "Influenza"
    assert rewordings(question, focus, random.Random(5)) == rewordings(question, focus, random.Random(5))
    stored = {cleaning.group("influenza"), cleaning.group(question)}
    assert "name" not in by_kind(question, focus, stored=stored)
    for texts in by_kind(question, focus).values():
        assert cleaning.group(question) not in map(cleaning.group, texts)
        assert all(text == cleaning.clean(text) for text in texts)


@pytest.mark.parametrize(
    ("question", "focus", "kinds"),
    [
        ("Was hilft gegen Bronchitis?", "Bronchitis", {"misspelt", "name"}),
        ("感冒怎么办?", "", set()),
        ("h?", "", set()),
    ],
)
def test_questions_that_are_not_english(question, focus, kinds):
    assert set(by_kind(question, focus)) == kinds


@pytest.mark.parametrize("text", ["measles", "letter book addressee", "Überwachung im Krankenhaus"])
def test_a_slip_is_one_edit_and_not_of_the_first_letter(text):
    slips = {misspelt(text, random.Random(seed)) for seed in range(200)}
    assert len(slips) > 5
    for slip in slips:
        assert distance(slip, text) == 1
        assert [word[0] for word in slip.split()] == [word[0] for word in text.split()]
    assert misspelt("of the", random.Random(0)) == "of the"  # no long word
