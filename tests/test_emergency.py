"""Questions that speak of an emergency."""

import pytest

from docproduct import emergency


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("My chest hurts: chest pain, and I am short of breath", True),
        ("I want to KILL\u00a0myself", True),
        ("I can\u2019t breathe", True),
        ("my son swallowed bleach", True),
        ("suicidal thoughts", True),
        ("我父亲胸痛，呼吸很急", True),
        ("What helps against a cough?", False),
        ("How do I breathe better at night?", False),
        ("What is a chest cold?", False),
        ("pain in the chestnut tree with breathtaking view", False),
    ],
)
def test_emergencies(question, expected):
    assert (emergency.advice(question) is not None) == expected
