"""Initial weights with which a small GPT-2 copies from what stands before it, from its first step.

A model learns to copy with induction heads (Olsson et al. 2022, "In-context Learning and Induction Heads"): a head of
one layer writes into each token what stood before it; a head of the next looks for places that stood behind the same
tokens, and predicts what followed there. From random weights they form late, after more text than a small model on a
small machine ever reads. Here they are built, and training goes on from them. That weights begin as what training would
make of them is the idea of Trockman and Kolter 2023, "Mimetic Initialization of Self-Attention Layers". Where there is
nothing to copy, the heads rest on the token that a text begins with, and read nothing there (an attention sink, Xiao et
al. 2024, "Efficient Streaming Language Models with Attention Sinks"); without it they would copy whatever is a little
alike, and training would blunt them.

    D width, H heads, S = D / H; the dimensions of the states: positions [S / 2], the token two back [S / 2], the token
    one back [S], content [D - 2 S]

Made for widths of some hundred: what is copied weighs the more, the wider the model.
"""

from collections.abc import Sequence

import numpy as np

from docproduct.layers.attention import SelfAttention
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_config import GPT2Config

# Standard deviation of the embeddings. A step of Adam moves a weight by about the learning rate: with GPT-2's 0.02 and
# a rate of 0.001, what the heads look for was gone within some hundred steps, and the copying with it.
_STD = 0.3
_PEAK = 6.0  # nats that a score has more: one position beside its neighbor, one matching token beside others
_REST = 8.0  # nats of the token that a text begins with: less than two matching tokens, more than the best of others
_WRITTEN = 3.0  # what the heads write, in _STD
_FASTEST, _SLOWEST = 2.5, 2 * np.pi / 1_024  # radians a position: neighbors differ, and those far apart do
_LEAST_HEAD = 32  # S; of smaller ones, the first layer's heads do not find their position


def can_copy(config: GPT2Config) -> bool:
    """Returns whether a model can: 2 layers and 4 heads or more, S a multiple of 4, and 32 or more."""
    size = config.width // config.num_heads
    return config.num_layers >= 2 and config.num_heads >= 4 and size >= _LEAST_HEAD and size % 4 == 0


def start_copying(gpt2: GPT2, first_tokens: Sequence[int] = ()) -> None:
    """Gives a GPT-2 with random weights those of one that copies.

    The first two layers get the heads; what layers add to the states is zero elsewhere, so that nothing drowns what the
    heads write. Logits stay about as small as they were.

    Args:
      gpt2: the model.
      first_tokens: ids that texts begin with, such as the end token: their embeddings have no content.

    Raises:
      ValueError: it is too small, see `can_copy`.
    """
    config = gpt2.config
    if not can_copy(config):
        raise ValueError(
            f"{config.num_layers} layers of {config.num_heads} heads, width {config.width}; expected 2 layers and 4 "
            f"heads or more, and heads of a multiple of 4, {_LEAST_HEAD} or more."
        )
    size = config.width // config.num_heads
    position, two_back, one_back, content = np.split(np.arange(config.width), np.cumsum([size // 2, size // 2, size]))
    turns = np.geomspace(_FASTEST, _SLOWEST, size // 4)  # of each pair of sine and cosine
    _embed(gpt2, position, turns)
    _silence(gpt2, len(position), one_back[size // 2 :], first_tokens)
    for layer in gpt2.layers:
        branches = [layer.attention, layer.feed_forward, *([layer.cross_attention] if config.cross_attention else [])]
        for branch in branches:
            kernel = branch.output_projection.kernel
            kernel.assign(np.zeros(kernel.shape, "float32"))
    _build_previous_token_heads(gpt2.layers[0].attention, position, content, (one_back, two_back), turns)
    _build_induction_heads(gpt2.layers[1].attention, position, content, one_back, two_back)


def _embed(gpt2: GPT2, position: np.ndarray, turns: np.ndarray) -> None:
    """Keeps the dimensions `position` to the positions, which are sines and cosines."""
    tokens = gpt2.token_embedding.embeddings.numpy()  # [V, D]
    growth = _STD / tokens.std()
    tokens = growth * tokens
    tokens[:, position] = 0
    gpt2.token_embedding.embeddings.assign(tokens)
    gpt2.final_norm.gamma.assign(np.full(gpt2.config.width, 1 / growth))
    angles = np.arange(gpt2.config.max_positions)[:, None] * turns  # [positions, S / 4]
    table = np.zeros((gpt2.config.max_positions, gpt2.config.width))
    table[:, position] = _STD * np.sqrt(2) * np.concatenate([np.sin(angles), np.cos(angles)], axis=1) * _signs(position)
    gpt2.position_embedding.embeddings.assign(table)


def _silence(gpt2: GPT2, num_positions: int, unread: np.ndarray, first_tokens: Sequence[int]) -> None:
    """Leaves of the first tokens' embeddings what no head reads, in the length that others have.

    Were they zero, their positions would be all of their states: normalized, the loudest of all.
    """
    tokens = gpt2.token_embedding.embeddings.numpy()
    for first in first_tokens:
        kept = tokens[first, unread]
        tokens[first] = 0
        tokens[first, unread] = kept * _STD * np.sqrt(tokens.shape[1] - num_positions) / np.linalg.norm(kept)
    gpt2.token_embedding.embeddings.assign(tokens)


def _signs(position: np.ndarray) -> np.ndarray:
    """Returns [S / 2] of 1 and -1, by which cosines of 0 have a mean of 0: normalization takes means away."""
    return np.tile((-1.0) ** np.arange(len(position) // 2), 2)


def _build_previous_token_heads(
    attention: SelfAttention,
    position: np.ndarray,
    content: np.ndarray,
    backs: tuple[np.ndarray, np.ndarray],
    turns: np.ndarray,
) -> None:
    """Makes two heads: one writes the content of the token one back, one that of the token two back, into `backs`."""
    heads, half, size = _Heads(attention, len(backs)), len(position), attention.head_width
    # The states are normalized: a pair of sine and cosine times itself is 2, times its neighbor 2 cos(turn).
    factor = np.sqrt(_PEAK / (attention.scale * 2 * np.sum(1 - np.cos(turns))))
    for head, back in enumerate(backs):
        heads.query[position, head, :half] = factor * _turned_back((head + 1) * turns)  # [S / 2, S / 2]
        heads.key[position, head, :half] = factor * np.eye(half)
        heads.value[content[:size], head] = np.eye(size)
        heads.output[head][: len(back), back] = _WRITTEN * _STD * np.eye(len(back))
    heads.assign()


def _build_induction_heads(
    attention: SelfAttention, position: np.ndarray, content: np.ndarray, one_back: np.ndarray, two_back: np.ndarray
) -> None:
    """Makes H - 2 heads, which copy S dimensions of the content each."""
    count, half, size = attention.num_heads - 2, len(two_back), attention.head_width
    heads = _Heads(attention, count)
    width = len(content) + 2 * size
    # What was written has grown the states: normalized, it and the rest have these deviations.
    norm = np.sqrt(1 + _WRITTEN**2 * (len(one_back) + len(two_back)) / width)
    written, rest = _WRITTEN / norm, 1 / norm
    # One dimension of a head is kept for the first token.
    compared = ((half, rest), (half - 1, written))
    own, previous = (np.sqrt(_PEAK / (attention.scale * dims * written * asked)) for dims, asked in compared)
    # The first token, which nothing is written into, has S / 4 cosines of 1 (times the square root of 2).
    cosines, signs = position[half // 2 :], _signs(position)[half // 2 :]
    at_first = np.sqrt(_REST / (attention.scale * len(cosines) * np.sqrt(2)))
    for head in range(count):
        # This token stands one before what is looked for,
        heads.query[content[:half], head, :half] = own * np.eye(half)
        heads.key[one_back[:half], head, :half] = own * np.eye(half)
        # and the token one back stands two before it.
        heads.query[one_back[: half - 1], head, half:-1] = previous * np.eye(half - 1)
        heads.key[two_back[:-1], head, half:-1] = previous * np.eye(half - 1)
        # Whatever this token is, the first one is worth as much.
        heads.query_bias[head, -1] = at_first
        heads.key[cosines, head, -1] = at_first * signs
        copied = content[head * size :][:size]
        heads.value[copied, head] = np.eye(size)
        heads.output[head][:, copied] = _WRITTEN * _STD / rest * np.eye(size)
    heads.assign()


class _Heads:
    """Kernels of an attention layer by head: query, key, value [D, H, S], query_bias [H, S], output [H, S, D]."""

    def __init__(self, attention: SelfAttention, count: int):
        """Reads them; `count` heads get zeros for the random numbers they have."""
        self._attention = attention
        kernel = np.array(attention.query_key_value.kernel.numpy())
        kernel = kernel.reshape(len(kernel), 3, attention.num_heads, attention.head_width)
        kernel[:, :, :count] = 0
        self.query_bias = np.zeros(kernel.shape[2:])
        self.query, self.key, self.value = (kernel[:, part] for part in range(3))
        output = np.array(attention.output_projection.kernel.numpy())
        self.output = output.reshape(attention.num_heads, attention.head_width, -1)

    def assign(self) -> None:
        """Writes them back."""
        kernel = np.stack([self.query, self.key, self.value], axis=1)
        self._attention.query_key_value.kernel.assign(kernel.reshape(len(kernel), -1))
        bias = np.concatenate([self.query_bias.reshape(-1), np.zeros(2 * self.query_bias.size)])
        self._attention.query_key_value.bias.assign(bias)
        self._attention.output_projection.kernel.assign(self.output.reshape(-1, self.output.shape[-1]))


def _turned_back(angles: np.ndarray) -> np.ndarray:
    """Returns the matrix that turns rows of sines and cosines back by these angles."""
    cos, sin = np.diag(np.cos(angles)), np.diag(np.sin(angles))
    return np.block([[cos, sin], [-sin, cos]])
