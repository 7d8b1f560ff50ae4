"""The generator's loss and gradients, against NumPy and against one another."""

import dataclasses
import types

import numpy as np
import pytest
import tensorflow as tf

from data_pipeline.token_rows.packing import pack
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator.config import GeneratorTraining
from docproduct.systems.generator.losses import PAD, joined, next_token_losses
from docproduct.systems.generator.task import GeneratorTask
from docproduct.training.gradients import chunked_gradients
from tests.test_bert import randomize
from tests.test_gpt2 import build

CONFIG = GPT2Config(
    vocab_size=23, width=12, num_layers=2, num_heads=3, max_positions=16, dropout=0, attention_dropout=0
)
PROMPTS = [[3, 4, 5], [], [7], [2, 2, 6, 1]]
TARGETS = [[8, 9], [10, 11, 12, 13], [14], [15, 16, 17]]


@pytest.fixture
def gpt2():
    gpt2 = build(CONFIG)
    randomize(gpt2)
    return gpt2


def padded(rows, width=None):
    width = width or max(map(len, rows))
    return tf.constant([[*row, *[PAD] * (width - len(row))] for row in rows], tf.int32)


def batch_of(prompts, targets, prompt_width=None, target_width=None):
    return {
        "prompt_ids": padded(prompts, prompt_width),
        "target_ids": padded(targets, target_width),
        "pair_id": tf.range(len(prompts), dtype=tf.int64),
    }


def by_hand(gpt2, prompt, target):
    """The negative log-likelihood of each target that something stands before, one text alone."""
    ids = np.array([[*prompt, *target]])
    logits = np.asarray(gpt2.logits(gpt2(ids)), np.float64)[0]
    log_probs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    first = max(len(prompt), 1)
    return [-log_probs[i - 1, ids[0, i]] for i in range(first, ids.shape[1])]


@pytest.mark.parametrize("widths", [(), (9, 6)])
def test_only_targets_count_wherever_the_padding_stands(gpt2, widths):
    batch = batch_of(PROMPTS, TARGETS, *widths)
    losses, places = next_token_losses(gpt2, joined(batch["prompt_ids"], batch["target_ids"], None))
    for row, (prompt, target) in enumerate(zip(PROMPTS, TARGETS, strict=True)):
        np.testing.assert_allclose(losses[places[:, 0] == row], by_hand(gpt2, prompt, target), atol=1e-4)


def test_packed_equals_unpacked(gpt2):
    random = np.random.default_rng(1)
    documents = [random.integers(1, 23, length).tolist() for length in (3, 9, 5, 1, 12, 2, 2)]
    windows = pack(documents, 16, end_id=0)
    assert len(windows) < len(documents)
    losses, _ = next_token_losses(gpt2, joined(padded([[]] * len(windows), 0), padded(windows), end_id=0))
    expected = [loss for ids in documents for loss in by_hand(gpt2, [], [0, *ids, 0])]
    np.testing.assert_allclose(sorted(losses.numpy()), sorted(expected), atol=1e-4)


def gradients_of(gpt2, batch, gather=tf.identity, **options):
    """Of rows that are one text each."""
    folder = types.SimpleNamespace(rows="closed_book", num_rows=lambda split: len(batch["pair_id"]))
    generator = types.SimpleNamespace(decoder=gpt2, tokenizer=None)
    task = GeneratorTask(GeneratorTraining("t", **options), folder, generator, None, "")
    return tf.function(lambda batch: task.gradients(batch, gather))(batch)


def test_every_target_of_a_batch_counts_alike(gpt2):
    total, _ = gradients_of(gpt2, batch_of(PROMPTS, TARGETS))
    each = [loss for rows in zip(PROMPTS, TARGETS, strict=True) for loss in by_hand(gpt2, *rows)]
    assert float(total) / len(PROMPTS) == pytest.approx(np.mean(each), abs=1e-4)


def test_prompts_count_as_they_are_weighted(gpt2):
    total, _ = gradients_of(gpt2, batch_of(PROMPTS, TARGETS, 6, 5), prompt_weight=0.25)
    losses, weights = [], []
    for prompt, target in zip(PROMPTS, TARGETS, strict=True):
        found = by_hand(gpt2, [], [*prompt, *target])
        losses += found
        weights += [0.25 if i < len(prompt) - 1 else 1.0 for i in range(len(found))]
    assert float(total) / len(PROMPTS) == pytest.approx(np.average(losses, weights=weights), abs=1e-4)


def test_the_first_tokens_of_an_answer_count_as_they_are_weighted(gpt2):
    total, _ = gradients_of(gpt2, batch_of(PROMPTS, TARGETS, 6, 5), opening_weight=4)
    losses, weights = [], []
    for prompt, target in zip(PROMPTS, TARGETS, strict=True):
        losses += by_hand(gpt2, prompt, target)
        # Two tokens open an answer. Where nothing stands before it, the first one is not predicted.
        weights += [4.0, 4.0, 1.0, 1.0][not prompt : len(target)]
    assert float(total) / len(PROMPTS) == pytest.approx(np.average(losses, weights=weights), abs=1e-4)


@pytest.mark.parametrize("chunk_size", [1, 2, 3])
def test_accumulated_gradients_are_those_of_the_batch(gpt2, chunk_size):
    batch = batch_of(PROMPTS, TARGETS)
    total, whole = gradients_of(gpt2, batch)
    also, parts = gradients_of(gpt2, batch, chunk_size=chunk_size)
    assert float(also) == pytest.approx(float(total), abs=1e-5)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_gradients_are_the_same(dropout):
    config = dataclasses.replace(CONFIG, dropout=dropout, attention_dropout=dropout)
    found = []
    for recompute in (False, True):
        gpt2 = build(config, seed=4)
        randomize(gpt2)
        steps = [gradients_of(gpt2, batch_of(PROMPTS, TARGETS), recompute=recompute) for _ in range(2)]
        found.append([[float(total), *gradients] for total, gradients in steps])
    for plain, again in zip(*found, strict=True):
        for one, other in zip(plain, again, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-5)
    # With dropout, the second step draws anew.
    assert (found[0][0][0] == found[0][1][0]) == (dropout == 0)


def test_replicas_give_the_gradients_of_one_device(gpt2):
    """Rows 0, 2 and 1, 3 on a replica each: unlike numbers of targets, which one mean is taken over."""
    batch = batch_of(PROMPTS, TARGETS)
    total, whole = gradients_of(gpt2, batch)
    counts = np.array([2.0, 3.0, 1.0, 3.0], np.float32)  # targets of a row; the second row's first follows nothing
    parts = []
    for replica in range(2):
        rows = {name: value[replica::2] for name, value in batch.items()}
        gather = lambda own, replica=replica: tf.constant(counts) if own.shape[0] == 2 else own  # noqa: E731
        parts.append(gradients_of(gpt2, rows, gather))
    assert float(parts[0][0] + parts[1][0]) == pytest.approx(float(total), abs=1e-5)
    for one, *others in zip(whole, parts[0][1], parts[1][1], strict=True):
        np.testing.assert_allclose(one, sum(others), atol=1e-5)


def test_a_replica_without_rows(gpt2):
    batch = {name: value[:0] for name, value in batch_of(PROMPTS, TARGETS).items()}
    total, found = gradients_of(gpt2, batch)
    assert float(total) == 0
    assert all(not np.any(gradient) for gradient in found)


def test_a_chunked_loss_is_summed_by_the_loop():
    module = build(CONFIG)
    variable = module.trainable_variables[0]

    def loss(batch, gather):
        del gather
        return tf.reduce_sum(batch["x"]) * tf.reduce_sum(variable)

    batch = {"pair_id": tf.range(5, dtype=tf.int64), "x": tf.range(5.0)}
    gradient = chunked_gradients(loss, (_Only(variable),), batch, tf.identity, chunk_size=2)[1][0]
    np.testing.assert_allclose(gradient, np.full(variable.shape, 10.0))


class _Only:
    def __init__(self, variable):
        self.trainable_variables = [variable]
