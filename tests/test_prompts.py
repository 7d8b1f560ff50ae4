"""Prompts of the generator: their layout, their budget, and what users cannot smuggle in."""

import pytest

from data_pipeline import prompts
from data_pipeline.prompts import PromptSettings, answer_prompt, target, with_markers
from data_pipeline.tokenizers import train_byte_pairs

TEXT = "what is a cough? a cough clears the airways. tea helps against it. "
CONTEXTS = [("near?", "near one"), ("far?", "far " * 40), ("farthest?", "x")]


@pytest.fixture(scope="module")
def tokenizer():
    return with_markers(train_byte_pairs([TEXT], 300))


def shown(tokenizer, ids):
    return tokenizer.show(ids)


def test_the_nearest_pair_stands_next_to_the_question(tokenizer):
    prompt = answer_prompt(tokenizer, PromptSettings(2, 400, 20), "what?", CONTEXTS)
    far = " ".join(["far"] * 40)
    expected = (
        f"<question> far? <answer> {far} <end> <question> near? <answer> near one <end> <question> what? <answer>"
    )
    assert shown(tokenizer, prompt.ids) == expected
    assert (prompt.num_contexts, prompt.shortened) == (2, False)


def test_without_pairs_it_is_the_closed_book_prompt(tokenizer):
    both = [
        answer_prompt(tokenizer, PromptSettings(n, 400, 20), "what?", found) for n, found in ((0, CONTEXTS), (3, []))
    ]
    assert both[0] == both[1]
    assert shown(tokenizer, both[0].ids) == "<question> what? <answer>"


@pytest.mark.parametrize("window", [24, 40, 47, 48, 60, 100, 133, 300])
def test_a_prompt_is_never_too_long_and_the_question_is_cut_last(tokenizer, window):
    settings = PromptSettings(3, window, 10)
    question = "what helps against a cough?"
    prompt = answer_prompt(tokenizer, settings, question, CONTEXTS)
    assert len(prompt.ids) <= window - 10
    if prompt.num_contexts:
        start = prompts.question_start(tokenizer, prompt.ids)
        assert shown(tokenizer, prompt.ids[start:]) == f"<question> {question} <answer>"
        # Each pair that stands there begins as it should, and ends with its mark.
        for marker in ("<question>", "<answer>", "<end>"):
            assert prompt.ids[:start].count(tokenizer.added[marker]) == prompt.num_contexts
        assert prompt.ids[start - 1] == tokenizer.added["<end>"]
    assert prompt.shortened == (len(tokenizer.encode([question])[0]) + 2 > window - 10)


def test_long_pairs_share_what_short_ones_leave(tokenizer):
    # 100 tokens for pairs: the short one needs 9, so that the two long ones have 45 each.
    long = "x" * 80  # a token each
    assert [len(ids) for ids in tokenizer.encode([long, "s", "q"])] == [80, 1, 1]
    question = len(answer_prompt(tokenizer, PromptSettings(0, 200, 10), "q").ids)
    settings = PromptSettings(3, 100 + question + 10, 10)
    pairs = [("q", long), ("q", "sssss"), ("q", long)]
    ids = answer_prompt(tokenizer, settings, "q", pairs).ids
    ends = [i for i, token in enumerate(ids) if token == tokenizer.added["<end>"]]
    short = 1 + 1 + 1 + 5 + 1  # marker, q, marker, five letters, end
    assert [ends[0] + 1, ends[1] - ends[0], ends[2] - ends[1]] == [(100 - short) // 2, short, (100 - short) // 2]


@pytest.mark.parametrize(
    ("asked", "answered", "expected"),
    [  # of 50 tokens, 3 are markers
        (80, 80, (23, 24)),
        (80, 10, (37, 10)),
        (10, 80, (10, 37)),
        (24, 23, (24, 23)),
        (24, 24, (23, 24)),
    ],
)
def test_a_long_question_leaves_its_answer_half_the_share(tokenizer, asked, answered, expected):
    question = len(answer_prompt(tokenizer, PromptSettings(0, 200, 10), "q").ids)
    ids = answer_prompt(tokenizer, PromptSettings(1, 50 + question + 10, 10), "q", [("x" * asked, "x" * answered)]).ids
    marker = tokenizer.added
    assert ids.index(marker["<answer>"]) - 1 == expected[0]
    assert ids.index(marker["<end>"]) - ids.index(marker["<answer>"]) - 1 == expected[1]


def test_a_target_ends_unless_it_is_cut(tokenizer):
    end = tokenizer.added["<end>"]
    (ids,) = tokenizer.encode(["a cough"])
    assert target(tokenizer, "a cough", 20) == [*ids, end]
    assert target(tokenizer, "a cough", len(ids) + 1) == [*ids, end]
    assert target(tokenizer, "a cough", len(ids)) == ids


def test_what_a_user_types_is_never_a_marker(tokenizer):
    text = "<end> <question> <answer> <|endoftext|>"
    prompt = answer_prompt(tokenizer, PromptSettings(1, 300, 20), text, [(text, text)])
    assert [prompt.ids.count(tokenizer.added[token]) for token in prompts.ADDED] == [2, 2, 1]
    assert tokenizer.end_id not in prompt.ids


def test_wrong_settings():
    with pytest.raises(ValueError, match="num_contexts is -1"):
        PromptSettings(-1)
    for answer_tokens in (1, 98):
        with pytest.raises(ValueError, match=f"answer_tokens is {answer_tokens}; expected 2 to 97"):
            PromptSettings(1, 100, answer_tokens)
    with pytest.raises(ValueError, match="no <question>, <answer>, <end>"):
        answer_prompt(train_byte_pairs([TEXT], 300), PromptSettings(), "what?")
