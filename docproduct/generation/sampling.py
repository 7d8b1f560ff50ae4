"""The choice of the next token, inside a graph: penalty, no repeats, temperature, top-k, top-p, draw.

Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p), Keskar et al. 2019 (repetition penalty), Paulus et al.
2017 (no repeated n-grams). The order is that of Hugging Face's `generate`. All settings are tensors: other values need
no other graph.

    B texts, V vocabulary, L slots
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from data_pipeline.settings import Settings, setting

NEVER = float("-inf")  # the logit of what is filtered out; softmax makes 0 of it

_LEAST = 1e-3  # of a factor on logits: float32 holds what comes of it
_LONGEST_NGRAM = 64


@dataclasses.dataclass(frozen=True)
class GenerationSettings(Settings):
    """How a text is generated. A sample depends on its prompt, its number and these settings, on nothing else."""

    max_tokens: int = setting(100, "Longest text in tokens, its end token counted.", least=1)
    temperature: float = setting(
        0.0, "Divides the logits, so that a higher one draws more freely; 0: always the likeliest token.", least=0
    )
    top_k: int = setting(0, "Draw among the k likeliest tokens only; 0: among all.", least=0)
    top_p: float = setting(
        1.0,
        "Draw among the likeliest tokens that have this probability together; 1: among all.",
        above=0,
        most=1,
    )
    repetition_penalty: float = setting(
        1.0,
        "Above 1, tokens that have occurred, also in the prompt, are less likely; 1: no penalty.",
        least=_LEAST,
        most=1 / _LEAST,
    )
    no_repeat_ngram_size: int = setting(  # small models go round in circles; names are shorter than 8 tokens, mostly
        8,
        "No run of this many tokens is generated twice, though the prompt may be quoted; 0: any may be.",
        least=0,
        most=_LONGEST_NGRAM,
    )
    num_samples: int = setting(1, "Texts for each prompt.", least=1)
    seed: int = setting(0, "Random seed of the draws.", least=0)

    def __post_init__(self) -> None:
        """Raises a ValueError for a value that is out of range."""
        super().__post_init__()
        if self.temperature and not _LEAST <= self.temperature <= 1 / _LEAST:
            raise ValueError(
                f"temperature is {self.temperature}; expected {_LEAST} to {1 / _LEAST:g}, or 0 for the likeliest token."
            )

    def choice(self) -> dict[str, float]:
        """Returns what `Sampling` holds, but for the seeds."""
        return {name: getattr(self, name) for name in Sampling._fields if name != "seeds"}


class Sampling(NamedTuple):
    """The same inside a graph.

    Attributes:
      temperature: scalar float32.
      top_k: scalar int32.
      top_p: scalar float32.
      repetition_penalty: scalar float32.
      no_repeat_ngram_size: scalar int32.
      seeds: [B] int32.
    """

    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    repetition_penalty: tf.Tensor
    no_repeat_ngram_size: tf.Tensor
    seeds: tf.Tensor


def is_greedy(how: Sampling) -> tf.Tensor:
    """Returns a scalar bool: whether the likeliest token is always taken."""
    return tf.equal(how.temperature, 0.0) | tf.equal(how.top_k, 1)


def penalize(logits: tf.Tensor, ids: tf.Tensor, met: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """Makes tokens that were met less likely.

    Args:
      logits: [B, V] float32.
      ids: [B, L] int32.
      met: [B, L] bool, which of them count.
      penalty: scalar float32; 1 leaves all as it is.

    Returns:
      [B, V].
    """

    def penalized() -> tf.Tensor:
        rows = tf.where(met)  # [n, 2] row and slot
        places = tf.stack([tf.cast(rows[:, 0], tf.int32), tf.gather_nd(ids, rows)], axis=1)
        seen = tf.tensor_scatter_nd_update(tf.zeros_like(logits, tf.bool), places, tf.ones_like(places[:, 0], tf.bool))
        return tf.where(seen, tf.where(logits > 0, logits / penalty, logits * penalty), logits)

    return tf.cond(tf.equal(penalty, 1.0), lambda: logits, penalized)


def without_repeats(logits: tf.Tensor, ids: tf.Tensor, first: tf.Tensor, last: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Leaves out each token that would end a run of tokens that was written already.

    Args:
      logits: [B, V] float32.
      ids: [B, L] int32.
      first: scalar int32, the slot where the answers begin.
      last: [B] int32, the slot of the last token of each.
      size: scalar int32, tokens in a run; 0 leaves all as it is.

    Returns:
      [B, V], with `NEVER` where a token is left out.
    """
    size = tf.minimum(size, tf.shape(ids)[1] + 1)  # a longer run cannot be; a server's clients may send any number

    def left_out() -> tf.Tensor:
        slots = tf.range(tf.shape(ids)[1])
        back = tf.range(1, size)  # [size - 1]
        # Where a run ends at a slot, and begins like the one that the next token ends.
        before = tf.gather(ids, tf.maximum(slots[:, None] - back, 0), axis=1)  # [B, L, size - 1]
        latest = tf.gather(ids, tf.maximum(last[:, None] + 1 - back, 0), batch_dims=1)  # [B, size - 1]
        ends = tf.reduce_all(tf.equal(before, latest[:, None]), axis=-1)
        ends &= (slots - (size - 1) >= first) & (slots <= last[:, None])  # [B, L]
        rows = tf.where(ends)  # [n, 2] row and slot
        places = tf.concat([rows[:, :1], tf.cast(tf.gather_nd(ids, rows), tf.int64)[:, None]], axis=1)
        return tf.tensor_scatter_nd_update(logits, places, tf.fill(tf.shape(places)[:1], NEVER))

    return tf.cond(size > 0, left_out, lambda: logits)


def filtered(logits: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor) -> tf.Tensor:
    """Applies temperature, top-k and top-p.

    Args:
      logits: [B, V] float32.
      temperature: scalar float32, above 0.
      top_k: scalar int32; 0: all.
      top_p: scalar float32; 1: all.

    Returns:
      [B, V], with a very low logit where a token is left out. Of equal logits at the edge of top-k all stay.
    """
    logits = (logits - tf.reduce_max(logits, axis=-1, keepdims=True)) / temperature  # whatever the temperature, no inf
    size = tf.shape(logits)[-1]
    kept = tf.where(top_k > 0, tf.minimum(top_k, size), size)

    def of_top_k() -> tf.Tensor:
        lowest = tf.math.top_k(logits, kept).values[:, -1:]
        return tf.where(logits < lowest, NEVER, logits)

    logits = tf.cond(kept < size, of_top_k, lambda: logits)

    def of_top_p() -> tf.Tensor:
        best = tf.math.top_k(logits, kept).values  # [B, kept], descending; the others are out already
        probs = tf.nn.softmax(best, axis=-1)
        before = tf.cumsum(probs, axis=-1, exclusive=True)  # of all that are likelier
        lowest = tf.reduce_min(tf.where(before < top_p, best, best[:, :1]), axis=-1, keepdims=True)
        return tf.where(logits < lowest, NEVER, logits)

    return tf.cond(top_p < 1.0, of_top_p, lambda: logits)


def draw(logits: tf.Tensor, seeds: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Draws a token from the softmax of each row.

    Args:
      logits: [B, V] float32.
      seeds: [B] int32; a row's draw depends on its seed and the step, not on the other rows.
      step: scalar int32.

    Returns:
      [B] int32.
    """
    uniform = tf.map_fn(
        lambda seed: tf.random.stateless_uniform([], tf.stack([seed, step])),
        seeds,
        fn_output_signature=tf.float32,
    )
    mass = tf.cumsum(tf.nn.softmax(logits, axis=-1), axis=-1)  # [B, V]
    # The first token whose mass is above the draw: one of probability 0 adds none and is never the first.
    total = mass[:, -1:]
    target = tf.minimum(uniform[:, None] * total, tf.math.nextafter(total, tf.zeros_like(total)))  # below the total
    return tf.reduce_sum(tf.cast(mass <= target, tf.int32), axis=-1)
