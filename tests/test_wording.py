"""Words, numbers, negations and opposites."""

import pytest

from docproduct.answering.evidence.wording import (
    Number,
    Wording,
    are_opposites,
    is_faint_negation,
    is_function_word,
    is_negation,
    key_of,
)


@pytest.mark.parametrize(
    "words",
    [
        "gene genes Gene",
        "cause causes caused causing",
        "treat treats treated treating treatment treatments therapy",
        "stop stopped stopping",
        "family families",
        "virus viruses",
        "Sjögren's Sjogren",
        "1,000 1000 1000.0",
        "0.5 0,5",
        "two 2",
        "people persons individuals patients",
        "infection infections infected",
    ],
)
def test_one_key(words):
    assert len({key_of(word) for word in words.split()}) == 1


@pytest.mark.parametrize(
    "words",
    [
        "hypertension hypotension",
        "hypertension hypertrophy",
        "male female",
        "increase decrease",
        "FAS FAST",
        "gastritis gastric",
        "kidney liver",
        "9 90",
    ],
)
def test_different_keys(words):
    assert len({key_of(word) for word in words.split()}) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Take 40mg or 1,000 mg.", [("40", "mg"), ("1000", "mg")]),
        ("5 to 10 mg for 2-3 weeks", [("5", "mg"), ("10", "mg"), ("2", "week"), ("3", "week")]),
        ("20 percent, 20 % and 20%", [("20", "%")] * 3),
        ("twenty-five days, two years", [("25", "day"), ("2", "year")]),
        ("2 million in 1 in 40,000 people", [("2000000", ""), ("1", ""), ("40000", "")]),
        ("0,5 mg", [("0.5", "mg")]),
        ("BRCA1 and HHV-8 on 11p15", [("8", "")]),
        ("每天0.5毫克，吃3年", [("0.5", "mg"), ("3", "year")]),
        ("no number", []),
    ],
)
def test_numbers(text, expected):
    assert [(number.value, number.unit) for number in Wording(text).numbers] == expected


def test_one_is_no_claim_but_a_number():
    wording = Wording("One of them took one pill and 1 mg.")
    assert [number.value for number in wording.numbers] == ["1", "1", "1"]
    assert [number.text for number in wording.claims] == ["1 mg"]


def test_units_must_agree_where_both_are_known():
    numbers = Wording("5 mg for 3 days").numbers
    assert Number("5", "mg", "").is_in(numbers)
    assert Number("5", "", "").is_in(numbers)
    assert not Number("5", "g", "").is_in(numbers)
    assert not Number("3", "week", "").is_in(numbers)
    assert not Number("4", "mg", "").is_in(numbers)


def test_a_chinese_character_takes_the_next_along():
    assert Wording("高血压 or 糖").keys == ("高血", "血压", "压", "or", "糖")


@pytest.mark.parametrize(
    "key", ["not", "no", "never", "isn't", "cannot", "nicht", "kein", "sin", "jamais", "不能", "没有"]
)
def test_negations(key):
    assert is_negation(key)
    assert not is_negation("node")


def test_faint_negations():
    assert is_faint_negation(key_of("unknown"))
    assert is_faint_negation(key_of("lacks"))
    assert not is_faint_negation("under")


@pytest.mark.parametrize(
    "pair",
    [
        "increases/reduced",
        "hypoglycemia/hyperglycemia",
        "normal/abnormal",
        "more/less",
        "dominant/recessive",
        "safe/unsafe",
    ],
)
def test_opposites(pair):
    first, second = map(key_of, pair.split("/"))
    assert are_opposites(first, second)
    assert are_opposites(second, first)


@pytest.mark.parametrize("pair", ["hypertension/hypertrophy", "more/more", "liver/kidney", "a/b"])
def test_no_opposites(pair):
    assert not are_opposites(*map(key_of, pair.split("/")))


def test_function_words():
    assert all(map(is_function_word, map(key_of, ["the", "sources", "und", "%", "isn't"])))
    assert not any(map(is_function_word, map(key_of, ["asthma", "5", "高血压"])))
