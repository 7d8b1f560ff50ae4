"""Light rewrites: each rule on a sentence, and what it leaves alone."""

import random

import pytest

from docproduct.light_rewrites import REWRITES, Place

QUESTION = "What are the symptoms of Milroy disease ?"


def rewrite(kind, sentence, next_sentence="", other_sentence="", question=QUESTION, focus="Milroy disease"):
    place = Place(sentence, next_sentence, other_sentence, question, focus)
    return REWRITES[kind](place, random.Random(0))


@pytest.mark.parametrize(
    ("kind", "sentence", "expected"),
    [
        ("copy", "It is rare.", "It is rare."),
        (
            "without a clause",
            "The swelling (lymphedema) is worst in the legs of adults, which may become painful.",
            "The swelling is worst in the legs of adults.",
        ),
        ("name for a pronoun", "This condition is rare.", "Milroy disease is rare."),
        ("active and passive", "Asthma is caused by cold air.", "Cold air cause Asthma."),
        ("active and passive", "Mutations in the FLT4 gene cause swollen legs.", None),
        (
            "question and list",
            "Its symptoms include swollen legs, fever and pain.",
            "The symptoms of Milroy disease include swollen legs, fever and pain.",
        ),
        ("list reordered", "They include fever, pain, and a rash.", "They include pain, a rash and fever."),
    ],
)
def test_rules(kind, sentence, expected):
    if expected is None:
        expected = "Swollen legs is caused by mutations in the FLT4 gene."
    assert rewrite(kind, sentence) == expected


@pytest.mark.parametrize(
    "kind", [kind for kind in REWRITES if kind not in ("copy", "framed", "padded", "two joined", "two sources joined")]
)
def test_nothing_to_do(kind):
    assert rewrite(kind, "Legs swell.") is None


def test_joined():
    assert rewrite("two joined", "Legs swell.", "It hurts at night too.") in (
        "Legs swell, and it hurts at night too.",
        "Legs swell; it hurts at night too.",
        "Legs swell and it hurts at night too.",
    )
    assert rewrite("two joined", "Legs swell.") is None


def test_thinned_keeps_negations_numbers_and_names():
    sentence = "The swelling does not go away in 3 of 10 people with Milroy disease without treatment of the skin."
    for seed in range(20):
        place = Place(sentence, "", "", QUESTION, "Milroy disease")
        thinned = REWRITES["thinned"](place, random.Random(seed))
        if thinned:
            assert {"not", "3", "10", "Milroy", "without"} <= set(thinned.split())


def test_padded_keeps_every_word():
    sentence = "The swelling is worst in the legs."
    padded = rewrite("padded", sentence).split()
    assert len(padded) > len(sentence.split())
    remaining = iter(padded)
    assert all(word in remaining for word in sentence.split())  # in their order
