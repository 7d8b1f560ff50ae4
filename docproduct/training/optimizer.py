"""AdamW with warm-up and linear decay."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

# Biases and normalization have no weight decay, nor has a learned scale.
_NOT_DECAYED = ["bias", "gamma", "beta", "log_scale"]


class WarmupLinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Rises from 0 to the peak over the warm-up steps, then falls to reach 0 after the last step, in straight lines."""

    def __init__(self, peak: float, warmup_steps: int, num_steps: int):
        self.peak, self.warmup_steps, self.num_steps = peak, warmup_steps, num_steps

    def __call__(self, step: Any) -> Any:
        """Returns the learning rate of a step, counted from 0."""
        done = tf.cast(step, tf.float32) + 1.0
        rising = done / max(self.warmup_steps, 1)
        falling = (self.num_steps - done + 1.0) / max(self.num_steps - self.warmup_steps, 1)
        return self.peak * tf.maximum(tf.minimum(rising, tf.minimum(falling, 1.0)), 0.0)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps, "num_steps": self.num_steps}


def adamw(
    variables: Sequence[keras.Variable], peak: float, warmup_steps: int, num_steps: int, weight_decay: float
) -> keras.optimizers.Optimizer:
    """Returns the optimizer, built for the variables."""
    optimizer = keras.optimizers.AdamW(WarmupLinearDecay(peak, warmup_steps, num_steps), weight_decay=weight_decay)
    optimizer.exclude_from_weight_decay(var_names=_NOT_DECAYED)
    optimizer.build(variables)
    return optimizer
