"""Initial weights that copy: what each head sees, worked out from the kernels alone, and what comes of it."""

import dataclasses

import numpy as np
import pytest
from keras import ops

from docproduct.layers.copying import can_copy, start_copying
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.systems.generator.folder import built

CONFIG = GPT2Config(
    vocab_size=2_000, width=256, num_layers=3, num_heads=4, max_positions=512, dropout=0.0, attention_dropout=0.0
)
ONCE = 100  # tokens


@pytest.fixture(scope="module")
def gpt2() -> GPT2:
    """One that copies."""
    model = built(GPT2(CONFIG, seed=1))
    start_copying(model)
    return model


def repeated(count: int = 4) -> np.ndarray:
    """Random tokens, each text twice: nothing but copying helps."""
    ids = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (count, ONCE))
    return np.concatenate([ids, ids], axis=1)  # [count, 2 ONCE]


def right(model: GPT2, ids: np.ndarray) -> np.ndarray:
    """Whether each token but the first is the likeliest behind those before it."""
    logits = ops.convert_to_numpy(model.logits(model(ids)))
    return logits[:, :-1].argmax(axis=-1) == ids[:, 1:]


def test_what_was_read_once_is_predicted(gpt2: GPT2) -> None:
    """Behind the first repeated token the others follow; of a model with random weights none does."""
    ids = repeated()
    assert right(gpt2, ids)[:, : ONCE - 1].mean() < 0.02
    assert right(gpt2, ids)[:, ONCE:].mean() > 0.95
    assert right(built(GPT2(CONFIG, seed=1)), ids)[:, ONCE:].mean() < 0.02


def test_two_tokens_decide(gpt2: GPT2) -> None:
    """Of two places that a token stood before, that one counts where the token before it is the same, too."""
    ids = repeated()
    ids[:, 20], ids[:, 40] = 7, 7  # x 7 a ... y 7 b ... x 7
    ids[:, ONCE + 20], ids[:, ONCE + 40] = 7, 7
    assert right(gpt2, ids)[:, [ONCE + 20, ONCE + 40]].mean() > 0.8


@pytest.mark.parametrize(("head", "steps"), [(0, 1), (1, 2)])
def test_heads_of_the_first_layer_see_the_tokens_before(gpt2: GPT2, head: int, steps: int) -> None:
    """At each position, worked out from tables and kernels, nearly all of the attention is `steps` back."""
    size = CONFIG.width // CONFIG.num_heads
    ids = np.random.default_rng(1).integers(0, CONFIG.vocab_size, CONFIG.max_positions)
    states = gpt2.token_embedding.embeddings.numpy()[ids] + gpt2.position_embedding.embeddings.numpy()
    states = (states - states.mean(-1, keepdims=True)) / states.std(-1, keepdims=True)
    kernel = gpt2.layers[0].attention.query_key_value.kernel.numpy()
    query, key = (kernel[:, start + head * size :][:, :size] for start in (0, CONFIG.width))
    scores = (states @ query) @ (states @ key).T / np.sqrt(size)
    scores = np.where(np.tri(len(ids), dtype=bool), scores, -np.inf)
    probs = np.exp(scores - scores.max(-1, keepdims=True))
    probs /= probs.sum(-1, keepdims=True)
    seen = np.diagonal(probs, -steps)
    assert seen.mean() > 0.8
    assert (probs.argmax(-1)[steps:] == np.arange(len(ids))[:-steps]).mean() > 0.99


def test_logits_are_as_small_as_before(gpt2: GPT2) -> None:
    """Where there is nothing to copy, the loss is that of a guess."""
    ids = repeated()[:, :ONCE]
    logits = ops.convert_to_numpy(gpt2.logits(gpt2(ids))).astype(np.float64)[:, :-1]
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, ids[:, 1:, None], -1)[..., 0]
    assert losses.mean() == pytest.approx(np.log(CONFIG.vocab_size), rel=0.05)


@pytest.mark.parametrize("changed", [{"num_layers": 1}, {"num_heads": 2}, {"width": 24}])
def test_too_small(changed: dict[str, int]) -> None:
    """A model without room for the heads says so."""
    config = dataclasses.replace(CONFIG, **changed)
    assert not can_copy(config)
    with pytest.raises(ValueError, match="expected 2 layers and 4"):
        start_copying(built(GPT2(config)))
