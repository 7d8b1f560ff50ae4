import pytest

from data_pipeline import cleaning


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b  ", "a b"),
        ("a \r\n \r\n b", "a\nb"),
        ("fish &amp; chips &#8364;5", "fish & chips €5"),
        ("e\u0301", "\u00e9"),  # NFC
        ("a\x00b\x07\ufeff\u200bc", "abc"),
        ("a\u00a0\u3000b", "a b"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian needs the joiner
        (" \x01\u200b ", ""),
        ("\u200d \ufe0f\u0301 \u2800\u3164", ""),  # joiner, variation selector, lone accent, fillers: nothing to see
    ],
)
def test_clean(text, expected):
    assert cleaning.clean(text) == expected
    assert cleaning.clean(expected) == expected


def test_texts_that_say_the_same_are_one_group():
    assert cleaning.group("What is Asthma ?") == cleaning.group("what is\nasthma")
    assert cleaning.group("Take 5.0 mg") != cleaning.group("Take 50 mg")
    assert cleaning.group("???") != cleaning.group("!!!")


def test_pair_id_is_of_the_content():
    assert cleaning.pair_id("a", "b") != cleaning.pair_id("ab", "")
    assert -(2**63) <= cleaning.pair_id("a", "b") < 2**63
    # A fixed value: ids must not change between machines or versions (XXH3's own test vector for no input, seed 0).
    assert cleaning.hash64("") == 0x2D06800538D394C2
