"""Dense layers that are fine-tuned by a product of two narrow matrices, while their own weights stay as they are.

    y = x W + b + (x A) B * alpha / rank        A: [K, rank], random; B: [rank, M], zeros at first

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models". Difference: queries, keys and values are
one product here, and share A; so do the two inner products of a gated feed-forward network.

    N tokens, K inputs, M outputs
"""

import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from data_pipeline.settings import Settings, setting
from docproduct.layers.checkpoints import variables_by_name
from docproduct.layers.transformer import Blocks

# Names of dense layers. `output` is that of attention and that of the feed-forward network.
TARGETS = {"attention": ("query_key_value",), "feed_forward": ("inner", "gate_and_inner"), "output": ("output",)}


@dataclasses.dataclass(frozen=True)
class LoraSettings(Settings):
    """Which layers have an adapter, and of what size; the help beside each field says more."""

    rank: int = setting(0, "Rank of the LoRA adapter to train instead of the model; 0: train the whole model.", least=0)
    alpha: float = setting(16.0, "The adapter's product is multiplied by alpha / rank.", above=0)
    targets: tuple[str, ...] = setting(
        tuple(TARGETS), "Dense layers with an adapter; output: those of attention and of the feed-forward network."
    )

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range or an unknown target."""
        super().__post_init__()
        if not self.targets or set(self.targets) - set(TARGETS):
            raise ValueError(f"targets is {', '.join(self.targets)!r}; expected some of {', '.join(TARGETS)}.")


class LoraDense(keras.layers.Dense):
    """A dense layer with an adapter."""

    def __init__(self, units: int, settings: LoraSettings, seed: int, **options: Any):
        """Makes the layer.

        Args:
          units: M.
          settings: rank and alpha.
          seed: of A.
          **options: see `keras.layers.Dense`.
        """
        super().__init__(units, **options)
        self.rank, self.scale, self._seed = settings.rank, settings.alpha / settings.rank, seed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes kernel, bias, A and B."""
        super().build(input_shape)
        uniform = keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform", seed=self._seed)
        self.lora_a = self.add_weight(shape=(input_shape[-1], self.rank), initializer=uniform, name="lora_a")
        self.lora_b = self.add_weight(shape=(self.rank, self.units), initializer="zeros", name="lora_b")

    def call(self, x: Any, training: bool | None = None) -> Any:
        """[N, K] -> [N, M]."""
        narrow = ops.matmul(x, self.lora_a) * self.scale  # [N, rank]
        return super().call(x, training=training) + ops.matmul(narrow, self.lora_b)

    def merged(self) -> np.ndarray:
        """Returns W + A B * alpha / rank, [K, M]."""
        kernel, a, b = (np.asarray(variable.numpy()) for variable in (self.kernel, self.lora_a, self.lora_b))
        return kernel + self.scale * (a @ b)


class LoraBlocks(Blocks):
    """Makes dense layers with adapters where the settings want them; all other weights are zeros, to be loaded.

    Attributes:
      adapted: the layers with adapters.
    """

    def __init__(self, seeds: Iterator[int], dtype: Any, settings: LoraSettings):
        super().__init__(0.0, seeds, dtype)
        self._settings, self.adapted = settings, []
        self._names = {name for target in settings.targets for name in TARGETS[target]}

    def dense(self, units: int, name: str, bias: bool = True) -> keras.layers.Layer:
        """Returns a dense layer, with an adapter if it is a target."""
        if name not in self._names:
            return super().dense(units, name, bias)
        layer = LoraDense(
            units,
            self._settings,
            next(self._seeds),
            use_bias=bias,
            kernel_initializer="zeros",
            name=name,
            dtype=self.dtype,
        )
        self.adapted.append(layer)
        return layer


def is_adapter(name: str) -> bool:
    """Returns whether the variable of this path belongs to an adapter."""
    return name.endswith(("/lora_a", "/lora_b"))


def train_adapters_only(layer: keras.layers.Layer) -> None:
    """Freezes all variables of a built model but those of its adapters."""
    for name, variable in variables_by_name(layer).items():
        variable.trainable = is_adapter(name)


def merged_weights(layer: keras.layers.Layer, adapted: Iterable[LoraDense]) -> dict[str, np.ndarray]:
    """Returns the weights of the same model without adapters, by their paths."""
    weights = {name: variable.numpy() for name, variable in variables_by_name(layer).items() if not is_adapter(name)}
    return weights | {f"{dense.path.removeprefix(f'{layer.path}/')}/kernel": dense.merged() for dense in adapted}
