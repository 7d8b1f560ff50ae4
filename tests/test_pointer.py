"""The pointer and segments: against NumPy, in training and where it writes."""

import contextlib
import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.prompts.answer_prompts import ADDED, with_markers
from data_pipeline.tokenizers import train_byte_pairs
from docproduct.generation.export import export
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.pointer import common_suffix_lengths
from docproduct.systems.generator import TrainedGenerator
from docproduct.systems.generator.folder import built
from docproduct.systems.generator.task import PAD, joined, next_token_losses
from tests.reference import repeating
from tests.test_bert import randomize
from tests.test_gpt2 import build

SEGMENT = 1
CONFIG = GPT2Config(
    vocab_size=23, width=12, num_layers=2, num_heads=3, max_positions=24, dropout=0, attention_dropout=0, pointer=True
)
APART = dataclasses.replace(CONFIG, segment_token=SEGMENT)
TEXT = [1, 5, 6, 7, 8, 2, 1, 9, 5, 6, 7, 3, 1, 5, 6, 7, 8, 5]
SEGMENTS = [TEXT[:6], TEXT[6:12], TEXT[12:]]


def made(config):
    gpt2 = build(config)
    randomize(gpt2)
    return gpt2


def test_equal_tokens_by_hand():
    ids = np.array([[4, 5, 6, 7, 5, 6, 7, 8], [4, 4, 4, 4, 4, 4, 4, 4]])
    found = common_suffix_lengths(ids, np.array([0, 6, 7])).numpy()
    assert found[0].tolist() == [
        [1, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 3, 0, 0, 5, 0],  # 5 6 7
        [0, 0, 0, 0, 0, 0, 0, 5],
    ]
    assert found[1, 1].tolist() == [1, 2, 3, 4, 5, 5, 5, 5]  # no longer than five


def mixture(gpt2, ids, probs, states):
    """The probabilities behind the last token of a text, in NumPy; [V]."""
    weights = {name: np.asarray(getattr(gpt2.pointer, name), np.float64) for name in ("query_kernel", "key_kernel")}
    states = np.asarray(states, np.float64)
    states = (states - states.mean(-1, keepdims=True)) / np.sqrt(states.var(-1, keepdims=True) + 1e-6)
    query, last = states[-1] @ weights["query_kernel"], len(ids) - 1
    scores = [float(states[-1] @ np.asarray(gpt2.pointer.sentinel)) + float(gpt2.pointer.sentinel_bias)]
    for place in range(last):
        count = 0
        while count < 5 and place - count >= 0 and ids[place - count] == ids[last - count]:
            count += 1
        scores.append(query @ (states[place] @ weights["key_kernel"]) / 64 + float(gpt2.pointer.equal_bias[count]))
    parts = np.exp(scores - np.max(scores))
    parts /= parts.sum()
    result = parts[0] * probs
    for part, place in zip(parts[1:], range(last), strict=True):
        result[ids[place + 1]] += part
    return result


@pytest.mark.parametrize("config", [CONFIG, APART])
def test_what_is_learned_is_the_mixture(config):
    """Rows with other lengths beside them: padding is never copied from."""
    gpt2 = made(config)
    rows = [TEXT, TEXT[:9], TEXT[3:17]]
    padded = tf.ragged.constant(rows, tf.int32).to_tensor(PAD)
    losses, places = next_token_losses(gpt2, joined(padded[:, :0], padded, None))
    for row, ids in enumerate(rows):
        states = gpt2(np.array([ids]))[0]
        probs = tf.nn.softmax(gpt2.logits(states)).numpy().astype(float)
        expected = [-np.log(mixture(gpt2, ids[:t], probs[t - 1], states[:t])[ids[t]]) for t in range(1, len(ids))]
        np.testing.assert_allclose(losses[places[:, 0] == row], expected, atol=1e-4)


def test_in_bfloat16_the_pointer_stays_in_float32():
    exact, rough = built(GPT2(APART, seed=3)), built(GPT2(APART, seed=3, dtype="mixed_bfloat16"))
    rows = tf.constant([TEXT])
    for variables in zip(exact.weights, rough.weights, strict=True):
        variables[1].assign(variables[0])
    found, expected = (next_token_losses(gpt2, joined(rows[:, :0], rows, None))[0] for gpt2 in (rough, exact))
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=0.1)
    assert {weight.dtype for weight in rough.pointer.weights} == {"float32"}


def test_a_packed_text_is_not_copied_from():
    """Of two texts in a window each is learned as if it stood alone."""
    gpt2 = made(CONFIG)
    first, second = [0, 5, 6, 7, 8], [0, 5, 6, 9, 9]
    window = tf.constant([[*first, *second, 0]])
    losses, _ = next_token_losses(gpt2, joined(window[:, :0], window, end_id=0))
    alone = [
        next_token_losses(gpt2, joined(x[:, :0], x, None))[0] for x in (tf.constant([[*t, 0]]) for t in (first, second))
    ]
    np.testing.assert_allclose(losses, np.concatenate(alone), atol=1e-5)


def test_a_segment_is_read_as_if_it_stood_alone():
    gpt2 = made(APART)
    together = gpt2(np.array([TEXT]))[0]
    np.testing.assert_allclose(together, np.concatenate([gpt2(np.array([ids]))[0] for ids in SEGMENTS]), atol=1e-5)
    whole = made(CONFIG)
    assert np.abs(whole(np.array([TEXT]))[0] - together).max() > 0.1


def test_it_copies():
    """Where five tokens are equal, an untrained pointer is worth nearly as much as the vocabulary; else nothing."""
    gpt2 = build(CONFIG)
    ids = [2, 3, 4, 5, 6, 7, 8, 2, 3, 4, 5, 6, 7, 8]
    losses, _ = next_token_losses(gpt2, joined(tf.zeros([1, 0], tf.int32), tf.constant([ids]), None))
    assert losses.numpy()[:6].min() > 2.5
    assert losses.numpy()[-2:].max() < 1.2
    # Of 500 different tokens nothing is copied, however many places there are.
    states, ids = np.random.default_rng(0).normal(size=(1, 500, 12)), np.arange(500, dtype=np.int32)[None]
    log_gate, _ = gpt2.pointer(states, ids[0], gpt2.pointer.keys(states), ids, np.ones((1, 1, 500), bool))
    assert np.exp(log_gate).min() > 0.9


@pytest.fixture(scope="module")
def answering():
    """A generator of both, that writes of all its tokens."""
    bpe = train_byte_pairs(["what is the cause? the x z helps against y."], 280)
    config = dataclasses.replace(APART, vocab_size=bpe.vocab_size, max_positions=64, initializer_range=0.3)
    gpt2 = built(GPT2(config, seed=3))
    gpt2.pointer.query_kernel.assign(8 * gpt2.pointer.query_kernel)
    gpt2.pointer.equal_bias.assign(np.arange(6.0))
    gpt2.pointer.sentinel_bias.assign(8.0)  # it copies some of the tokens
    return TrainedGenerator(gpt2, bpe)


@contextlib.contextmanager
def changed(pointer, **values):
    before = {name: np.asarray(getattr(pointer, name)) for name in values}
    try:
        for name, value in values.items():
            getattr(pointer, name).assign(value)
        yield
    finally:
        for name, value in before.items():
            getattr(pointer, name).assign(value)


def prompts(count):
    rng = np.random.default_rng(0)
    found = [rng.integers(30, 38, 4 + i).tolist() for i in range(count)]
    return [[SEGMENT, *ids[:3], SEGMENT, *ids[2:]] if i % 2 else ids for i, ids in enumerate(found)]


def next_logits(gpt2, ids):
    """Of the vocabulary, and with what is copied mixed in, in NumPy; every token is read anew."""
    states = gpt2(np.array([ids]))[0]
    logits = gpt2.logits(states[-1]).numpy().astype(float)
    total = np.log(np.exp(logits).sum())
    return logits, np.log(mixture(gpt2, ids, np.exp(logits - total), states)) + total


def greedy(gpt2, prompt, count, penalty=1.0, size=0):
    """What is written, and how much of it was not the vocabulary's likeliest."""
    ids, others = list(prompt), 0
    while len(ids) < len(prompt) + count:
        alone, mixed = next_logits(gpt2, ids)
        for logits in (alone, mixed):
            met = logits[np.unique(ids)]
            logits[np.unique(ids)] = np.where(met > 0, met / penalty, met * penalty)
            logits[repeating(ids[len(prompt) :], size)] = -np.inf
        ids.append(int(np.argmax(mixed)))
        others += ids[-1] != int(np.argmax(alone))
    assert SEGMENT not in ids[len(prompt) :]  # it would begin a segment here
    return ids[len(prompt) :], others


def test_the_session_writes_the_mixture(answering, tmp_path):
    """Alone and together, with look-up and without, whole and as a stream; and it is a folder like others."""
    export(answering, str(tmp_path / "e"))
    writer, settings = GenerationSession.load(str(tmp_path / "e")), GenerationSettings(16, no_repeat_ngram_size=0)
    expected, others = zip(*(greedy(answering.gpt2, prompt, 16) for prompt in prompts(6)), strict=True)
    assert 15 < sum(others) < 76  # of 96: of both kinds
    fewer = 0
    for prompt, ids in zip(prompts(6), expected, strict=True):
        passes = []
        for lookup in (False, True):
            ((found,),) = writer.write([prompt], settings, lookup=lookup)
            assert list(found.ids) == ids
            passes.append(found.passes)
        fewer += passes[1] < passes[0]
        *_, last = writer.stream(prompt, settings)
        assert list(last.ids) == ids
    assert fewer > 1  # proposals were verified, and some were right
    assert [list(found.ids) for (found,) in writer.write(prompts(6), settings)] == list(expected)
    answering.save(str(tmp_path / "folder"))
    again = GenerationSession.of(TrainedGenerator.load(str(tmp_path / "folder")))
    assert [list(found.ids) for (found,) in again.write(prompts(6), settings)] == list(expected)
    with pytest.raises(ValueError, match="has a pointer, or reads segments"):
        answering.save_hugging_face(str(tmp_path / "hf"))


def test_a_penalty_acts_on_what_is_copied(answering):
    prompt, settings = [40, 41, 42, 40, 41, 42, 40, 41], GenerationSettings(max_tokens=12, repetition_penalty=4.0)
    with changed(answering.gpt2.pointer, sentinel_bias=6.0):
        expected, _ = greedy(answering.gpt2, prompt, 12, penalty=4.0)
        ((found,),) = GenerationSession.of(answering).write([prompt], settings)
        assert list(found.ids) == expected != greedy(answering.gpt2, prompt, 12)[0]


def test_no_run_is_copied_twice(answering):
    """Neither token by token, nor with look-up."""
    writer, settings = GenerationSession.of(answering), GenerationSettings(24, no_repeat_ngram_size=4)
    with changed(answering.gpt2.pointer, sentinel_bias=0.0):
        for prompt in prompts(7)[::2]:
            expected, copied = greedy(answering.gpt2, prompt, 24, size=4)
            assert copied > 3
            assert expected != greedy(answering.gpt2, prompt, 24)[0]
            for lookup in (False, True):
                ((found,),) = writer.write([prompt], settings, lookup=lookup)
                assert list(found.ids) == expected
    assert found.passes < 24


def test_draws_are_of_the_mixture(answering):
    """400 of a prompt: the first tokens, and those that follow the first that is drawn most."""
    prompt, settings = [40, 41, 42, 40, 43, 44, 42, 40], GenerationSettings(2, temperature=1.0, num_samples=400)
    with changed(answering.gpt2.pointer, sentinel_bias=3.0):
        (found,) = GenerationSession.of(answering).write([prompt], settings)
        drawn = np.array([(*text.ids, answering.end_id, 0)[:2] for text in found])
        most = int(np.argmax(np.bincount(drawn[:, 0])))
        for ids, tokens in ((prompt, drawn[:, 0]), ([*prompt, most], drawn[drawn[:, 0] == most, 1])):
            alone, mixed = (np.exp(x) / np.exp(x).sum() for x in next_logits(answering.gpt2, ids))
            shares = np.bincount(tokens, minlength=mixed.size) / tokens.size
            assert np.abs(alone - mixed).max() > 0.1
            assert (np.abs(shares - mixed) < 4 * np.sqrt(mixed / tokens.size) + 0.01).all()


def test_markers_are_never_written(answering):
    """Though it copies only, and they follow in the prompt."""
    bpe = with_markers(answering.tokenizer)
    gpt2 = built(GPT2(dataclasses.replace(APART, vocab_size=bpe.vocab_size), seed=3))
    gpt2.pointer.sentinel_bias.assign(-50.0)
    question, answer, _ = (bpe.added[marker] for marker in ADDED)
    writer = GenerationSession.of(TrainedGenerator(gpt2, bpe))
    for lookup in (False, True):
        ((found,),) = writer.write([[40, question, 40, question, 40, answer, 40, 41, 40]], lookup=lookup)
        assert found.ids[0] == 41
        assert not {question, answer} & set(found.ids)


def test_padding_before_a_prompt_equals_no_token(answering):
    """Beside a longer prompt as alone: the first 5, behind padding, is no more like the last one than others."""
    prompt, settings = [5, 8, 9, 5, 7, 2, 5, 7, 0, 5], GenerationSettings(max_tokens=1)
    equal_bias = [0.0, 1.0, 20.0, 20.0, 20.0, 20.0]
    pointer = answering.gpt2.pointer
    with changed(pointer, query_kernel=0 * pointer.query_kernel, sentinel_bias=-20.0, equal_bias=equal_bias):
        writer = GenerationSession.of(answering)
        alone, (beside, _) = writer.write([prompt], settings), writer.write([prompt, [*range(30, 42)]], settings)
    assert alone[0][0].ids == beside[0].ids == (7,)
