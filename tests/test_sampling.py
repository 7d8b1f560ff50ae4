"""Sampling and prompt look-up, by hand and by definition, without a session."""

import numpy as np
import pytest
import tensorflow as tf

from docproduct.generation.decoding import Decoder
from docproduct.generation.lookup import propose
from docproduct.generation.sampling import (
    NEVER,
    GenerationSettings,
    Sampling,
    draw,
    filter_logits,
    forbid_repeats,
    penalize,
)


def reference_probs(logits, temperature, top_k, top_p):
    order = np.argsort(-logits)
    probs = np.exp((logits - logits.max()) / temperature)
    probs /= probs.sum()
    if top_k:
        probs[order[top_k:]] = 0
        probs /= probs.sum()
    nucleus = np.cumsum(probs[order]) - probs[order] < top_p
    probs[order[~nucleus]] = 0
    return probs / probs.sum()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (0.7, 6, 1.0), (1.3, 0, 0.8), (1.0, 9, 0.7), (1.0, 99, 0.99)]
)
def test_draws_follow_the_filtered_softmax(temperature, top_k, top_p):
    logits = np.random.default_rng(2).normal(0, 1.5, 20).astype(np.float32)
    expected = reference_probs(logits.astype(float), temperature, top_k, top_p)
    rows = filter_logits(
        tf.constant(logits[None]), tf.constant(temperature), tf.constant(top_k), tf.constant(top_p, tf.float32)
    )
    np.testing.assert_allclose(tf.nn.softmax(rows)[0], expected, atol=1e-6)
    count = 20_000
    drawn = tf.function(draw)(tf.repeat(rows, count, axis=0), tf.range(count), tf.constant(5))
    observed = np.bincount(drawn, minlength=20)
    assert not observed[expected == 0].any()
    possible = expected > 0
    chi_square = np.sum((observed[possible] - count * expected[possible]) ** 2 / (count * expected[possible]))
    # The 99.9 % quantile of chi-square with k degrees of freedom, Wilson and Hilferty 1931.
    k = possible.sum() - 1
    assert chi_square < k * (1 - 2 / (9 * k) + 3.09 * np.sqrt(2 / (9 * k))) ** 3
    # Draws of the next step are independent of these: two are equal with the probability sum p^2.
    following = tf.function(draw)(tf.repeat(rows, count, axis=0), tf.range(count), tf.constant(6))
    assert np.mean(following == drawn) == pytest.approx(np.sum(expected**2), abs=0.02)


def test_extreme_settings_take_the_likeliest_token():
    logits = tf.constant([[-50.0, -40.0, -90.0]])
    for temperature, top_p in ((1e-3, 1.0), (1.0, 1e-46), (1.0, 1e-7)):
        rows = filter_logits(logits, tf.constant(temperature), tf.constant(0), tf.constant(top_p, tf.float32))
        assert draw(tf.repeat(rows, 50, axis=0), tf.range(50), tf.constant(0)).numpy().tolist() == [1] * 50


def test_penalty_by_hand():
    logits, ids = tf.constant([[2.0, -2.0, 1.0, -1.0]]), tf.constant([[0, 1, 2, 2]])
    met = tf.constant([[True, True, False, False]])
    np.testing.assert_allclose(penalize(logits, ids, met, tf.constant(2.0)), [[1.0, -4.0, 1.0, -1.0]])
    np.testing.assert_array_equal(penalize(logits, ids, met, tf.constant(1.0)), logits)


@pytest.mark.parametrize(
    ("size", "forbidden"),
    [
        (0, [[], []]),
        (1, [[1, 2, 3, 4], [1, 2, 3]]),
        (2, [[4], [2, 3]]),
        (3, [[4], [3]]),
        (4, [[4], []]),
        (5, [[], []]),
        (2**31 - 1, [[], []]),
    ],
)
def test_forbidden_repeats_by_hand(size, forbidden):
    """Answers of 8 and 6 tokens after prompts of 3: n-grams of the prompt may repeat, ids after `last` are ignored."""
    ids = tf.constant([[7, 4, 9, 1, 2, 3, 4, 2, 1, 2, 3, 3], [2, 2, 5, 1, 2, 2, 3, 2, 2, 5, 2, 5]])
    last = tf.constant([10, 8])
    logits = tf.zeros([2, 10])
    filtered = forbid_repeats(logits, ids, tf.constant(3), last, tf.constant(size)).numpy()
    assert [np.flatnonzero(row == NEVER).tolist() for row in filtered] == forbidden
    assert (filtered[filtered != NEVER] == 0).all()


class Successor:
    """A model that writes the next number; 5 and 15 end a text."""

    vocab_size, end_ids, suppressed_ids = 20, [15, 5], []

    def cache_spec(self):
        return {}

    def prefill(self, ids, mask, num_slots, encoder=None):
        return ids, {}

    def decode_step(self, ids, padding, cache, start):
        return ids, cache

    def logits(self, states):
        return tf.one_hot(states + 1, 20)


def test_an_end_within_a_proposal_ends_the_text():
    decoder = Decoder(Successor())
    sampling = Sampling(
        tf.constant(0.0), tf.constant(0), tf.constant(1.0), tf.constant(1.0), tf.constant(0), tf.constant(True), [0]
    )
    state = decoder.begin(tf.constant([[1, 2, 3, 4, 5, 6, 7, 8, 1, 2]]), tf.constant([10]), tf.constant(9), sampling)
    state = decoder.advance(state, tf.constant(8), tf.constant(True), sampling)  # proposes 4, 5, 6, 7, 8, which follow
    assert state["ids"][0, 10 : state["next"] + 1].numpy().tolist() == [3, 4, 5]
    assert bool(state["finished"][0])
    assert int(state["passes"]) == 2


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1]),  # the last three
        ([9, 2, 3, 4, 5, 1, 2, 3], [4, 5, 1]),  # the last two
        ([1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3], [8, 1, 2]),  # the latest
        ([2, 3, 7, 9, 9, 1, 2, 3, 5, 0, 2, 3], [5, 0, 2]),
        ([1, 2, 3, 4], None),
        ([1], None),
        ([6, 6, 6], [6, 6, 6]),  # a proposal holds no tokens beyond the text
    ],
)
def test_proposals_by_hand(ids, expected):
    buffer = tf.constant([*ids, 0, 0, 0])
    proposal, matched = propose(buffer, tf.constant(len(ids) - 1), 3)
    assert bool(matched) == (expected is not None)
    if expected:
        assert proposal.numpy().tolist() == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1; expected 0 to 1000"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1e-30}, "temperature is 1e-30; expected 0.001 to 1000, or 0"),
        ({"top_p": 1.1}, "top_p is 1.1; expected more than 0 and at most 1"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty is 0.0"),
        ({"no_repeat_ngram_size": -1}, "no_repeat_ngram_size is -1; expected 0 to 64"),
        ({"no_repeat_ngram_size": 65}, "no_repeat_ngram_size is 65"),
        ({"num_samples": 0}, "num_samples is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_invalid_settings_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        GenerationSettings(**wrong)
