"""GPT-2 against keras-hub's and transformers', independent implementations, with equal random weights."""

import dataclasses
import json
import pathlib

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from docproduct.layers import checkpoints
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config, hugging_face_sources, openai_sources
from tests.golden.make_gpt2_logits import weights
from tests.test_bert import randomize

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/gpt2_logits.json").read_text())
CONFIG = GPT2Config(vocab_size=23, width=12, num_layers=2, num_heads=3, max_positions=16)
IDS = np.array([[2, 5, 9, 22, 7, 3, 1], [4, 3, 8, 11, 2, 19, 0]])


def build(config, **options):
    gpt2 = GPT2(config, **options)
    states = np.ones((1, 2, config.encoder_width or config.width), np.float32) if config.cross_attention else None
    gpt2(np.zeros((1, 2), int), encoder_states=states)
    return gpt2


@pytest.fixture
def gpt2():
    gpt2 = build(CONFIG)
    randomize(gpt2)
    return gpt2


def shapes_of(gpt2, sources):
    variables = checkpoints.variables_by_name(gpt2)
    return {source.names[0]: tuple(variables[ours].shape) for ours, source in sources.items()}


@pytest.mark.parametrize("name", GOLDEN["variants"])
def test_equals_transformers(name):
    golden = GOLDEN["variants"][name]
    gpt2 = build(GPT2Config.from_hugging_face(golden["config"]))
    sources = hugging_face_sources(gpt2.config)
    drawn = weights({f"transformer.{key}": shape for key, shape in shapes_of(gpt2, sources).items()})
    tensors = {key.removeprefix("transformer."): value for key, value in drawn.items()}
    checkpoints.assign_from(gpt2, tensors, sources, "golden")
    inputs = {}
    if name == "cross_attention":
        inputs = {key: np.array(GOLDEN[key], np.float32) for key in ("encoder_states", "encoder_mask")}
    logits = gpt2.logits(gpt2(np.array(GOLDEN["ids"]), **inputs))
    np.testing.assert_allclose(logits, golden["logits"], atol=1e-4)


def test_endings_that_are_read_behind_one_beginning_are_read_as_if_alone(gpt2):
    ids, branches = np.array([[2, 5, 9, 22, 7, 3, 1]]), np.array([[0, 0, 0, 1, 1, 2, 2]])
    states = gpt2(ids, branch_ids=branches)
    np.testing.assert_allclose(states[:, :5], gpt2(ids[:, :5]), atol=1e-5)
    np.testing.assert_allclose(states[:, 5:], gpt2(ids[:, [0, 1, 2, 5, 6]])[:, 3:], atol=1e-5)


def test_equals_keras_hub(gpt2):
    theirs = keras_hub.models.GPT2Backbone(23, 2, 3, 12, 48, dropout=0.0, max_sequence_length=16)
    ours = {name: np.asarray(variable) for name, variable in checkpoints.variables_by_name(gpt2).items()}
    theirs.token_embedding.embeddings.assign(ours["token_embedding/embeddings"])
    theirs.position_embedding.position_embeddings.assign(ours["position_embedding/embeddings"])
    theirs.layer_norm.set_weights([ours["final_norm/gamma"], ours["final_norm/beta"]])
    for i, layer in enumerate(theirs.transformer_layers):

        def both(name, i=i):
            parts = ("gamma", "beta") if name.endswith("norm") else ("kernel", "bias")
            return [ours[f"layer_{i}/{name}/{part}"] for part in parts]

        attention = layer._self_attention_layer
        kernels, biases = (np.split(value, 3, axis=-1) for value in both("attention/query_key_value"))
        parts = (attention._query_dense, attention._key_dense, attention._value_dense)
        for dense, kernel, bias in zip(parts, kernels, biases, strict=True):
            dense.set_weights([kernel.reshape(12, 3, 4), bias.reshape(3, 4)])
        kernel, bias = both("attention/output")
        attention._output_dense.set_weights([kernel.reshape(3, 4, 12), bias])
        layer._self_attention_layer_norm.set_weights(both("attention_norm"))
        layer._feedforward_layer_norm.set_weights(both("feed_forward_norm"))
        layer._feedforward_intermediate_dense.set_weights(both("feed_forward/inner"))
        layer._feedforward_output_dense.set_weights(both("feed_forward/output"))
    expected = theirs({"token_ids": IDS, "padding_mask": np.ones_like(IDS)})
    np.testing.assert_allclose(gpt2(IDS), expected, atol=1e-4)


def test_padding_before_or_behind_a_text_never_matters(gpt2):
    alone = gpt2(IDS[:1])
    for left, right in ((0, 3), (2, 0), (4, 1)):
        ids = np.pad(IDS[:1], ((0, 0), (left, right)), constant_values=5)
        mask = np.pad(np.ones((1, 7), int), ((0, 0), (left, right)))
        np.testing.assert_allclose(gpt2(ids, mask)[:, left : left + 7], alone, atol=1e-5)


@pytest.mark.parametrize("texts", [[0, 1], [1]])  # one new token of one text is read in another way
@pytest.mark.parametrize("cross_attention", [False, True])
def test_with_a_cache_the_states_are_the_same(cross_attention, texts):
    gpt2 = build(dataclasses.replace(CONFIG, cross_attention=cross_attention, encoder_width=8))
    randomize(gpt2)
    encoder = {}
    if cross_attention:
        states = np.random.default_rng(0).normal(size=(2, 4, 8)).astype(np.float32)[texts]
        encoder = {"encoder_states": states, "encoder_mask": np.array([[1, 1, 1, 1], [1, 1, 0, 0]])[texts]}
    ids, mask, padding = IDS[texts], np.ones_like(IDS), np.array([0, 2])[texts]
    mask[1, :2] = 0
    mask = mask[texts]
    expected = gpt2(ids, mask, **encoder)
    cross_caches = gpt2.cross_caches(*encoder.values()) if encoder else None
    states, caches = gpt2.prefill(ids[:, :3], mask[:, :3], 9, cross_caches)
    real = mask[:, :3] == 1
    np.testing.assert_allclose(states[real], expected[:, :3][real], atol=1e-5)
    for start, end in ((3, 4), (4, 6), (5, 7), (5, 6)):  # slot 5 is written three times
        states, caches = gpt2.decode_step(ids[:, start:end], padding, caches, start, cross_caches)
        np.testing.assert_allclose(states, expected[:, start:end], atol=1e-5)


def test_a_token_sees_nothing_behind_it(gpt2):
    other = IDS.copy()
    other[:, 4:] = 0
    np.testing.assert_allclose(gpt2(other)[:, :4], gpt2(IDS)[:, :4], atol=1e-6)


def test_logits_are_the_product_with_the_token_table(gpt2):
    states = gpt2(IDS)
    expected = np.asarray(states) @ np.asarray(gpt2.token_embedding.embeddings).T
    np.testing.assert_allclose(gpt2.logits(states), expected, atol=1e-5)
    assert gpt2.logits(states[0, 0]).shape == (23,)


def test_dropout_acts_in_training_only(gpt2):
    assert np.abs(gpt2(IDS, training=True) - gpt2(IDS)).max() > 0.1
    np.testing.assert_array_equal(gpt2(IDS), gpt2(IDS))


def test_bfloat16_is_near_float32():
    exact, fast = build(CONFIG), build(CONFIG, dtype="mixed_bfloat16")
    for model in (exact, fast):
        randomize(model)
    np.testing.assert_allclose(tf.cast(fast(IDS), tf.float32), exact(IDS), atol=0.2)
    assert fast.logits(fast(IDS)).dtype == "float32"


@pytest.mark.parametrize("table", [openai_sources, hugging_face_sources])
@pytest.mark.parametrize("cross_attention", [False, True])
def test_the_tables_name_every_variable_once(table, cross_attention):
    gpt2 = build(dataclasses.replace(CONFIG, cross_attention=cross_attention))
    sources = table(gpt2.config)
    assert set(sources) == set(checkpoints.variables_by_name(gpt2))
    assert len({source.names for source in sources.values()}) == len(sources)


def test_the_published_sizes_have_the_published_numbers_of_weights():
    # From openai/gpt-2's hparams; the numbers of weights are those of Hugging Face's checkpoints.
    for width, num_layers, num_heads, millions in (
        (768, 12, 12, 124.4),
        (1024, 24, 16, 354.8),
        (1280, 36, 20, 774.0),
        (1600, 48, 25, 1557.6),
    ):
        hparams = {"n_vocab": 50257, "n_ctx": 1024, "n_embd": width, "n_head": num_heads, "n_layer": num_layers}
        config = GPT2Config.from_openai(hparams)
        layer = 12 * width * width + 13 * width
        total = (config.vocab_size + config.max_positions + 2) * width + config.num_layers * layer
        assert total / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "bert"}, "of type 'bert'; expected gpt2"),
        ({"model_type": "gpt2", "activation_function": "swish"}, "activation_function 'swish'"),
        ({"model_type": "gpt2", "tie_word_embeddings": False}, "tie_word_embeddings false"),
        ({"model_type": "gpt2", "vocab_size": 3}, "no 'n_embd'"),
        (GOLDEN["variants"]["gpt2"]["config"] | {"n_head": 5}, "Width 12 cannot be divided among 5 heads"),
        (GOLDEN["variants"]["gpt2"]["config"] | {"n_layer": 0}, "num_layers is 0"),
    ],
)
def test_configurations_that_do_not_fit(config, message):
    with pytest.raises(ValueError, match=message):
        GPT2Config.from_hugging_face(config)


def test_a_configuration_survives_hugging_faces_form():
    for name, golden in GOLDEN["variants"].items():
        config = GPT2Config.from_hugging_face(golden["config"])
        assert GPT2Config.from_hugging_face(config.to_hugging_face()) == config, name


def test_states_of_an_encoder_go_with_cross_attention_only(gpt2):
    with pytest.raises(ValueError, match="cross_attention is False, and an encoder's states are given"):
        gpt2(IDS, encoder_states=np.ones((2, 3, 12), np.float32))
    with pytest.raises(ValueError, match="cross_attention is True, and an encoder's states are missing"):
        GPT2(dataclasses.replace(CONFIG, cross_attention=True))(IDS)
