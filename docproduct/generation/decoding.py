"""Decoding inside a graph: prompts are read once, then token after token is written, with a cache.

`Decoder.begin` reads prompts, and `Decoder.advance` writes some more tokens. The state that passes between them is a
dict of tensors, so that a caller can show a text while it grows, and stop. Lengths and settings are tensors, too,
so that one graph serves all values. A single text that is written greedily may use prompt look-up, see lookup.py.

    P prompts, B texts, T tokens of the longest prompt, L slots, Q tokens that are read together, V vocabulary
"""

import numpy as np
import tensorflow as tf

from docproduct.generation.causal_lm import CausalLM, Encoder, opening_bias
from docproduct.generation.lookup import NUM_PROPOSED, is_any, num_accepted, placed, propose
from docproduct.generation.sampling import (
    NEVER,
    Sampling,
    draw,
    filter_logits,
    forbid_repeats,
    is_greedy,
    penalize,
)

State = dict[str, tf.Tensor]
STATE_SPEC = {
    "ids": tf.TensorSpec([None, None], tf.int32),
    "padding": tf.TensorSpec([None], tf.int32),
    "answer": tf.TensorSpec([], tf.int32),
    "next": tf.TensorSpec([], tf.int32),
    "finished": tf.TensorSpec([None], tf.bool),
    "passes": tf.TensorSpec([], tf.int32),
}


class Decoder:
    """Writes texts with a causal language model.

    The state holds the model's cache and:

        ids        [B, L] int32: prompt and answer; the answers of all texts begin in the same slot
        padding    [B] int32: slots of padding before the prompt
        answer     scalar int32: the slot of the first token of the answers
        next       scalar int32: the slot of the last token, which is not in the cache yet
        finished   [B] bool: whether the text has ended
        passes     scalar int32: how often the model has run
    """

    def __init__(self, model: CausalLM):
        """Takes the model.

        Raises:
          ValueError: a part of its cache has the name of a part of the state.
        """
        self.model = model
        self._cache_names = list(model.cache_spec())
        if taken := STATE_SPEC.keys() & set(self._cache_names):
            raise ValueError(f"The cache has parts named {', '.join(sorted(taken))}, as the state has. Rename them.")

    def state_spec(self) -> State:
        """Returns shape and dtype of each part of the state."""
        return STATE_SPEC | dict(self.model.cache_spec())

    def begin(
        self,
        prompt_ids: tf.Tensor,
        prompt_lengths: tf.Tensor,
        max_tokens: tf.Tensor,
        sampling: Sampling,
        encoder: Encoder | None = None,
    ) -> State:
        """Reads prompts and writes the first token of each answer.

        Args:
          prompt_ids: [P, T] int32, padded at the end.
          prompt_lengths: [P] int32, numbers of real tokens, 1 or more.
          max_tokens: scalar int32, number of tokens that there will be slots for.
          sampling: how tokens are chosen. With P * n seeds, each prompt gets n consecutive answers.
          encoder: states that the model's cross-attention reads, if it has any.

        Returns:
          The state; B = P * n.
        """
        longest = tf.shape(prompt_ids)[1]
        padding = longest - prompt_lengths  # [P]
        # Prompts end at the last column, so that all texts write into the same slot.
        columns = tf.range(longest) - padding[:, None]  # [P, T]
        mask = columns >= 0
        ids = tf.where(mask, tf.gather(prompt_ids, tf.maximum(columns, 0), batch_dims=1), 0)
        num_slots = longest + max_tokens + NUM_PROPOSED
        states, cache = self.model.prefill(ids, mask, num_slots, encoder)
        by_prompt = {"ids": tf.pad(ids, [[0, 0], [0, num_slots - longest]]), "padding": padding, **cache}
        copies = tf.size(sampling.seeds) // tf.shape(ids)[0]
        state = {name: tf.repeat(part, copies, axis=0) for name, part in by_prompt.items()} | {
            "answer": longest,
            "next": longest - 1,
            "finished": tf.zeros_like(sampling.seeds, tf.bool),
            "passes": tf.ones([], tf.int32),
        }
        logits = self._logits(tf.repeat(states[:, -1:], copies, axis=0))[:, 0]
        for token, bias in opening_bias(self.model).items():
            logits += tf.where(sampling.biased, bias, 0.0) * tf.one_hot(token, self.model.vocab_size)
        return self._write(state, logits, sampling)

    def advance(self, state: State, num_tokens: tf.Tensor, lookup: tf.Tensor, sampling: Sampling) -> State:
        """Writes until every answer has ended, or `num_tokens` more tokens were written.

        Args:
          state: of `begin` or `advance`.
          num_tokens: scalar int32; the cache must have slots for them.
          lookup: scalar bool, whether to use prompt look-up. It has an effect on a single text that is written greedily
            without a penalty, and may write up to `NUM_PROPOSED` more tokens, if the cache has slots for them.
          sampling: how tokens are chosen, as in `begin`.

        Returns:
          The state.
        """
        end = state["next"] + num_tokens
        lookup &= is_greedy(sampling) & tf.equal(sampling.repetition_penalty, 1.0)
        lookup &= tf.equal(tf.size(sampling.seeds), 1)

        def unfinished(state: State) -> tf.Tensor:
            return (state["next"] < end) & ~tf.reduce_all(state["finished"])

        def step(state: State) -> list[State]:
            proposal, exists = propose(state["ids"][0], state["next"], NUM_PROPOSED)
            verify, write = (lambda: self._verify(state, proposal, sampling)), (lambda: self._step(state, sampling))
            return [tf.cond(lookup & exists, verify, write)]

        return tf.while_loop(unfinished, step, [state], parallel_iterations=1)[0]

    def _step(self, state: State, sampling: Sampling) -> State:
        """Reads the last token, and writes one more."""
        last = tf.gather(state["ids"], state["next"], axis=1)[:, None]  # [B, 1]
        state, logits = self._read(state, last)
        return self._write(state, logits[:, 0], sampling)

    def _read(self, state: State, ids: tf.Tensor) -> tuple[State, tf.Tensor]:
        """Reads [B, Q] tokens, which stand in the slots from `next` on.

        Returns:
          The state, and the [B, Q, V] logits after each token.
        """
        cache = {name: state[name] for name in self._cache_names}
        states, cache = self.model.decode_step(ids, state["padding"], cache, state["next"])
        return state | cache | {"passes": state["passes"] + 1}, self._logits(states)

    def _logits(self, states: tf.Tensor) -> tf.Tensor:
        """[B, Q, D] states -> [B, Q, V] logits, without the suppressed tokens."""
        logits = self.model.logits(states)
        if self.model.suppressed_ids:
            suppressed = np.isin(np.arange(self.model.vocab_size), self.model.suppressed_ids)  # a constant of the graph
            logits = tf.where(suppressed, NEVER, logits)
        return logits

    def _write(self, state: State, logits: tf.Tensor, sampling: Sampling) -> State:
        """Chooses a token of each text from [B, V] logits, and writes it after the last one."""
        slots = tf.range(tf.shape(state["ids"])[1])
        present = (slots >= state["padding"][:, None]) & (slots <= state["next"])  # [B, L]
        logits = penalize(logits, state["ids"], present, sampling.repetition_penalty)
        last = tf.repeat(state["next"], tf.shape(logits)[0])
        logits = forbid_repeats(logits, state["ids"], state["answer"], last, sampling.no_repeat_ngram_size)
        step = state["next"] + 1 - state["answer"]
        tokens = tf.cond(
            is_greedy(sampling),
            lambda: tf.argmax(logits, axis=-1, output_type=tf.int32),
            lambda: draw(filter_logits(logits, *sampling[:3]), sampling.seeds, step),
        )
        tokens = tf.where(state["finished"], self.model.end_ids[0], tokens)
        return state | {
            "ids": tf.where(slots == state["next"] + 1, tokens[:, None], state["ids"]),
            "next": state["next"] + 1,
            "finished": state["finished"] | is_any(tokens, self.model.end_ids),
        }

    def _verify(self, state: State, proposal: tf.Tensor, sampling: Sampling) -> State:
        """Reads the last token and the proposed tokens, and writes the model's own tokens as far as both agree."""
        ids, slot = state["ids"], state["next"]
        read = tf.concat([ids[:, slot], proposal], axis=0)[None]  # [1, NUM_PROPOSED + 1]
        state, logits = self._read(state | {"ids": placed(ids, read, slot)}, read)
        texts = tf.repeat(state["ids"], NUM_PROPOSED + 1, axis=0)  # the i-th ends after i proposed tokens
        last = slot + tf.range(NUM_PROPOSED + 1)
        logits = forbid_repeats(logits[0], texts, state["answer"], last, sampling.no_repeat_ngram_size)
        predicted_ids = tf.argmax(logits, axis=-1, output_type=tf.int32)  # [NUM_PROPOSED + 1]
        count = num_accepted(predicted_ids, proposal, self.model.end_ids)
        count = tf.minimum(count, tf.shape(ids)[1] - NUM_PROPOSED - 1 - slot)  # the last slots are for proposals only
        return state | {
            "ids": placed(ids, predicted_ids[None, :count], slot + 1),
            "next": slot + count,
            "finished": is_any(predicted_ids[count - 1 : count], self.model.end_ids),
        }
