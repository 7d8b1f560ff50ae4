"""Planted errors: each kind on a sentence, and the sources that come with it."""

import random

import pytest

from data_pipeline.rows import Pair
from docproduct.light_rewrites import REWRITES, Place
from docproduct.planted_errors import ERRORS, OTHER_ANSWER, SAME_TOPIC, Context, Planter

TOPICS = ("Asthma", "Gout", "Scurvy", "Rickets", "Measles")


def pairs():
    """Returns two pairs for each topic."""
    for number, topic in enumerate(TOPICS):
        yield Pair(
            f"What are the symptoms of {topic} ?",
            f"{topic} begins with fever and pain in {number + 11} percent of all patients. The {topic} rash is not "
            f"seen before the age of {number + 2} years. People with {topic} feel better within {number + 3} days.",
            focus=topic,
        )
        yield Pair(
            f"What causes {topic} ?",
            f"{topic} is caused by mutations in the GEN{number} gene in many of the affected families. Other relatives "
            f"of people with {topic} are healthy carriers of the altered gene.",
            focus=topic,
        )


def spoil(kind, sentence):
    place = Place(sentence, "", "", "What is Gout ?", "Gout")
    return ERRORS[kind](Context(place, ["Asthma"], ["Scurvy"], ["GEN7"], ["aspirin"]), random.Random(0))


@pytest.mark.parametrize(
    ("kind", "sentence", "expected"),
    [
        ("negation", "It does not hurt.", "It hurt."),
        ("negation", "It can hurt.", "It can not hurt."),
        ("negation", "It cannot hurt.", "It can hurt."),
        ("topic of another source", "In gout, joints hurt.", "In Asthma, joints hurt."),
        ("topic from elsewhere", "In gout, joints hurt.", "In Scurvy, joints hurt."),
        ("gene or drug", "The ABCD gene is altered.", "The GEN7 gene is altered."),
        ("gene or drug", "Take penicillin.", "Take aspirin."),
        ("opposite", "It is more severe.", {"It is less severe.", "It is more mild."}),
        ("other word", "The lungs hurt.", "The kidneys hurt."),
        ("unit", "Take 5 mg.", {"Take 5 g.", "Take 5 mcg."}),
    ],
)
def test_errors(kind, sentence, expected):
    assert spoil(kind, sentence) in ({expected} if isinstance(expected, str) else expected)


def test_another_number():
    assert spoil("number", "Take 1,200 mg.") != "Take 1,200 mg."
    assert spoil("number", "Wait for two days.").split()[2] in (
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
    )
    assert spoil("number", "Vitamin B12 helps.") is None


def test_one_seed_gives_the_same_sentences():
    first, second = (Planter(list(pairs()), seed=3)(20) for _ in range(2))
    assert first == second
    assert first != Planter(list(pairs()), seed=4)(20)


def test_sources_hold_the_sentence_and_no_error():
    planted = Planter(list(pairs()))(60)
    kinds = {one.kind for one in planted}
    assert {"copy", "two joined", "number", "unit", "negation", "topic of another source", "gene or drug"} <= kinds
    assert {OTHER_ANSWER} <= kinds <= {*REWRITES, *ERRORS, OTHER_ANSWER, SAME_TOPIC}
    for one in planted:
        stands = any(one.text in answer for _, answer in one.sources)
        assert one.supported == (one.kind in REWRITES)
        assert stands or not one.supported or one.kind != "copy"
        assert one.supported or not stands
        assert len({question for question, _ in one.sources}) == len(one.sources) >= 3


def test_too_few_topics():
    with pytest.raises(ValueError, match="have 1 topics; expected three or more"):
        Planter([Pair("a", "b", focus="c"), Pair("d", "e")])
