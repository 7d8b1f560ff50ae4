"""Gradient checkpointing: what a layer computes is not kept for its gradient, but computed again.

Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". Memory is that of one layer and of the states
between layers; a step takes about a third longer. Dropout draws the same again: its random states are set back.
"""

from collections.abc import Callable
from typing import Any

import keras


def recomputed(layer: keras.layers.Layer) -> Callable[..., Any]:
    """Returns a layer as a function (states, *others) -> states whose gradient computes it again. For TensorFlow."""
    import tensorflow as tf

    weights = {id(weight) for weight in layer.weights}
    random_states = [variable for variable in layer.variables if id(variable) not in weights]

    def run(states: Any, *others: Any, **options: Any) -> Any:
        before = [tf.identity(state.value) for state in random_states]

        @tf.recompute_grad
        def call(states: Any) -> Any:
            for state, value in zip(random_states, before, strict=True):
                state.assign(value)
            return layer(states, *others, **options)

        return call(states)

    return run
