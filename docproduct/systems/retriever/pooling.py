"""Pooling of token states to one vector per text, and the dense layers that some encoders add.

Source: sentence-transformers' modules Pooling and Dense; results are equal.

    B texts, T tokens, D width
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from docproduct.layers.transformer import masked_mean

# Keras activations by PyTorch's class names.
TORCH_ACTIVATIONS = {"Identity": "linear", "Tanh": "tanh", "ReLU": "relu", "Sigmoid": "sigmoid", "SiLU": "silu"}


@dataclasses.dataclass(frozen=True)
class DenseConfig:
    """A dense layer after the pooling.

    Attributes:
      units: Output width.
      activation: A Keras activation; linear for none.
      use_bias: Whether a bias is added.
    """

    units: int
    activation: str = "tanh"
    use_bias: bool = True


def _first(states: Any, mask: Any) -> Any:
    del mask
    return ops.cast(states[:, 0], "float32")


def _masked_max(states: Any, mask: Any) -> Any:
    real = ops.expand_dims(ops.cast(mask, "bool"), 2)  # [B, T, 1]
    return ops.max(ops.where(real, ops.cast(states, "float32"), float("-inf")), axis=1)


def _mean_sqrt_len(states: Any, mask: Any) -> Any:
    lengths = ops.sum(ops.cast(mask, "float32"), axis=1, keepdims=True)  # [B, 1]
    return masked_mean(states, mask) * ops.sqrt(lengths)


# (states [B, T, D], mask [B, T] with 1 for a real token) -> [B, D] float32
POOLINGS: dict[str, Callable[[Any, Any], Any]] = {
    "mean": masked_mean,
    "cls": _first,
    "max": _masked_max,
    "mean_sqrt_len": _mean_sqrt_len,
}


def dense_layers(configs: tuple[DenseConfig, ...]) -> list[keras.layers.Dense]:
    """Returns the layers, in float32."""
    return [
        keras.layers.Dense(
            config.units, config.activation, use_bias=config.use_bias, name=f"dense_{i}", dtype="float32"
        )
        for i, config in enumerate(configs)
    ]
