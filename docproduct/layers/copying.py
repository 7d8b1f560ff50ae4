"""Initial weights with which a small GPT-2 copies from what stands before it, from its first step.

A model learns to copy with induction heads (Olsson et al. 2022, "In-context Learning and Induction Heads"): a head of
one layer writes into each token what stood before it; a head of the next looks for places that stood behind the same
tokens, and predicts what followed there. From random weights they form late, after more text than a small model on a
small machine ever reads. Here they are built, and training goes on from them. That weights begin as what training would
make of them is the idea of Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers".

    D width, H heads, S = D / H; the states' dimensions: positions [S / 2], the token 2 before [S / 2], the token before
    [S], content [D - 2 S]
"""

from typing import Any

import numpy as np

from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config

# Of the embeddings. An optimizer's step moves a weight by the learning rate: with GPT-2's 0.02 and a rate of 0.001 the
# heads' embeddings were gone after some 50 steps, and the copying with them.
_STD = 0.3
_PEAK = 6.0  # what is looked for has scores so far above the others', in nats
_FASTEST, _SLOWEST = 2.5, 2 * np.pi / 1_024  # radians per position
_WRITTEN = 3.0  # what the heads write, in _STD


def can_copy(config: GPT2Config) -> bool:
    """Returns whether there is room for the heads: two layers, four heads, S a multiple of 4."""
    return config.num_layers >= 2 and config.num_heads >= 4 and config.width // config.num_heads % 4 == 0


def start_copying(gpt2: GPT2) -> None:
    """Gives a GPT-2 with random weights those of one that copies.

    The first two layers get the heads; all other branches begin at zero, so that nothing drowns what the heads write.

    Raises:
      ValueError: there is no room, see `can_copy`.
    """
    config = gpt2.config
    if not can_copy(config):
        raise ValueError(
            f"{config.num_layers} layers of {config.num_heads} heads, width {config.width}; expected 2 layers and 4 "
            "heads or more, and heads of a multiple of 4."
        )
    width, size = config.width, config.width // config.num_heads
    half = size // 2
    position, second, first, content = np.split(np.arange(width), np.cumsum([half, half, size]))
    turns = np.geomspace(_FASTEST, _SLOWEST, half // 2)  # of each pair of sine and cosine, from position to position
    _embed(gpt2, position, turns)
    for layer in gpt2.layers:
        for branch in (layer.attention, layer.feed_forward):
            branch.output_projection.kernel.assign(np.zeros(branch.output_projection.kernel.shape))

    # Normalized states: the product of a pair of sine and cosine with itself is 2, with its neighbor's 2 cos(turn).
    before = _Heads(gpt2.layers[0].attention)
    factor = np.sqrt(_PEAK / (before.scale * 2 * np.sum(1 - np.cos(turns))))
    for head, (steps, written) in enumerate(((1, first), (2, second))):
        before.query[position, head, :half] = factor * _turned_back(steps * turns)
        before.key[position, head, :half] = factor * np.eye(half)
        before.value[content[:size], head] = np.eye(size)
        before.output[head, : len(written), written] = _WRITTEN * _STD * np.eye(len(written))
    before.assign()

    # `first` and `second` of the states have grown: normalized, what was written there and the rest have these sizes.
    norm = np.sqrt(1 + _WRITTEN**2 * (size + half) / width)
    written, rest = _WRITTEN / norm, 1 / norm
    again = _Heads(gpt2.layers[1].attention)
    one, two = (np.sqrt(_PEAK / (again.scale * half * written * asked)) for asked in (rest, written))
    for head in range(config.num_heads - 2):
        # This token stood before what is looked for,
        again.query[content[:half], head, :half] = one * np.eye(half)
        again.key[first[:half], head, :half] = one * np.eye(half)
        # and the token before this one 2 before it.
        again.query[first[:half], head, half:] = two * np.eye(half)
        again.key[second, head, half:] = two * np.eye(half)
        copied = content[head * size : (head + 1) * size]
        again.value[copied, head, :size] = np.eye(size)
        again.output[head, :size, copied] = _WRITTEN * _STD / rest * np.eye(size)
    again.assign()


def _embed(gpt2: GPT2, position: np.ndarray, turns: np.ndarray) -> None:
    """Keeps the dimensions `position` to the positions, which are sines and cosines; logits stay as they were."""
    config = gpt2.config
    growth = _STD / config.initializer_range
    tokens = growth * gpt2.token_embedding.embeddings.numpy()
    tokens[:, position] = 0
    gpt2.token_embedding.embeddings.assign(tokens)
    gpt2.final_norm.gamma.assign(np.full(config.width, 1 / growth))
    angles = np.arange(config.max_positions)[:, None] * turns
    table = np.zeros((config.max_positions, config.width))
    table[:, position] = _STD * np.sqrt(2) * np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    gpt2.position_embedding.embeddings.assign(table)


class _Heads:
    """Kernels of an attention layer by head: query, key, value [D, H, S], output [H, S, D]; scale of its scores."""

    def __init__(self, attention: Any):
        self._attention, self.scale = attention, attention.scale
        kernel = np.array(attention.query_key_value.kernel.numpy())
        kernel = kernel.reshape(len(kernel), 3, attention.num_heads, attention.head_width)
        self.query, self.key, self.value = (kernel[:, part] for part in range(3))
        output = np.array(attention.output_projection.kernel.numpy())
        self.output = output.reshape(attention.num_heads, attention.head_width, -1)

    def assign(self) -> None:
        """Writes them back."""
        kernel = np.stack([self.query, self.key, self.value], axis=1)
        self._attention.query_key_value.kernel.assign(kernel.reshape(len(kernel), -1))
        self._attention.output_projection.kernel.assign(self.output.reshape(-1, self.output.shape[-1]))


def _turned_back(angles: np.ndarray) -> np.ndarray:
    """Returns the matrix that turns rows of sines and cosines back by these angles."""
    cos, sin = np.diag(np.cos(angles)), np.diag(np.sin(angles))
    return np.block([[cos, sin], [-sin, cos]])
