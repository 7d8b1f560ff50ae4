"""How the next token is chosen, inside a graph: penalty, no repeats, temperature, top-k, top-p, draw.

Sources: Fan et al. 2018 (top-k), Holtzman et al. 2020 (top-p), Keskar et al. 2019 (repetition penalty), Paulus et al.
2017 (no repeated n-grams). The order is that of Hugging Face's `generate`. All settings are tensors, so that one
graph serves all values.

    B texts, V vocabulary, L slots
"""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from data_pipeline.settings import Settings, setting

NEVER = float("-inf")  # logit of an excluded token, whose probability is 0
_LEAST = 1e-3  # smallest factor on logits; float32 holds the results


@dataclasses.dataclass(frozen=True)
class GenerationSettings(Settings):
    """How answers are written.

    Attributes:
      biased: Whether the model's `opening_bias` is added, which was fitted on prompts with sources; not for others.
    """

    max_tokens: int = setting(100, "Maximum tokens of an answer, including its end token.", least=1)
    temperature: float = setting(
        0.0,
        "Divides the logits: above 1 answers vary more, below 1 less. 0: always the likeliest token.",
        least=0,
        most=1 / _LEAST,
    )
    top_k: int = setting(0, "Choose among this number of likeliest tokens; 0: all.", least=0)
    top_p: float = setting(
        1.0, "Choose among the likeliest tokens that together have this probability; 1: all.", above=0, most=1
    )
    repetition_penalty: float = setting(
        1.0,
        "Above 1, tokens of the prompt and of the answer so far become less likely; 1: no penalty.",
        least=_LEAST,
        most=1 / _LEAST,
    )
    no_repeat_ngram_size: int = setting(  # most names are shorter than 8 tokens
        8,
        "An answer never repeats an n-gram of this many tokens; quoting the prompt is allowed. 0: no limit.",
        least=0,
        most=64,
    )
    num_samples: int = setting(1, "Number of answers to each prompt.", least=1)
    seed: int = setting(
        0, "Random seed of sampling. For a given prompt, the i-th answer depends only on the seed.", least=0
    )

    biased: bool = True

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of its bounds."""
        super().__post_init__()
        if 0 < self.temperature < _LEAST:
            raise ValueError(
                f"temperature is {self.temperature}; expected {_LEAST} to {1 / _LEAST:g}, or 0 for the likeliest token."
            )

    def choice(self) -> dict[str, float | bool]:
        """Returns the fields of `Sampling`, without the seeds."""
        return {name: getattr(self, name) for name in Sampling._fields if name != "seeds"}


class Sampling(NamedTuple):
    """The settings of a choice inside a graph; see `GenerationSettings`.

    Attributes:
      temperature: scalar float32.
      top_k: scalar int32.
      top_p: scalar float32.
      repetition_penalty: scalar float32.
      no_repeat_ngram_size: scalar int32.
      biased: scalar bool.
      seeds: [B] int32.
    """

    temperature: tf.Tensor
    top_k: tf.Tensor
    top_p: tf.Tensor
    repetition_penalty: tf.Tensor
    no_repeat_ngram_size: tf.Tensor
    biased: tf.Tensor
    seeds: tf.Tensor


def is_greedy(sampling: Sampling) -> tf.Tensor:
    """Returns a scalar bool: whether the likeliest token is always taken."""
    return tf.equal(sampling.temperature, 0.0) | tf.equal(sampling.top_k, 1)


def penalize(logits: tf.Tensor, ids: tf.Tensor, present: tf.Tensor, penalty: tf.Tensor) -> tf.Tensor:
    """Makes the tokens of a text less likely.

    Args:
      logits: [B, V] float32.
      ids: [B, L] int32.
      present: [B, L] bool, which of the ids belong to the text.
      penalty: scalar float32, divides positive logits and multiplies negative ones; 1 changes nothing.

    Returns:
      [B, V].
    """

    def penalized() -> tf.Tensor:
        rows = tf.where(present)  # [n, 2] row and slot
        places = tf.stack([tf.cast(rows[:, 0], tf.int32), tf.gather_nd(ids, rows)], axis=1)
        seen = tf.tensor_scatter_nd_update(tf.zeros_like(logits, tf.bool), places, tf.ones_like(places[:, 0], tf.bool))
        return tf.where(seen, tf.where(logits > 0, logits / penalty, logits * penalty), logits)

    return tf.cond(tf.equal(penalty, 1.0), lambda: logits, penalized)


def forbid_repeats(logits: tf.Tensor, ids: tf.Tensor, first: tf.Tensor, last: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Excludes each token that would complete an n-gram which the answer already holds.

    Args:
      logits: [B, V] float32.
      ids: [B, L] int32.
      first: scalar int32, the slot where the answers begin.
      last: [B] int32, the slot of each answer's last token.
      size: scalar int32, tokens of an n-gram; 0 excludes nothing.

    Returns:
      [B, V], with `NEVER` for excluded tokens.
    """
    size = tf.minimum(size, tf.shape(ids)[1] + 1)  # no n-gram is longer; clients of a server may send any number

    def excluded() -> tf.Tensor:
        slots = tf.range(tf.shape(ids)[1])
        back = tf.range(1, size)  # [size - 1]
        # Slots that end an n-gram whose first size - 1 tokens equal the last tokens of the answer.
        before = tf.gather(ids, tf.maximum(slots[:, None] - back, 0), axis=1)  # [B, L, size - 1]
        latest = tf.gather(ids, tf.maximum(last[:, None] + 1 - back, 0), batch_dims=1)  # [B, size - 1]
        ends = tf.reduce_all(tf.equal(before, latest[:, None]), axis=-1)
        ends &= (slots - (size - 1) >= first) & (slots <= last[:, None])  # [B, L]
        rows = tf.where(ends)  # [n, 2] row and slot
        places = tf.concat([rows[:, :1], tf.cast(tf.gather_nd(ids, rows), tf.int64)[:, None]], axis=1)
        return tf.tensor_scatter_nd_update(logits, places, tf.fill(tf.shape(places)[:1], NEVER))

    return tf.cond(size > 0, excluded, lambda: logits)


def filter_logits(logits: tf.Tensor, temperature: tf.Tensor, top_k: tf.Tensor, top_p: tf.Tensor) -> tf.Tensor:
    """Applies temperature, top-k and top-p.

    Args:
      logits: [B, V] float32.
      temperature: scalar float32, above 0.
      top_k: scalar int32; 0: all.
      top_p: scalar float32; 1: all.

    Returns:
      [B, V], with `NEVER` for tokens that are left out. Tokens that tie with the k-th likeliest all stay.
    """
    logits = (logits - tf.reduce_max(logits, axis=-1, keepdims=True)) / temperature  # no overflow at any temperature
    vocab_size = tf.shape(logits)[-1]
    count = tf.where(top_k > 0, tf.minimum(top_k, vocab_size), vocab_size)

    def of_top_k() -> tf.Tensor:
        lowest = tf.math.top_k(logits, count).values[:, -1:]
        return tf.where(logits < lowest, NEVER, logits)

    logits = tf.cond(count < vocab_size, of_top_k, lambda: logits)

    def of_top_p() -> tf.Tensor:
        best = tf.math.top_k(logits, count).values  # [B, count], descending; the others are left out already
        probs = tf.nn.softmax(best, axis=-1)
        likelier = tf.cumsum(probs, axis=-1, exclusive=True)  # probability of all likelier tokens
        lowest = tf.reduce_min(tf.where(likelier < top_p, best, best[:, :1]), axis=-1, keepdims=True)
        return tf.where(logits < lowest, NEVER, logits)

    return tf.cond(top_p < 1.0, of_top_p, lambda: logits)


def draw(logits: tf.Tensor, seeds: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
    """Draws a token from the softmax of each row.

    Args:
      logits: [B, V] float32.
      seeds: [B] int32; a row's draw depends on its seed and the step, not on other rows.
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
    # The first token whose mass is above the draw: a token of probability 0 adds none and is never the first.
    total = mass[:, -1:]
    target = tf.minimum(uniform[:, None] * total, tf.math.nextafter(total, tf.zeros_like(total)))  # below the total
    return tf.reduce_sum(tf.cast(mass <= target, tf.int32), axis=-1)
