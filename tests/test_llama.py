"""LLaMA-style decoders against transformers' logits, and against themselves with a cache, padding and packing."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from docproduct.layers import checkpoints
from docproduct.layers.llama import Llama
from docproduct.layers.llama_config import LlamaConfig, hugging_face_sources
from docproduct.layers.rotary import RotaryConfig, frequencies
from tests.golden.make_gpt2_logits import weights
from tests.test_bert import randomize

GOLDEN = json.loads((pathlib.Path(__file__).parent / "golden/llama_logits.json").read_text())
# Every part at once: groups of two heads, a layer that slides, stretched positions, biases, normalized heads.
CONFIG = LlamaConfig(
    vocab_size=23,
    width=10,
    num_layers=2,
    num_heads=4,
    num_key_value_heads=2,
    head_width=6,
    inner_width=14,
    max_positions=16,
    rotary=RotaryConfig(100.0, "yarn", 2.0, 8, attention_factor=1.1),
    sliding_window=3,
    sliding_layers=(1,),
    query_key_value_bias=True,
    output_bias=True,
    feed_forward_bias=True,
    normalizes_heads=True,
    ties_head=False,
)
IDS = np.array([[2, 5, 9, 22, 7, 3, 1], [4, 3, 8, 11, 2, 19, 0]])


def build(config, **options):
    llama = Llama(config, **options).make_variables()
    randomize(llama)
    return llama


@pytest.fixture(scope="module")
def llama():
    return build(CONFIG)


@pytest.mark.parametrize("name", GOLDEN["variants"])
def test_equals_transformers(name):
    golden = GOLDEN["variants"][name]
    llama = Llama(LlamaConfig.from_hugging_face(golden["config"])).make_variables()
    tensors = {key.removeprefix("model."): value for key, value in weights(golden["shapes"]).items()}
    sources = hugging_face_sources(llama.config)
    checkpoints.assign_from(llama, tensors, sources, "golden")
    ids = np.array(GOLDEN["ids"])
    np.testing.assert_allclose(llama.logits(llama(ids)), golden["logits"], atol=1e-4)
    for key, value in checkpoints.named_as(llama, sources).items():
        np.testing.assert_array_equal(value, tensors[key], err_msg=key)
    # Token by token, with a cache.
    states, caches = llama.prefill(ids[:, :3], np.ones((2, 3), int), ids.shape[1])
    steps = [llama.logits(states)]
    for i in range(3, ids.shape[1]):
        states, caches = llama.decode_step(ids[:, i : i + 1], np.zeros(2, int), caches, i)
        steps.append(llama.logits(states))
    np.testing.assert_allclose(tf.concat(steps, axis=1), golden["logits"], atol=1e-4)


def test_padding_before_or_behind_a_text_never_matters(llama):
    alone = llama(IDS[:1])
    for left, right in ((0, 3), (2, 0), (4, 1)):
        ids = np.pad(IDS[:1], ((0, 0), (left, right)), constant_values=5)
        mask = np.pad(np.ones((1, 7), int), ((0, 0), (left, right)))
        np.testing.assert_allclose(llama(ids, mask)[:, left : left + 7], alone, atol=1e-5)


def test_packed_texts_are_read_as_if_alone(llama):
    packed = np.concatenate([IDS[0], IDS[1, :4], [5]])[None]
    segments = np.array([[1] * 7 + [2] * 4 + [0]])
    states = llama(packed, segments)
    np.testing.assert_allclose(states[:, :7], llama(IDS[:1]), atol=1e-5)
    np.testing.assert_allclose(states[:, 7:11], llama(IDS[1:, :4]), atol=1e-5)


def test_endings_that_are_read_behind_one_beginning_are_read_as_if_alone(llama):
    beginning, endings = [2, 5, 9, 22], ([7, 3, 1], [4], [3, 8])
    ids = np.array([[*beginning, *(i for ending in endings for i in ending), 6]])
    branches = np.array([[0] * 4 + [1] * 3 + [2] + [3] * 2 + [0]])
    states = llama(ids, np.array([[1] * 10 + [0]]), branch_ids=branches)
    for number, ending in enumerate(endings, 1):
        alone = llama(np.array([[*beginning, *ending]]))
        np.testing.assert_allclose(states[:, :4], alone[:, :4], atol=1e-5)
        np.testing.assert_allclose(states[branches == number], alone[0, 4:], atol=1e-5)


@pytest.mark.parametrize("texts", [[0, 1], [1]])  # one new token of one text is read in another way
def test_with_a_cache_the_states_are_the_same(llama, texts):
    ids, mask, padding = IDS[texts], np.ones_like(IDS), np.array([0, 2])[texts]
    mask[1, :2] = 0
    mask = mask[texts]
    expected = llama(ids, mask)
    states, caches = llama.prefill(ids[:, :3], mask[:, :3], 9)
    assert [x.shape for x in caches[0]] == [(len(texts), 2, 9, 6)] * 2  # heads of keys and values only
    real = mask[:, :3] == 1
    np.testing.assert_allclose(states[real], expected[:, :3][real], atol=1e-5)
    for start, end in ((3, 4), (4, 6), (5, 7), (5, 6)):  # slot 5 is written three times
        states, caches = llama.decode_step(ids[:, start:end], padding, caches, start)
        np.testing.assert_allclose(states, expected[:, start:end], atol=1e-5)


def test_a_token_sees_nothing_behind_it(llama):
    other = IDS.copy()
    other[:, 4:] = 0
    np.testing.assert_allclose(llama(other)[:, :4], llama(IDS)[:, :4], atol=1e-6)


def test_a_sliding_layer_sees_its_window_only():
    """Two layers with a window of three tokens see five tokens back from the last, the own one counted."""
    llama = build(dataclasses.replace(CONFIG, sliding_layers=(0, 1)))
    other = IDS.copy()
    other[:, 1] = 0
    np.testing.assert_allclose(llama(other)[:, 6], llama(IDS)[:, 6], atol=1e-6)
    assert np.abs(llama(other)[:, 5] - llama(IDS)[:, 5]).max() > 1e-3


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_recomputed_gradients_are_the_same(dropout):
    found = []
    for recompute in (False, True):
        llama = build(dataclasses.replace(CONFIG, attention_dropout=dropout), seed=4)

        @tf.function
        def gradients(llama=llama, recompute=recompute):
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(llama.logits(llama(IDS, training=True, recompute=recompute)) ** 2)
            variables = [variable.value for variable in llama.trainable_variables]
            return [tf.convert_to_tensor(gradient) for gradient in tape.gradient(loss, variables)]

        found.append(gradients())
    for plain, again in zip(*found, strict=True):
        np.testing.assert_allclose(plain, again, rtol=1e-4, atol=1e-4)


def test_dropout_acts_in_training_only():
    llama = build(dataclasses.replace(CONFIG, attention_dropout=0.5))
    assert np.abs(llama(IDS, training=True) - llama(IDS)).max() > 0.1
    np.testing.assert_array_equal(llama(IDS), llama(IDS))


def test_bfloat16_is_near_float32(llama):
    fast = build(CONFIG, dtype="mixed_bfloat16")
    np.testing.assert_allclose(tf.cast(fast(IDS), tf.float32), llama(IDS), atol=0.2)
    assert fast.logits(fast(IDS)).dtype == "float32"


def test_plain_frequencies_by_hand():
    # 100 ** -(0 / 4), 100 ** -(2 / 4)
    np.testing.assert_allclose(frequencies(RotaryConfig(100.0), 4), [1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(frequencies(RotaryConfig(100.0, "linear", 4.0), 4), [0.25, 0.025], rtol=1e-6)


def test_the_published_sizes_have_the_published_numbers_of_weights():
    # SmolLM2-135M, -360M; Llama 3.2 1B and Mistral 7B v0.1, from their cards.
    published = (
        ({}, 134.5),
        ({"width": 960, "num_layers": 32, "num_heads": 15, "num_key_value_heads": 5, "inner_width": 2560}, 361.8),
        (
            {"vocab_size": 128_256, "width": 2048, "num_layers": 16, "num_heads": 32, "num_key_value_heads": 8}
            | {"inner_width": 8192},
            1235.8,
        ),
        (
            {"vocab_size": 32_000, "width": 4096, "num_layers": 32, "num_heads": 32, "num_key_value_heads": 8}
            | {"head_width": 128, "inner_width": 14_336, "ties_head": False},
            7241.7,
        ),
    )
    for sizes, millions in published:
        c = LlamaConfig(**sizes)
        attention = 2 * (c.num_heads + c.num_key_value_heads) * c.head_width
        layer = c.width * (attention + 3 * c.inner_width + 2)
        total = c.vocab_size * c.width * (2 - c.ties_head) + c.num_layers * layer + c.width
        assert total / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("name", GOLDEN["variants"])
def test_a_configuration_survives_hugging_faces_form(name):
    theirs = GOLDEN["variants"][name]["config"]
    config = LlamaConfig.from_hugging_face(theirs)
    written = config.to_hugging_face()
    assert LlamaConfig.from_hugging_face(written) == config
    assert written["model_type"] == theirs["model_type"]
    # As transformers 4 reads and writes it.
    old = {key: value for key, value in written.items() if key != "rope_parameters"}
    assert LlamaConfig.from_hugging_face(old) == config


def test_what_a_configuration_leaves_out():
    """Values are transformers' own where config.json has none."""
    sizes = {name: GOLDEN["variants"]["llama2"]["config"][name] for name in ("vocab_size", "hidden_size")}
    sizes |= {"num_hidden_layers": 2, "num_attention_heads": 6, "intermediate_size": 20}
    llama = LlamaConfig.from_hugging_face({"model_type": "llama", **sizes})
    assert (llama.num_key_value_heads, llama.head_width, llama.max_positions, llama.ties_head) == (6, 2, 2048, False)
    assert (llama.rotary, llama.norm_epsilon) == (RotaryConfig(10_000.0), 1e-6)
    of_mistral = {"model_type": "mistral", **sizes, "hidden_size": 16, "num_attention_heads": 8}
    mistral = LlamaConfig.from_hugging_face(of_mistral)
    assert (mistral.num_key_value_heads, mistral.sliding_window, mistral.sliding_layers) == (8, 4096, (0, 1))
    qwen3 = LlamaConfig.from_hugging_face({"model_type": "qwen3", **sizes, "num_attention_heads": 32})
    assert (qwen3.num_key_value_heads, qwen3.head_width, qwen3.normalizes_heads) == (32, 128, True)
    qwen2 = LlamaConfig.from_hugging_face({"model_type": "qwen2", **sizes, "num_attention_heads": 32, "head_dim": 2})
    assert (qwen2.query_key_value_bias, qwen2.output_bias, qwen2.sliding_layers) == (True, False, ())


LLAMA = GOLDEN["variants"]["llama2"]["config"]
MISTRAL, QWEN2 = (GOLDEN["variants"][name]["config"] for name in ("mistral", "qwen2_sliding"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LLAMA | {"model_type": "gemma"}, "of type 'gemma'; expected llama, mistral, qwen2, qwen3"),
        (LLAMA | {"hidden_act": "gelu"}, "hidden_act 'gelu'; expected silu"),
        (LLAMA | {"num_key_value_heads": 4}, "6 heads cannot share 4 heads"),
        (LLAMA | {"head_dim": 3}, "head_width is 3; expected an even number"),
        (
            LLAMA | {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
            "of type 'dynamic'; expected default, linear",
        ),
        (LLAMA | {"rope_scaling": {"rope_type": "longrope", "long_factor": [1]}}, "positions of type 'longrope'"),
        (LLAMA | {"rope_scaling": {"type": "linear"}}, "of type linear without a factor"),
        (LLAMA | {"rope_parameters": {"rope_type": "default", "factor": 2.0}}, "type default with factor; not known"),
        (LLAMA | {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5; expected 1"),
        (LLAMA | {"quantization_config": {"bits": 4}}, "quantization_config {'bits': 4}; a llama is .* with none only"),
        (LLAMA | {"logits_scaling": 8.0}, "logits_scaling 8.0; a llama is computed with 1.0 only"),
        (LLAMA | {"sliding_window": 9}, "sliding_window 9; a llama is computed with none only"),
        (MISTRAL | {"attention_bias": True}, "attention_bias True; a mistral is computed with False only"),
        (MISTRAL | {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types full_attention, sliding"),
        (QWEN2 | {"layer_types": ["chunked_attention"] * 2}, "layer_types chunked_attention, .* with sliding_window 3"),
        ({"model_type": "llama", "vocab_size": 3}, "no 'num_attention_heads'; expected the configuration of a llama"),
    ],
)
def test_configurations_that_do_not_fit(config, message):
    with pytest.raises(ValueError, match=message):
        LlamaConfig.from_hugging_face(config)


def test_sizes_that_cannot_be():
    with pytest.raises(ValueError, match="sliding layers without sliding_window"):
        LlamaConfig(sliding_layers=(0,))
    with pytest.raises(ValueError, match="sliding_layers names layer 30; expected 0 to 29"):
        LlamaConfig(sliding_layers=(30,), sliding_window=3)
    with pytest.raises(ValueError, match="scaling yarn needs original_positions"):
        RotaryConfig(scaling="yarn")
    with pytest.raises(ValueError, match="high_frequency_factor is 1.0; expected more than low_frequency_factor, 1.0"):
        RotaryConfig(high_frequency_factor=1.0)
    with pytest.raises(ValueError, match="No model type of Hugging Face has the parts of this model"):
        dataclasses.replace(CONFIG, feed_forward_bias=True).to_hugging_face()
