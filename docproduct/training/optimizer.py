"""AdamW with warm-up, and a linear or cosine decay."""

import math
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from docproduct.training.settings import COSINE, LINEAR

# Biases and normalization have no weight decay, nor has a learned scale.
_NOT_DECAYED = ["bias", "gamma", "beta", "log_scale"]


class WarmupDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from 0 to the peak over the warm-up steps in a straight line, then falls to reach 0 after the last step."""

    def __init__(self, peak: float, warmup_steps: int, num_steps: int, schedule: str = LINEAR):
        """Takes the peak, numbers of steps, and how it falls: one of `settings.SCHEDULES`."""
        self.peak, self.warmup_steps, self.num_steps, self.schedule = peak, warmup_steps, num_steps, schedule

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        done = ops.cast(step, "float32") + 1.0
        rising = done / max(self.warmup_steps, 1)
        left = (self.num_steps - done + 1.0) / max(self.num_steps - self.warmup_steps, 1)
        left = ops.clip(left, 0.0, 1.0)  # share of the steps behind the warm-up
        falling = (1.0 - ops.cos(math.pi * left)) / 2.0 if self.schedule == COSINE else left
        return self.peak * ops.minimum(rising, falling)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        names = ("peak", "warmup_steps", "num_steps", "schedule")
        return {name: getattr(self, name) for name in names}


def adamw(variables: Sequence[keras.Variable], rate: WarmupDecay, weight_decay: float) -> keras.optimizers.Optimizer:
    """Returns the optimizer, built for the variables."""
    optimizer = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    optimizer.build(variables)
    return optimizer
