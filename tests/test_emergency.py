"""Questions that speak of an emergency."""

import pytest

from docproduct.answering import emergency


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("My chest hurts: chest pain, and I am short of breath", True),
        ("I want to KILL\u00a0myself", True),
        ("I can\u2019t breathe", True),
        ("my son swallowed bleach", True),
        ("suicidal thoughts", True),
        ("我父亲胸痛，呼吸很急", True),
        ("I have severe chest pain", True),
        ("I can\u00b4t breathe", True),
        ("My daughter is having a seizure", True),
        ("I don't want to live any more", True),
        ("\u6211\u60f3\u6b7b", True),
        ("\u8054\u60f3\u6b7b\u673a", False),
        ("\u5176\u4e2d\u6bd2\u6027", False),
        ("What is now known about stroke?", False),
        ("Can I stop taking seizure medicine?", False),
        ("vomiting and blood test", False),
        ("Why does my infection not respond to antibiotics?", False),
        ("What helps against a cough?", False),
        ("How do I breathe better at night?", False),
        ("What is a chest cold?", False),
        ("pain in the chestnut tree with breathtaking view", False),
    ],
)
def test_emergencies(question, expected):
    assert (emergency.advice(question) is not None) == expected
