"""Generation inside a graph: prompts are read once, then tokens are written one after the other, with a cache.

`Decoder.begin` reads prompts, `Decoder.advance` writes some more tokens; what passes between them is a dict of tensors,
the state, so that a caller can show a text while it grows, and stop. No length or setting needs another graph.

Greedy answers to a single prompt may be written by prompt look-up (Saxena 2023, "Prompt lookup decoding"; Leviathan et
al. 2023 for the verification): where the last tokens stand in the prompt or in the answer already, what followed them
there is proposed, and the model reads all of it in one pass. What it would have written itself is kept: the tokens are
the same, the passes fewer.

    B texts, T longest prompt, L slots, V vocabulary, S settings
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from docproduct.generation import sampling
from docproduct.generation.sampling import Sampling
from docproduct.layers.attention import LayerCache
from docproduct.layers.gpt2 import GPT2

PROPOSED = 7  # tokens in a pass of look-up, beside the last one
_NGRAMS = (3, 2)  # so many last tokens are looked up, the longest first

State = dict[str, tf.Tensor]


class Decoder:
    """Writes texts with a GPT-2.

    The state, beside each layer's keys and values (key_0, value_0, ... [B, H, L, S]):

        ids        [B, L] int32: prompt and answer; a prompt ends where the answers of all texts begin
        padding    [B] int32: slots before the prompt
        answer     scalar int32: the slot of the first token that was written
        next       scalar int32: the slot of the last one, which is not in the cache yet
        finished   [B] bool: the end token was written
        passes     scalar int32: how often the model was run since `begin`
    """

    def __init__(self, gpt2: GPT2, end_id: int, suppressed_ids: Sequence[int] = ()):
        """Takes a built model; `end_id` ends a text, `suppressed_ids` are never written."""
        self.gpt2, self.end_id, self.suppressed_ids = gpt2, end_id, list(suppressed_ids)

    def begin(
        self,
        prompt_ids: tf.Tensor,
        prompt_lengths: tf.Tensor,
        max_tokens: tf.Tensor,
        how: Sampling,
    ) -> State:
        """Reads prompts and writes the first token of each answer.

        Args:
          prompt_ids: [P, T] int32, padded behind.
          prompt_lengths: [P] int32, real tokens, 1 or more.
          max_tokens: scalar int32: slots are made for so many.
          how: tokens are chosen; with [P * n] seeds: n answers for each prompt, those of a prompt one after the other.

        Returns:
          The state; B = P * n.
        """
        longest = tf.shape(prompt_ids)[1]
        padding = longest - prompt_lengths  # [P]
        # Prompts end at the last column, so that all texts write into the same slot.
        columns = tf.range(longest) - padding[:, None]  # [P, T]
        mask = columns >= 0
        ids = tf.where(mask, tf.gather(prompt_ids, tf.maximum(columns, 0), batch_dims=1), 0)
        slots = longest + max_tokens + PROPOSED
        states, caches = self.gpt2.prefill(ids, mask, slots)
        state = {
            "ids": tf.pad(ids, [[0, 0], [0, slots - longest]]),
            "padding": padding,
        } | _named(caches)
        copies = tf.size(how.seeds) // tf.shape(ids)[0]
        state = {name: tf.repeat(part, copies, axis=0) for name, part in state.items()} | {
            "answer": longest,
            "next": longest - 1,
            "finished": tf.zeros_like(how.seeds, tf.bool),
            "passes": tf.ones([], tf.int32),
        }
        logits = self._logits(tf.repeat(states[:, -1:], copies, axis=0))
        return self._write(state, logits[:, 0], how)

    def advance(self, state: State, num_tokens: tf.Tensor, lookup: tf.Tensor, how: Sampling) -> State:
        """Writes until each answer has ended, or `num_tokens` more were written.

        Args:
          state: of `begin` or `advance`.
          num_tokens: scalar int32; there must be slots for them.
          lookup: scalar bool: prompt look-up. It acts on a single text that is written greedily without a penalty, and
            may write up to `PROPOSED` tokens more than asked for, as far as there are slots.
          how: tokens are chosen; as of `begin`.

        Returns:
          The state.
        """
        end = state["next"] + num_tokens
        lookup = (
            lookup & sampling.is_greedy(how) & tf.equal(how.repetition_penalty, 1.0) & tf.equal(tf.size(how.seeds), 1)
        )

        def unfinished(state: State) -> tf.Tensor:
            return (state["next"] < end) & ~tf.reduce_all(state["finished"])

        def step(state: State) -> State:
            return self._step(state, how)

        def step_or_verify(state: State) -> State:
            proposal, found = propose(state["ids"][0], state["next"], PROPOSED)
            return tf.cond(found, lambda: self._verify(state, proposal, how), lambda: step(state))

        def loop(body: Callable[[State], State]) -> Callable[[], State]:
            return lambda: tf.while_loop(unfinished, lambda state: [body(state)], [state], parallel_iterations=1)[0]

        return tf.cond(lookup, loop(step_or_verify), loop(step))

    def _step(self, state: State, how: Sampling) -> State:
        """Reads the last token, and writes one more."""
        last = tf.gather(state["ids"], state["next"], axis=1)[:, None]  # [B, 1]
        state, logits = self._read(state, last)
        return self._write(state, logits[:, 0], how)

    def _read(self, state: State, ids: tf.Tensor) -> tuple[State, tf.Tensor]:
        """Reads [B, Q] tokens, which stand in the state's ids from the slot of the last one on.

        Returns:
          The state, and [B, Q, V] logits behind each of them.
        """
        config = self.gpt2.config
        caches = [(state[f"key_{i}"], state[f"value_{i}"]) for i in range(config.num_layers)]
        states, caches = self.gpt2.decode_step(ids, state["padding"], caches, state["next"])
        return state | _named(caches) | {"passes": state["passes"] + 1}, self._logits(states)

    def _logits(self, states: tf.Tensor) -> tf.Tensor:
        """Returns the logits [B, Q, V] of what follows tokens with the states [B, Q, D]."""
        logits = self.gpt2.logits(states)
        if self.suppressed_ids:
            suppressed = np.isin(np.arange(logits.shape[-1]), self.suppressed_ids)  # a constant of the graph
            logits = tf.where(suppressed, sampling.NEVER, logits)
        return logits

    def _write(self, state: State, logits: tf.Tensor, how: Sampling) -> State:
        """Chooses a token for each text, [B, V] logits, and writes it behind the last one."""
        slots = tf.range(tf.shape(state["ids"])[1])
        met = (slots >= state["padding"][:, None]) & (slots <= state["next"])  # [B, L]
        logits = sampling.penalize(logits, state["ids"], met, how.repetition_penalty)
        last = tf.repeat(state["next"], tf.shape(logits)[0])
        logits = sampling.without_repeats(logits, state["ids"], state["answer"], last, how.no_repeat_ngram_size)
        step = state["next"] + 1 - state["answer"]
        tokens = tf.cond(
            sampling.is_greedy(how),
            lambda: tf.argmax(logits, axis=-1, output_type=tf.int32),
            lambda: sampling.draw(sampling.filtered(logits, how.temperature, how.top_k, how.top_p), how.seeds, step),
        )
        tokens = tf.where(state["finished"], self.end_id, tokens)
        return state | {
            "ids": tf.where(slots == state["next"] + 1, tokens[:, None], state["ids"]),
            "next": state["next"] + 1,
            "finished": state["finished"] | tf.equal(tokens, self.end_id),
        }

    def _verify(self, state: State, proposal: tf.Tensor, how: Sampling) -> State:
        """Reads the last token and what is proposed to follow, and writes what the model says as far as both agree."""
        ids, slot = state["ids"], state["next"]
        read = tf.concat([ids[:, slot], proposal], axis=0)[None]  # [1, PROPOSED + 1]
        state, logits = self._read(state | {"ids": _placed(ids, read, slot)}, read)
        texts = tf.repeat(state["ids"], PROPOSED + 1, axis=0)  # the i-th ends behind i proposals
        last = slot + tf.range(PROPOSED + 1)
        logits = sampling.without_repeats(logits[0], texts, state["answer"], last, how.no_repeat_ngram_size)
        said = tf.argmax(logits, axis=-1, output_type=tf.int32)  # [PROPOSED + 1]
        right = tf.math.cumprod(tf.cast(tf.equal(said[:-1], proposal), tf.int32))
        # Behind the first wrong proposal nothing counts, nor behind an end; and the last slots are for proposals only.
        ends = tf.cast(tf.equal(said, self.end_id), tf.int32)
        before_end = tf.math.cumprod(1 - ends, exclusive=True)
        count = tf.reduce_sum(tf.concat([[1], right], axis=0) * before_end)
        count = tf.minimum(count, tf.shape(ids)[1] - PROPOSED - 1 - slot)
        slots = tf.range(tf.shape(ids)[1])
        written = tf.gather(said, tf.clip_by_value(slots - slot - 1, 0, PROPOSED))
        new = (slots > slot) & (slots <= slot + count)
        return state | {
            "ids": tf.where(new, written, ids),
            "next": slot + count,
            "finished": tf.equal(said[count - 1], self.end_id)[None],
        }


def _placed(whole: tf.Tensor, part: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """[B, L, ...] with [B, Q, ...] in the place of what stands there from the slot `start` on."""
    columns = tf.range(tf.shape(whole)[1]) - start  # [L]: of each slot in the part
    within = (columns >= 0) & (columns < tf.shape(part)[1])
    taken = tf.gather(part, tf.where(within, columns, 0), axis=1)
    return tf.where(tf.reshape(within, [-1] + [1] * (whole.shape.rank - 2)), taken, whole)


def _named(caches: list[LayerCache]) -> State:
    """Returns keys and values of all layers as parts of the state."""
    return {f"{name}_{i}": x for i, cache in enumerate(caches) for name, x in zip(("key", "value"), cache, strict=True)}


def propose(ids: tf.Tensor, last: tf.Tensor, count: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks the last tokens of a text up in what stands before them.

    Args:
      ids: [L] int32; what stands behind `last` means nothing.
      last: scalar int32, the slot of the last token.
      count: how many tokens to propose.

    Returns:
      [count] int32, what followed the latest occurrence of the last three tokens, or of the last two; and whether there
      is one.
    """
    slots = tf.range(tf.shape(ids)[0])
    best = tf.constant(-1)
    for length in reversed(_NGRAMS):
        same = slots < last
        for back in range(length):
            shifted = tf.gather(ids, tf.maximum(slots - back, 0))
            same &= tf.equal(shifted, tf.gather(ids, tf.maximum(last - back, 0))) & (slots >= back)
        found = tf.reduce_max(tf.where(same, slots, -1))  # where the occurrence ends
        best = tf.where((found >= 0) & (last >= length - 1), found, best)
    follows = tf.clip_by_value(best + 1 + tf.range(count), 0, last)
    return tf.gather(ids, follows), best >= 0
