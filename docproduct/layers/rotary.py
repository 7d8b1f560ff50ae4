"""Rotary position embeddings, and the scalings that stretch them to longer texts.

Sources: Su et al. 2021 ("RoFormer"); Chen et al. 2023 (linear scaling); Peng et al. 2023 ("YaRN"); Llama 3.1's scaling
as in transformers' `modeling_rope_utils.py`. The two numbers that are rotated together stand half a head apart, as in
Hugging Face's weights.

    N tokens, H heads, S width of a head
"""

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from data_pipeline.settings import Settings, setting

NONE, LINEAR, LLAMA3, YARN = SCALINGS = ("none", "linear", "llama3", "yarn")


@dataclasses.dataclass(frozen=True)
class RotaryConfig(Settings):
    """How fast each pair of numbers turns; the help beside each field says what it does."""

    theta: float = setting(10_000.0, "Base of the wavelengths.", above=1)
    scaling: str = setting(NONE, "How the wavelengths are stretched.", choices=SCALINGS)
    factor: float = setting(1.0, "Scaling: stretches wavelengths by this factor.", above=0)
    original_positions: int | None = setting(None, "llama3, yarn: window before it was stretched.", least=1)
    low_frequency_factor: float = setting(1.0, "llama3: wavelengths above window / this are stretched.", above=0)
    high_frequency_factor: float = setting(4.0, "llama3: wavelengths below window / this stay.", above=0)
    beta_fast: float = setting(32.0, "yarn: what turns more often within the window stays.", above=0)
    beta_slow: float = setting(1.0, "yarn: what turns less often within the window is stretched.", above=0)
    truncate: bool = setting(True, "yarn: whether the limits are rounded to whole pairs.")
    attention_factor: float = setting(1.0, "yarn: factor on cosine and sine.", above=0)

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of its bounds, or a scaling without its window."""
        super().__post_init__()
        if self.scaling in (LLAMA3, YARN) and self.original_positions is None:
            raise ValueError(f"The scaling {self.scaling} needs original_positions, the window before it.")
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise ValueError(
                f"high_frequency_factor is {self.high_frequency_factor}; expected more than low_frequency_factor, "
                f"{self.low_frequency_factor}."
            )


class Rotation(NamedTuple):
    """Cosine and sine of the angles of some tokens, the same for all layers.

    Attributes:
      cos: [N, 1, S].
      sin: [N, 1, S], negative in its first half.
    """

    cos: Any
    sin: Any


def frequencies(config: RotaryConfig, head_width: int) -> np.ndarray:
    """Returns the angle by which each pair of numbers turns from one position to the next, [S / 2] float32."""
    # In float32 as transformers does: at position 10,000 a rounding error of 1e-7 is an angle of 1e-3.
    exponents = np.arange(0, head_width, 2, dtype=np.float32) / np.float32(head_width)
    plain = 1 / np.power(np.float32(config.theta), exponents)
    scale = {NONE: lambda config, plain: plain, LINEAR: _linear, LLAMA3: _llama3, YARN: _yarn}[config.scaling]
    return scale(config, plain).astype(np.float32)


def _linear(config: RotaryConfig, plain: np.ndarray) -> np.ndarray:
    return plain / np.float32(config.factor)


def _llama3(config: RotaryConfig, plain: np.ndarray) -> np.ndarray:
    """Stretches long wavelengths, keeps short ones, and interpolates between them."""
    low, high = config.low_frequency_factor, config.high_frequency_factor
    turns = config.original_positions / (2 * math.pi / plain)  # within the window
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return (1 - keep) * plain / np.float32(config.factor) + keep * plain


def _yarn(config: RotaryConfig, plain: np.ndarray) -> np.ndarray:
    """Stretches slow pairs, keeps fast ones, and interpolates between the pairs of beta_fast and beta_slow turns."""
    width = 2 * len(plain)

    def pair_of(turns: float) -> float:
        """Returns the number of the pair that turns so often within the window."""
        return width * math.log(config.original_positions / (turns * 2 * math.pi)) / (2 * math.log(config.theta))

    first, last = pair_of(config.beta_fast), pair_of(config.beta_slow)
    if config.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    last = last + 0.001 if first == last else last  # as transformers avoids a division by 0
    stretched = np.clip((np.arange(len(plain), dtype=np.float32) - first) / (last - first), 0, 1)
    return plain / np.float32(config.factor) * stretched + plain * (1 - stretched)


def yarn_attention_factor(factor: float, numerator: float = 1.0, denominator: float = 0.0) -> float:
    """Returns YaRN's factor on cosine and sine; `numerator` and `denominator` are DeepSeek's mscale, mscale_all_dim."""

    def magnitude(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0

    return magnitude(numerator) / magnitude(denominator)


def make_rotation(config: RotaryConfig, head_width: int, positions: Any, dtype: Any) -> Rotation:
    """Returns cosine and sine for the positions of tokens, [N] int."""
    angles = ops.cast(positions, "float32")[:, None] * frequencies(config, head_width)  # [N, S / 2]
    cos, sin = (f(angles) * config.attention_factor for f in (ops.cos, ops.sin))
    both = ops.concatenate([cos, cos], axis=-1), ops.concatenate([-sin, sin], axis=-1)
    return Rotation(*(ops.cast(x, dtype)[:, None, :] for x in both))


def rotate(heads: Any, rotation: Rotation) -> Any:
    """Rotates queries or keys, [N, H, S], by the angles of their positions."""
    return heads * rotation.cos + ops.roll(heads, heads.shape[-1] // 2, axis=-1) * rotation.sin
