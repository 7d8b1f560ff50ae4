"""Rows that teach a chat model to answer from numbered sources only."""

import random

import pytest

from data_pipeline.prompts.answer_prompts import PromptSettings
from data_pipeline.prompts.chat_prompts import REFUSAL, SYSTEM
from data_pipeline.token_rows.grounded_rows import GroundedRows
from tests.toy_chat import chat_tokenizer

PAIR = ("What helps against a cough?", "Tea helps. Honey helps, too.")
PARTNER = ("What is a cough?", "It clears the airways.")
OTHERS = [("Is a cold dangerous?", "Rarely."), ("What is a cold?", "An infection."), ("What is flu?", "Worse.")]


@pytest.fixture(scope="module")
def tokenizer():
    texts = [text for pair in (PAIR, PARTNER, *OTHERS) for text in pair]
    return chat_tokenizer([SYSTEM, REFUSAL, *texts])


@pytest.fixture(scope="module")
def rows(tokenizer):
    return GroundedRows(tokenizer, PromptSettings(3, 900, 100), paraphrase_share=0.0)


def texts(tokenizer, row):
    prompt, target = row
    assert target[-1] == tokenizer.end_id
    return tokenizer.decode(prompt), tokenizer.decode(target)


def test_own_rows_copy_the_pair_with_its_number(tokenizer, rows):
    places = []
    for seed in range(40):
        prompt, target = texts(tokenizer, rows.own(PAIR, OTHERS, random.Random(seed)))
        (place,) = (number for number in (1, 2, 3) if f"[{number}] {PAIR[0]}\n{PAIR[1]}" in prompt)
        assert target == f"[{place}] {PAIR[1]}"
        assert f"Question: {PAIR[0]}" in prompt
        assert ("[3]" in prompt, "[4]" in prompt) == (True, False)
        places.append(place)
    assert set(places) == {1, 2, 3}
    assert places.count(1) > 20


def test_joined_rows_answer_both_questions(tokenizer, rows):
    seen = set()
    for seed in range(20):
        prompt, target = texts(tokenizer, rows.joined(PAIR, PARTNER, OTHERS, random.Random(seed)))
        parts = dict(part.split(" ", 1) for part in target.split("\n"))
        assert set(parts.values()) == {PAIR[1], PARTNER[1]}
        for number, answer in parts.items():
            assert f"{number} {(PAIR if answer == PAIR[1] else PARTNER)[0]}\n{answer}" in prompt
        asked = prompt.rsplit("Question: ", 1)[1]
        assert PAIR[0] in asked
        assert PARTNER[0] in asked
        seen.add(tuple(parts))
    assert len(seen) > 2


def test_unanswerable_rows_refuse_and_do_not_hold_the_answer(tokenizer, rows):
    prompt, target = texts(tokenizer, rows.unanswerable(PAIR[0], OTHERS, random.Random(0)))
    assert target == REFUSAL
    assert PAIR[1] not in prompt


def test_a_target_holds_only_sentences_that_the_prompt_has_room_for(tokenizer):
    long = ("What is it?", "".join(f"This is sentence number {i} of it. " for i in range(40)))
    rows = GroundedRows(tokenizer, PromptSettings(2, 500, 120), paraphrase_share=0.0)
    for seed in range(5):
        prompt, target = texts(tokenizer, rows.own(long, OTHERS, random.Random(seed)))
        answer = target.split("] ", 1)[1]
        assert answer.endswith(" of it.")
        assert answer in prompt
        assert len(tokenizer.encode([target])[0]) < 120


def test_questions_may_be_in_other_words(tokenizer):
    rows = GroundedRows(tokenizer, PromptSettings(2, 900, 100), paraphrase_share=1.0)
    prompts = [texts(tokenizer, rows.own(PAIR, OTHERS, random.Random(seed)))[0] for seed in range(10)]
    assert not any(prompt.rsplit("Question: ", 1)[1].startswith(PAIR[0]) for prompt in prompts)


def test_equal_seeds_give_equal_rows(rows):
    assert rows.own(PAIR, OTHERS, random.Random(3)) == rows.own(PAIR, OTHERS, random.Random(3))
