"""Baselines without a language model: chance, the most frequent answer, the longest choice, shared words."""

import re
from collections.abc import Callable, Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer

from docproduct.systems.multiple_choice.metrics import Places, choose, fit_threshold, right_places
from docproduct.systems.multiple_choice.questions import Asked

Scores = list[np.ndarray]
Baseline = Callable[[Sequence[Asked], Sequence[Asked]], Scores]


def chance(questions: Sequence[Asked]) -> float:
    """Returns the expected accuracy of a place that is chosen blindly; 0 if no question has a single answer."""
    singles = [asked for asked in questions if not asked.row.several]
    return float(np.mean([1 / len(asked.row.choices) for asked in singles])) if singles else 0.0


def majority(train: Sequence[Asked], questions: Sequence[Asked]) -> Scores:
    """Scores a choice by how often its text, and else its place, is right in train."""
    texts: dict[str, int] = {}
    places: dict[int, int] = {}
    for asked, right in zip(train, right_places(train), strict=True):
        for place in right:
            text = asked.row.choices[place].casefold()
            texts[text] = texts.get(text, 0) + 1
            places[place] = places.get(place, 0) + 1
    largest = len(train) + 1  # a text that is known decides before the place
    return [
        np.array([texts.get(choice.casefold(), 0) * largest + places.get(i, 0) for i, choice in enumerate(row.choices)])
        for row in (asked.row for asked in questions)
    ]


def longest(train: Sequence[Asked], questions: Sequence[Asked]) -> Scores:
    """Scores a choice by its number of characters."""
    del train
    return [np.array([len(choice) for choice in asked.row.choices]) for asked in questions]


def tf_idf(train: Sequence[Asked], questions: Sequence[Asked]) -> Scores:
    """Scores a choice by the cosine of its words with those of question and context, weighted by TF-IDF of train."""

    def asks(asked: Asked) -> str:
        return f"{asked.row.context} {asked.row.question}"

    corpus = [text for asked in train for text in (asks(asked), *asked.row.choices)]
    words = re.compile(r"\w+").findall  # by default, words of one character would be left out
    vectorizer = TfidfVectorizer(sublinear_tf=True, tokenizer=words, token_pattern=None).fit(corpus)
    prompts = vectorizer.transform(map(asks, questions))
    choices = vectorizer.transform(choice for asked in questions for choice in asked.row.choices)
    ends = np.cumsum([len(asked.row.choices) for asked in questions])
    return [
        np.asarray((choices[end - len(asked.row.choices) : end] @ prompts[i].T).todense())[:, 0]
        for i, (asked, end) in enumerate(zip(questions, ends.tolist(), strict=True))
    ]


MAJORITY = "majority"
BASELINES: dict[str, Baseline] = {MAJORITY: majority, "longest choice": longest, "TF-IDF": tf_idf}


def answers(train: Sequence[Asked], questions: Sequence[Asked]) -> dict[str, list[Places]]:
    """Returns the places that each baseline chooses, with the thresholds that are best on train.

    Raises:
      ValueError: train has no question.
    """
    if not train:
        raise ValueError("There is no train question, which baselines and thresholds need. Prepare some with --input.")
    several = [asked for asked in train if asked.row.several]
    result = {}
    for name, baseline in BASELINES.items():
        threshold = fit_threshold(baseline(train, several), several) if several else np.inf
        result[name] = choose(baseline(train, questions), questions, threshold)
    return result
