"""Initial weights that copy: what each head sees, worked out from the kernels alone, and what comes of it."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from docproduct.layers.attention import hide, read_before
from docproduct.layers.copying import can_copy, start_copying
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator.folder import built

CONFIG = GPT2Config(
    vocab_size=2_000, width=256, num_layers=3, num_heads=4, max_positions=512, dropout=0.0, attention_dropout=0.0
)
SMALL = dataclasses.replace(CONFIG, width=128)
ONCE = 100  # tokens
BEGIN = 0  # begins every text


def copying(config: GPT2Config, dtype: str = "float32") -> GPT2:
    """Returns one that copies."""
    model = built(GPT2(config, seed=1, dtype=dtype))
    start_copying(model, [BEGIN])
    return model


@pytest.fixture(scope="module")
def gpt2() -> GPT2:
    """One that copies."""
    return copying(CONFIG)


def repeated(seed: int = 0) -> np.ndarray:
    """Random tokens, each text twice: nothing but copying helps; [4, 1 + 2 ONCE]."""
    ids = np.random.default_rng(seed).integers(1, CONFIG.vocab_size, (4, ONCE))
    return np.concatenate([np.full((4, 1), BEGIN), ids, ids], axis=1)


def losses(model: GPT2, ids: np.ndarray) -> np.ndarray:
    """[B, T] ids -> [B, T - 1] nats, of each token behind those before it."""
    logits = model.logits(model(ids))[:, :-1]
    return tf.nn.sparse_softmax_cross_entropy_with_logits(ids[:, 1:], logits).numpy()


def right(model: GPT2, ids: np.ndarray) -> np.ndarray:
    """Whether each token but the first is the likeliest behind those before it; [B, T - 1]."""
    logits = model.logits(model(ids)).numpy()
    return logits[:, :-1].argmax(axis=-1) == ids[:, 1:]


def attention_of(layer: keras.layers.Layer, head: int, states: np.ndarray) -> np.ndarray:
    """Worked out from the kernels: [T, D] states of a text -> [T, T] probabilities."""
    size = CONFIG.width // CONFIG.num_heads
    states = (states - states.mean(-1, keepdims=True)) / states.std(-1, keepdims=True)
    states = np.concatenate([states, np.ones((len(states), 1))], axis=1)  # the bias is one more row of the kernel
    dense = layer.attention.query_key_value
    kernel = np.concatenate([dense.kernel.numpy(), dense.bias.numpy()[None]])
    query, key = (kernel[:, start + head * size :][:, :size] for start in (0, CONFIG.width))
    scores = (states @ query) @ (states @ key).T / np.sqrt(size)
    scores = np.where(np.tri(len(states), dtype=bool), scores, -np.inf)
    probs = np.exp(scores - scores.max(-1, keepdims=True))
    return probs / probs.sum(-1, keepdims=True)


def embedded(model: GPT2, ids: np.ndarray) -> np.ndarray:
    """[T] ids -> [T, D] states."""
    return model.token_embedding.embeddings.numpy()[ids] + model.position_embedding.embeddings.numpy()[: len(ids)]


def after_the_first_layer(model: GPT2, ids: np.ndarray) -> np.ndarray:
    """[T] ids -> [T, D] states."""
    bias = hide(read_before(np.ones((1, len(ids)), int)))
    return model.layers[0](embedded(model, ids), [bias]).numpy()


@pytest.mark.parametrize(
    ("changed", "dtype"),
    [
        ({}, "float32"),
        ({}, "mixed_bfloat16"),
        ({"width": 128}, "float32"),
        ({"num_heads": 8}, "float32"),
        ({"scale_attention": False}, "float32"),
        ({"scale_attention_by_layer": True}, "float32"),
    ],
)
def test_what_was_read_once_is_predicted(changed: dict[str, int], dtype: str) -> None:
    """Behind the first repeated tokens the others follow; of a model with random weights none does."""
    config = dataclasses.replace(CONFIG, **changed)
    found = right(copying(config, dtype), repeated())
    assert found[:, :ONCE].mean() < 0.02
    assert found[:, ONCE + 2 :].mean() > 0.9
    assert right(built(GPT2(config, seed=1)), repeated())[:, ONCE:].mean() < 0.02


def test_two_tokens_decide(gpt2: GPT2) -> None:
    """Of two places that a token stood before, that one counts where the token before it is the same, too."""
    ids = repeated()
    places = np.array([20, 40, ONCE + 20, ONCE + 40])
    ids[:, places] = 7  # x 7 a ... y 7 b ... x 7
    assert right(gpt2, ids)[:, places[2:]].mean() > 0.8


@pytest.mark.parametrize(("head", "steps"), [(0, 1), (1, 2)])
def test_heads_of_the_first_layer_see_the_tokens_before(gpt2: GPT2, head: int, steps: int) -> None:
    """At each position nearly all of the attention is `steps` back."""
    ids = np.random.default_rng(1).integers(0, CONFIG.vocab_size, CONFIG.max_positions)
    seen = np.diagonal(attention_of(gpt2.layers[0], head, embedded(gpt2, ids)), -steps)
    assert seen.mean() > 0.95


def test_heads_of_the_second_layer_see_what_followed(gpt2: GPT2) -> None:
    """In a repeated text nearly all of the attention is on the place behind the first one of the same two tokens."""
    states = after_the_first_layer(gpt2, repeated()[0])
    for head in range(CONFIG.num_heads - 2):
        seen = np.diagonal(attention_of(gpt2.layers[1], head, states), 1 - ONCE)
        assert seen[3:].mean() > 0.9


def test_heads_that_find_nothing_rest_on_the_first_token(gpt2: GPT2) -> None:
    """They read nothing there: it has no content."""
    states = after_the_first_layer(gpt2, repeated()[0])
    assert not states[0, CONFIG.width // CONFIG.num_heads * 2 :].any()
    for head in range(CONFIG.num_heads - 2):
        seen = attention_of(gpt2.layers[1], head, states)[:, 0]
        assert seen[10:ONCE].mean() > 0.7
        assert seen[ONCE + 3 :].mean() < 0.15


def test_nothing_else_is_added_to_the_states(gpt2: GPT2) -> None:
    """A layer behind the second changes nothing; positions have dimensions of their own."""
    states = np.random.default_rng(0).normal(size=(10, CONFIG.width)).astype("float32")
    bias = hide(read_before(np.ones((1, 10), int)))
    np.testing.assert_array_equal(gpt2.layers[2](states, [bias]), states)
    tokens, positions = gpt2.token_embedding.embeddings.numpy(), gpt2.position_embedding.embeddings.numpy()
    assert not (np.abs(tokens).sum(axis=0) * np.abs(positions).sum(axis=0)).any()


def test_logits_are_about_as_small_as_before(gpt2: GPT2) -> None:
    """Where there is nothing to copy, the loss is that of a guess."""
    assert losses(gpt2, repeated()[:, : ONCE + 1]).mean() == pytest.approx(np.log(CONFIG.vocab_size), rel=0.02)


def test_training_goes_on_from_them() -> None:
    """After some steps of Adam on texts of which one in four repeats itself, new ones are copied."""
    model, optimizer = copying(SMALL), keras.optimizers.Adam(1e-3)
    rng = np.random.default_rng(2)

    @tf.function
    def step(ids: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            logits = model.logits(model(ids))[:, :-1]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(ids[:, 1:], logits))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    for _ in range(100):
        ids = rng.zipf(1.3, (4, 65)) % CONFIG.vocab_size
        ids[0, 33:] = ids[0, 1:33]
        step(tf.constant(ids, tf.int32))
    ids = np.tile(rng.zipf(1.3, (16, ONCE)) % CONFIG.vocab_size, 2)
    found = losses(model, ids)
    assert found[:, ONCE + 1 :].mean() < found[:, :ONCE].mean() - 0.4


@pytest.mark.parametrize("changed", [{"num_layers": 1}, {"num_heads": 2}, {"width": 64}, {"width": 136}])
def test_too_small(changed: dict[str, int]) -> None:
    """A model without room for the heads says so."""
    config = dataclasses.replace(CONFIG, **changed)
    assert not can_copy(config)
    with pytest.raises(ValueError, match="expected 2 layers and 4"):
        start_copying(built(GPT2(config)))
