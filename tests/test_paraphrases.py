"""Questions in other words."""

import random

import pytest

from data_pipeline.paraphrases import paraphrased


def variants(question, count=60):
    return {paraphrased(question, random.Random(seed)) for seed in range(count)}


def test_equal_seeds_give_equal_words():
    question = "What are the symptoms of asthma ?"
    assert [paraphrased(question, random.Random(7)) for _ in range(3)] == [paraphrased(question, random.Random(7))] * 3


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What are the symptoms of Lyme disease ?", "How do I know if I have Lyme disease?"),
        ("what are the treatments for asthma?", "How is asthma treated?"),
        ("Is cystic fibrosis inherited ?", "Can cystic fibrosis be passed on to my children?"),
        ("What is (are) High Blood Pressure ?", "Tell me about High Blood Pressure."),
        ("Do you have information about Asthma", "Explain Asthma to me."),
        ("How to prevent Gout ?", "How can I avoid Gout?"),
    ],
)
def test_known_forms_are_rewritten(question, expected):
    assert expected in variants(question)


def test_the_subject_is_never_lost():
    questions = [
        "What causes Wilson disease ?",
        "Who is at risk for Glaucoma? ?",
        "My knee hurts when I run, is it bad?",
    ]
    for question, subject in zip(questions, ["wilson disease", "glaucoma", "knee hurts"], strict=True):
        for text in variants(question):
            assert all(word in text.lower() for word in subject.split())
            assert "{" not in text
            assert "??" not in text


def test_a_question_without_latin_letters_stays():
    assert variants("什么是哮喘？") == {"什么是哮喘？"}
