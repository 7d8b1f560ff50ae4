"""The caches of all layers as one dict of named tensors, which a graph can pass around and a SavedModel can name.

B texts, H heads of keys and values, L slots, S width of a head
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from docproduct.layers.attention import LayerCache

_PARTS = ("key", "value")


def named(caches: Sequence[LayerCache], prefix: str = "") -> dict[str, Any]:
    """Returns keys and values of all layers by their names: key_0, value_0, key_1 ..."""
    layers = enumerate(caches)
    return {f"{prefix}{part}_{i}": x for i, cache in layers for part, x in zip(_PARTS, cache, strict=True)}


def by_layer(cache: dict[str, Any], num_layers: int, prefix: str = "") -> list[LayerCache]:
    """Returns keys and values of each layer."""
    return [tuple(cache[f"{prefix}{part}_{i}"] for part in _PARTS) for i in range(num_layers)]


def spec(num_layers: int, num_heads: int, head_width: int, dtype: Any, prefix: str = "") -> dict[str, tf.TensorSpec]:
    """Returns shape and dtype of keys and values in each layer, [B, H, L, S], by their names."""
    part = tf.TensorSpec([None, num_heads, None, head_width], dtype)
    return named([(part, part)] * num_layers, prefix)
