"""BERT against keras-hub's, an independent implementation, with copied random weights."""

import dataclasses
import gc
import weakref

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from docproduct.layers import checkpoints
from docproduct.layers.attention import SelfAttention, padding_bias
from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.transformer import ACTIVATIONS, Blocks, masked_mean

CONFIG = BertConfig(
    vocab_size=23, width=10, num_layers=2, num_heads=2, inner_width=14, max_positions=16, initializer_range=0.5
)
IDS = np.array([[2, 5, 9, 22, 7, 3, 1], [4, 3, 0, 0, 0, 0, 0], [8, 8, 1, 6, 0, 0, 0]])

SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 1], [0, 1, 0, 0, 0, 0, 0], [0, 0, 1, 1, 0, 0, 0]])


def randomize(layer, seed=0):
    """Gives every variable random values, so that no bias is zero and no norm is one."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        variable.assign(rng.normal(0, 0.5, variable.shape))


@pytest.fixture
def bert():
    bert = Bert(CONFIG)
    bert(IDS)
    randomize(bert)
    return bert


def test_a_graph_that_is_no_longer_used_is_freed():
    """A service that loads a new model gives up the graph of the old one, which holds its variables."""
    encode = tf.function(Bert(CONFIG), autograph=False)
    graph = weakref.ref(encode.get_concrete_function(tf.constant(IDS)).graph)
    del encode
    gc.collect()
    assert graph() is None


@pytest.mark.parametrize("activation", ["gelu_tanh", "relu"])
def test_equals_keras_hub(activation):
    bert = Bert(dataclasses.replace(CONFIG, activation=activation))
    bert(IDS)
    randomize(bert)
    ours = checkpoints.variables_by_name(bert)
    theirs = keras_hub.models.BertBackbone(23, 2, 2, 10, 14, dropout=0.0, max_sequence_length=16)
    if activation == "relu":
        for layer in theirs.transformer_layers:
            layer._feedforward_intermediate_dense.activation = keras.activations.relu

    def copy(target, *names):
        target.set_weights([np.asarray(ours[name]) for name in names])

    copy(theirs.token_embedding, "token_embedding/embeddings")
    embeddings = {layer.name: layer for layer in theirs.layers}
    copy(embeddings["position_embedding"], "position_embedding/embeddings")
    copy(embeddings["segment_embedding"], "segment_embedding/embeddings")
    copy(embeddings["embeddings_layer_norm"], "embedding_norm/gamma", "embedding_norm/beta")
    for i, layer in enumerate(theirs.transformer_layers):
        p = f"layer_{i}/"
        attention = layer._self_attention_layer
        kernels = np.split(np.asarray(ours[p + "attention/query_key_value/kernel"]), 3, axis=1)
        biases = np.split(np.asarray(ours[p + "attention/query_key_value/bias"]), 3)
        for dense, kernel, bias in zip(
            (attention.query_dense, attention.key_dense, attention.value_dense), kernels, biases, strict=True
        ):
            dense.set_weights([kernel.reshape(10, 2, 5), bias.reshape(2, 5)])
        output = np.asarray(ours[p + "attention/output/kernel"]).reshape(2, 5, 10)
        attention.output_dense.set_weights([output, np.asarray(ours[p + "attention/output/bias"])])
        copy(layer._self_attention_layer_norm, p + "attention_norm/gamma", p + "attention_norm/beta")
        copy(layer._feedforward_intermediate_dense, p + "feed_forward/inner/kernel", p + "feed_forward/inner/bias")
        copy(layer._feedforward_output_dense, p + "feed_forward/output/kernel", p + "feed_forward/output/bias")
        copy(layer._feedforward_layer_norm, p + "feed_forward_norm/gamma", p + "feed_forward_norm/beta")
    mask = IDS != 0
    for ours, segments in ((bert(IDS), np.zeros_like(IDS)), (bert(IDS, segments=SEGMENTS), SEGMENTS)):
        expected = theirs({"token_ids": IDS, "segment_ids": segments, "padding_mask": mask})["sequence_output"]
        assert np.abs(np.asarray(ours) - np.asarray(expected))[mask].max() < 1e-5


def test_erf_and_tanh_gelu_differ(bert):
    """The erf form at 1 is 0.841345 (the normal distribution at 1), the tanh form 0.841192."""
    assert float(ACTIVATIONS["gelu_erf"](tf.constant(1.0))) == pytest.approx(0.841345, abs=1e-6)
    assert float(ACTIVATIONS["gelu_tanh"](tf.constant(1.0))) == pytest.approx(0.841192, abs=1e-6)


def test_padding_never_changes_a_state(bert):
    alone = np.asarray(bert(IDS[1:2, :2]))
    padded = np.asarray(bert(IDS))[1:2, :2]
    np.testing.assert_allclose(padded, alone, atol=1e-5)


def test_eager_and_graph_are_the_same(bert):
    graph = tf.function(bert, input_signature=[tf.TensorSpec([None, None], tf.int32)])
    for ids in (IDS, IDS[:1, :3]):
        np.testing.assert_allclose(graph(ids.astype("int32")), bert(ids), atol=1e-5)
    assert graph.experimental_get_tracing_count() == 1


def test_training_drops_out_and_seeds_repeat_it():
    def run(seed):
        bert = Bert(CONFIG, seed=seed)
        return np.asarray(bert(IDS, training=True)), np.asarray(bert(IDS, training=True))

    first, second = run(1)
    assert np.abs(first - second).max() > 0.01
    np.testing.assert_array_equal(run(1), (first, second))
    assert np.abs(run(2)[0] - first).max() > 0.01


def test_bfloat16_keeps_float32_variables_and_stays_close(bert):
    half = Bert(CONFIG, dtype=keras.DTypePolicy("mixed_bfloat16"))
    half(IDS)
    for ours, theirs in zip(half.weights, bert.weights, strict=True):
        assert ours.dtype == "float32"
        ours.assign(theirs)
    states = half(IDS)
    assert states.dtype == tf.bfloat16
    mask = IDS != 0
    # bfloat16 has 8 bits: relative steps of 0.4 %, on normalized states of size 1, over two layers.
    assert np.abs(tf.cast(states, tf.float32).numpy() - np.asarray(bert(IDS)))[mask].max() < 0.15


def test_masked_mean_by_hand():
    states = np.array([[[1.0, 2.0], [3.0, 6.0], [100.0, 100.0]]], np.float32)
    # Mean of (1, 2) and (3, 6); the third token is padding.
    np.testing.assert_allclose(masked_mean(states, np.array([[1, 1, 0]])), [[2.0, 4.0]])
    np.testing.assert_array_equal(padding_bias(np.array([[1, 0]]))[0, 0, 0], np.array([0, -1e9], np.float32))


def test_configs_of_both_source_formats_are_read():
    sizes = {
        "vocab_size": 23, "hidden_size": 10, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 14,
        "max_position_embeddings": 16, "type_vocab_size": 2, "hidden_act": "gelu",
    }  # fmt: skip
    assert BertConfig.from_google(sizes).activation == "gelu_tanh"
    assert BertConfig.from_hugging_face(sizes).activation == "gelu_erf"
    with pytest.raises(ValueError, match="hidden_act 'swish'; expected one of gelu"):
        BertConfig.from_google(sizes | {"hidden_act": "swish"})
    with pytest.raises(ValueError, match="has no 'hidden_size'"):
        BertConfig.from_hugging_face({name: value for name, value in sizes.items() if name != "hidden_size"})
    with pytest.raises(ValueError, match="roberta model"):
        BertConfig.from_hugging_face(sizes | {"model_type": "roberta"})


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="Width 10 cannot be divided among 3 heads"):
        SelfAttention(10, 3, 0.0, Blocks(0.02, iter(range(9))), "attention")
