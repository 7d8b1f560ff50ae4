"""Questions that speak of an emergency."""

import pytest

from docproduct import sample
from docproduct.answering.emergency import ADVICE, Emergency


@pytest.fixture(scope="module")
def medical():
    return Emergency.load(sample.EMERGENCY_LIST)


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
def test_emergencies(medical, question, expected):
    assert medical.advice(question) == (ADVICE if expected else None)


def test_a_custom_list(tmp_path):
    (tmp_path / "list.txt").write_text("# of a workshop\nfuel + leak*  # smells\n\n漏油 !不\n", encoding="utf-8")
    workshop = Emergency.load(str(tmp_path / "list.txt"))
    for question, expected in (
        ("Fuel is LEAKING from the tank", True),
        ("the leak of fuel", True),
        ("leaking water", False),
        ("I have chest pain and can't breathe", False),
        ("汽车漏油了", True),
        ("不漏油", False),
    ):
        assert (workshop.advice(question) is not None) == expected, question


def test_a_list_without_terms(tmp_path):
    (tmp_path / "list.txt").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no terms; expected lines such as"):
        Emergency.load(str(tmp_path / "list.txt"))
    with pytest.raises(FileNotFoundError):
        Emergency.load(str(tmp_path / "none.txt"))
