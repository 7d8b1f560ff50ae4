"""Adapters: they begin without effect, they alone are trained, and merged weights do the same."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from docproduct.layers import checkpoints, lora
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.llama import Llama
from docproduct.layers.llama_config import LlamaConfig
from docproduct.layers.lora import LoraBlocks, LoraDense, LoraSettings

GPT2_SIZES = GPT2Config(vocab_size=23, width=10, num_layers=2, num_heads=2, max_positions=12)
LLAMA_SIZES = LlamaConfig(
    vocab_size=23,
    width=12,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    head_width=4,
    inner_width=14,
    max_positions=12,
)
IDS = np.random.default_rng(0).integers(0, 23, (3, 7)).astype(np.int32)


def adapted(cls, config, settings, seed=5):
    """A model with random weights and its adapter, and the model without it."""
    plain = cls(config, seed=3).make_variables()
    blocks = LoraBlocks(itertools.count(seed), None, settings)
    model = cls(config, blocks=blocks).make_variables()
    weights = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(plain).items()}
    checkpoints.assign(model, weights, "plain", lambda name: not lora.is_adapter(name))
    lora.train_adapters_only(model)
    return model, plain, blocks


def shake(model):
    """Gives the adapters random weights, as if they were trained."""
    random = np.random.default_rng(1)
    for name, variable in checkpoints.variables_by_name(model).items():
        if lora.is_adapter(name):
            variable.assign(random.normal(size=variable.shape))


def test_a_layer_by_hand():
    layer = LoraDense(2, LoraSettings(rank=1, alpha=3.0), 0, name="dense")
    layer.build((None, 2))
    layer.kernel.assign([[1, 0], [0, 1]])
    layer.bias.assign([0, 10])
    layer.lora_a.assign([[1], [2]])
    layer.lora_b.assign([[1, -1]])
    # x = [1, 1]: x W + b = [1, 11]; x A = 3; times alpha / rank = 9; times B = [9, -9].
    np.testing.assert_allclose(layer(np.ones((1, 2), np.float32)), [[10, 2]])
    # W + 3 A B = [[1, 0], [0, 1]] + 3 [[1, -1], [2, -2]]
    np.testing.assert_allclose(layer.merged(), [[4, -3], [6, -5]])


@pytest.mark.parametrize(("cls", "config"), [(GPT2, GPT2_SIZES), (Llama, LLAMA_SIZES)])
def test_an_untrained_adapter_changes_nothing_and_a_merged_one_does_the_same(cls, config):
    model, plain, blocks = adapted(cls, config, LoraSettings(rank=3))
    np.testing.assert_allclose(model.logits(model(IDS)), plain.logits(plain(IDS)), atol=1e-6)
    shake(model)
    with_adapter = model.logits(model(IDS)).numpy()
    assert np.abs(with_adapter - plain.logits(plain(IDS))).max() > 0.1
    checkpoints.assign(plain, lora.merged_weights(model, blocks.adapted), "merged")
    np.testing.assert_allclose(plain.logits(plain(IDS)), with_adapter, atol=1e-4)


def test_only_adapters_are_trained():
    model, _, _ = adapted(Llama, LLAMA_SIZES, LoraSettings(rank=3))
    shake(model)
    before = {name: variable.numpy() for name, variable in checkpoints.variables_by_name(model).items()}
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model.logits(model(IDS)) ** 2)
    variables = model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.abs(gradient).max() > 0
        variable.assign_sub(0.01 * gradient)
    for name, variable in checkpoints.variables_by_name(model).items():
        assert np.array_equal(before[name], variable.numpy()) != lora.is_adapter(name), name


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (("attention",), {"query_key_value"}),
        (("feed_forward", "output"), {"gate_and_inner", "output"}),
        (("attention", "feed_forward", "output"), {"query_key_value", "gate_and_inner", "output"}),
    ],
)
def test_targets_decide_which_layers_have_adapters(targets, names):
    _, _, blocks = adapted(Llama, LLAMA_SIZES, LoraSettings(rank=2, targets=targets))
    assert {layer.name for layer in blocks.adapted} == names
    assert len(blocks.adapted) == 2 * sum({"output": 2}.get(name, 1) for name in names)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rank": -1}, "rank is -1; expected 0 or more"),
        ({"alpha": 0.0}, "alpha is 0.0; expected more than 0"),
        ({"targets": ()}, "targets is ''; expected some of attention, feed_forward, output"),
        ({"targets": ("q_proj",)}, "targets is 'q_proj'; expected some of attention, feed_forward, output"),
    ],
)
def test_settings_out_of_range(changed, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(LoraSettings(), **changed)
