"""Prompts of the generator: their layout, their budget, and what users cannot smuggle in."""

import pytest

from data_pipeline.prompts.answer_prompts import ADDED, PromptSettings, answer_prompt, target, with_markers
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
    assert (len(prompt.sources), prompt.shortened) == (2, False)


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
    if len(prompt.sources):
        marker = tokenizer.added["<question>"]
        start = max(i for i, token in enumerate(prompt.ids) if token == marker)
        assert shown(tokenizer, prompt.ids[start:]) == f"<question> {question} <answer>"
        # Each pair that stands there begins as it should, and ends with its mark, unless its answer was cut.
        for marker in ("<question>", "<answer>"):
            assert prompt.ids[:start].count(tokenizer.added[marker]) == len(prompt.sources)
        pairs = shown(tokenizer, prompt.ids[:start]).split("<question> ")[1:]
        for pair, (_, answer) in zip(reversed(pairs), CONTEXTS, strict=False):
            assert ("<end>" in pair) == (f"<answer> {answer.strip()} <end>" in pair)
        assert window < 300 or "<end>" in pairs[0]
        assert window > 133 or shown(tokenizer, prompt.ids).count("<end>") < 3
    assert prompt.shortened == (len(tokenizer.encode([question])[0]) + 2 > window - 10)


def test_long_pairs_share_what_short_ones_leave(tokenizer):
    # 100 tokens for pairs: the short one needs 9, so that the two long ones have 45 each.
    long = "x" * 80  # a token each
    assert [len(ids) for ids in tokenizer.encode([long, "s", "q"])] == [80, 1, 1]
    question = len(answer_prompt(tokenizer, PromptSettings(0, 200, 10), "q").ids)
    settings = PromptSettings(3, 100 + question + 10, 10)
    pairs = [("q", long), ("q", "sssss"), ("q", long)]
    ids = answer_prompt(tokenizer, settings, "q", pairs).ids
    begins = [i for i, token in enumerate(ids) if token == tokenizer.added["<question>"]]
    short = 1 + 1 + 1 + 5 + 1  # marker, q, marker, five letters, end
    assert begins == [0, (100 - short) // 2, (100 - short) // 2 + short, 2 * ((100 - short) // 2) + short]


@pytest.mark.parametrize(
    ("asked", "answered", "expected"),
    [  # of 50 tokens, 3 are markers, or 2 where the answer was cut, which then has no end
        (80, 80, (23, 25)),
        (80, 10, (37, 10)),
        (10, 80, (10, 38)),
        (24, 23, (24, 23)),
        (24, 24, (23, 24)),
    ],
)
def test_a_long_question_leaves_its_answer_half_the_share(tokenizer, asked, answered, expected):
    question = len(answer_prompt(tokenizer, PromptSettings(0, 200, 10), "q").ids)
    ids = answer_prompt(tokenizer, PromptSettings(1, 50 + question + 10, 10), "q", [("x" * asked, "x" * answered)]).ids
    marker = tokenizer.added
    assert ids.index(marker["<answer>"]) - 1 == expected[0]
    end = ids.index(marker["<question>"], 1) - (marker["<end>"] in ids)
    assert end - ids.index(marker["<answer>"]) - 1 == expected[1]
    assert (marker["<end>"] in ids) == (expected[1] == answered)


def test_a_target_ends_unless_it_is_cut(tokenizer):
    end = tokenizer.added["<end>"]
    (ids,) = tokenizer.encode(["a cough"])
    assert target(tokenizer, "a cough", 20) == [*ids, end]
    assert target(tokenizer, "a cough", len(ids) + 1) == [*ids, end]
    assert target(tokenizer, "a cough", len(ids)) == ids


def test_what_a_user_types_is_never_a_marker(tokenizer):
    text = "<end> <question> <answer> <|endoftext|>"
    prompt = answer_prompt(tokenizer, PromptSettings(1, 300, 20), text, [(text, text)])
    assert [prompt.ids.count(tokenizer.added[token]) for token in ADDED] == [2, 2, 1]
    assert tokenizer.end_id not in prompt.ids


def test_wrong_settings():
    with pytest.raises(ValueError, match="num_contexts is -1"):
        PromptSettings(-1)
    for answer_tokens in (1, 98):
        with pytest.raises(ValueError, match=f"answer_tokens is {answer_tokens}; expected 2 to 97"):
            PromptSettings(1, 100, answer_tokens)
    with pytest.raises(ValueError, match="no <question>, <answer>, <end>"):
        answer_prompt(train_byte_pairs([TEXT], 300), PromptSettings(), "what?")
