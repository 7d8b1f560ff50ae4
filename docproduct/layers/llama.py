"""A LLaMA-style decoder: LLaMA 2 and 3, SmolLM2, Mistral, Qwen2 and Qwen3, by its configuration.

Sources: Touvron et al. 2023 ("LLaMA 2"), Dubey et al. 2024 ("The Llama 3 Herd of Models"), Jiang et al. 2023
("Mistral 7B"), Yang et al. 2025 ("Qwen3"); transformers' `modeling_llama.py`. Differences: queries, keys and values are
one product over all tokens of a batch, and so are both halves of SwiGLU; a cache holds all tokens, also those before
the window of a sliding layer.

    B texts, T tokens, N = B * T, D width, KV heads of keys and values, S width of a head, V vocabulary
    L slots of a cache, Q new tokens
"""

import itertools
from typing import Any, NamedTuple

import keras
from keras import ops

from docproduct.layers import array_ops
from docproduct.layers.attention import LayerCache, causal_mask, text_positions
from docproduct.layers.grouped_attention import Bias, GroupedAttention
from docproduct.layers.llama_config import LlamaConfig
from docproduct.layers.recompute import recomputed
from docproduct.layers.rotary import Rotation, make_rotation
from docproduct.layers.transformer import Blocks, GatedFeedForward


class Shared(NamedTuple):
    """What all layers read in one pass.

    Attributes:
      rotation: of each token.
      full: the attention bias of layers that see the whole text.
      sliding: the same for layers that see a window; None if there are none.
    """

    rotation: Rotation
    full: Bias
    sliding: Bias | None


class LlamaLayer(keras.layers.Layer):
    """Self-attention and feed-forward network; each normalizes the states, and its result is added to them."""

    def __init__(self, config: LlamaConfig, index: int, blocks: Blocks):
        super().__init__(name=f"layer_{index}", dtype=blocks.dtype, autocast=False)  # the bias stays in float32
        self.slides = index in config.sliding_layers
        self.attention_norm = blocks.rms_norm(config.norm_epsilon, "attention_norm")
        self.attention = GroupedAttention(config, blocks, "attention")
        self.feed_forward_norm = blocks.rms_norm(config.norm_epsilon, "feed_forward_norm")
        self.feed_forward = GatedFeedForward(
            config.width, config.inner_width, blocks, "feed_forward", config.feed_forward_bias
        )

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        for layer in (self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward):
            layer.build(shape)

    def call(self, states: Any, shared: Shared, training: bool = False) -> Any:
        """Reads whole texts, [N, D] -> [N, D]; `training`: whether dropout is active."""
        normal = self.attention_norm(states, training=training)
        bias = self._bias(shared)
        attended = self.attention(normal, rotation=shared.rotation, bias=bias, training=training)
        return self._feed(states + attended, training)

    def prefill(self, states: Any, shared: Shared, num_slots: Any) -> tuple[Any, LayerCache]:
        """Reads prompts and returns their keys and values; see `GroupedAttention.prefill`."""
        normal = self.attention_norm(states)
        attended, cache = self.attention.prefill(normal, shared.rotation, self._bias(shared), num_slots)
        return self._feed(states + attended), cache

    def decode_step(self, states: Any, shared: Shared, cache: LayerCache, slots: Any) -> tuple[Any, LayerCache]:
        """Reads new tokens with the cache; see `GroupedAttention.decode_step`."""
        normal = self.attention_norm(states)
        attended, cache = self.attention.decode_step(normal, shared.rotation, cache, slots, self._bias(shared))
        return self._feed(states + attended), cache

    def _bias(self, shared: Shared) -> Bias:
        return shared.sliding if self.slides else shared.full

    def _feed(self, states: Any, training: bool = False) -> Any:
        return states + self.feed_forward(self.feed_forward_norm(states, training=training), training=training)


class Llama(keras.layers.Layer):
    """Token ids to token states, and states to logits of the next token."""

    def __init__(self, config: LlamaConfig, seed: int = 0, dtype: Any = None, blocks: Blocks | None = None):
        """Makes a decoder with random weights.

        Args:
          config: its sizes and parts.
          seed: of weights and dropout.
          dtype: Keras dtype policy.
          blocks: makes its layers; default: float layers.
        """
        super().__init__(name="llama", dtype=dtype)
        self.config = config
        blocks = blocks or Blocks(config.initializer_range, itertools.count(1_000 * seed), dtype)
        self.token_embedding = blocks.embedding(config.vocab_size, config.width, "token_embedding")
        self.layers = [LlamaLayer(config, i, blocks) for i in range(config.num_layers)]
        self.final_norm = blocks.rms_norm(config.norm_epsilon, "final_norm")
        tied = config.ties_head and blocks.ties_head
        self.head = None if tied else blocks.dense(config.vocab_size, "head", bias=False)

    def build(self, shape: Any = None) -> None:
        """Makes the variables; their shapes depend on the configuration alone."""
        del shape
        self.token_embedding.build((None,))
        for layer in [*self.layers, self.final_norm, *([] if self.head is None else [self.head])]:
            layer.build((None, self.config.width))

    def make_variables(self) -> "Llama":
        """Makes the variables and returns the model."""
        self.build()
        return self

    def call(
        self,
        ids: Any,
        segment_ids: Any = None,
        training: bool = False,
        recompute: bool = False,
        branch_ids: Any = None,
    ) -> Any:
        """Reads texts.

        Args:
          ids: [B, T] int; T at most `config.max_positions`.
          segment_ids: [B, T] int, the number of the text that a token belongs to, from 1; 0 for padding, wherever it
            stands. Tokens attend to their own text only, and positions count from its first token. Default: each row
            is one text.
          training: whether dropout is active.
          recompute: whether the gradient computes each layer again, to save memory; see recompute.py.
          branch_ids: [B, T] int, for texts that begin alike and are read together; see `causal_mask`.

        Returns:
          [B, T, D] states, after the last normalization; those of padding have no meaning.
        """
        segment_ids = ops.ones_like(ids, dtype="int32") if segment_ids is None else ops.cast(segment_ids, "int32")
        states, shared = self._embed(ids), self._of_texts(causal_mask(segment_ids, branch_ids))
        for layer in self.layers:
            run = recomputed(layer) if recompute else layer
            states = run(states, shared=shared, training=training)
        return self._finish(states, ids, training)

    def logits(self, states: Any) -> Any:
        """[..., D] -> [..., V] float32."""
        flat = ops.cast(ops.reshape(states, (-1, self.config.width)), self.compute_dtype)
        if self.head is None:
            table = ops.cast(self.token_embedding.embeddings, self.compute_dtype)
            # A transposed copy would take as long as all layers.
            logits = array_ops.matmul(flat, table, transpose_b=True)
        else:
            logits = self.head(flat)
        logits = ops.cast(logits, "float32")
        return ops.reshape(logits, (*ops.shape(states)[:-1], self.config.vocab_size))

    def prefill(self, ids: Any, mask: Any, num_slots: Any) -> tuple[Any, list[LayerCache]]:
        """Reads prompts and returns their keys and values.

        Args:
          ids: [B, T] int, prompts that end at the last column: padding stands before them.
          mask: [B, T], 1 for a real token.
          num_slots: L, slots of the caches; T or more.

        Returns:
          The [B, T, D] states that `call` returns, and a cache for each layer.
        """
        states, shared = self._embed(ids), self._of_texts(causal_mask(ops.cast(mask, "int32")))
        caches = []
        for layer in self.layers:
            states, cache = layer.prefill(states, shared, num_slots)
            caches.append(cache)
        return self._finish(states, ids), caches

    def decode_step(self, ids: Any, padding: Any, caches: list[LayerCache], start: Any) -> tuple[Any, list[LayerCache]]:
        """Reads further tokens of texts whose beginnings are in the caches.

        Args:
          ids: [B, Q] int; start + Q at most L.
          padding: [B] int, slots of padding before each text.
          caches: of `prefill` or `decode_step`. They are overwritten: use the returned caches from then on.
          start: scalar int, the slot of the first new token; what stands in this slot and behind it is replaced.

        Returns:
          [B, Q, D] states, and the caches with the new tokens.
        """
        num_texts, num_tokens = ops.shape(ids)
        num_slots = ops.shape(caches[0][0])[2]
        heads = ops.arange(num_texts * self.config.num_key_value_heads)
        slots = start + ops.arange(num_tokens)  # [Q]
        shared = self._of_slots(slots, padding, num_slots)
        rows = ops.reshape(heads[:, None] * num_slots + slots, (-1,))  # [B * KV * Q]
        states, result = self._embed(ids), []
        for layer, cache in zip(self.layers, caches, strict=True):
            states, cache = layer.decode_step(states, shared, cache, rows)
            result.append(cache)
        return self._finish(states, ids), result

    def _of_texts(self, mask: Any) -> Shared:
        """Returns what the layers share in whole texts, from their causal mask [B, T, T]."""
        positions = text_positions(mask)  # [B, T]
        return self._shared(positions, mask, positions[:, None, :], positions[:, :, None])

    def _of_slots(self, slots: Any, padding: Any, num_slots: Any) -> Shared:
        """Returns what the layers share for new tokens in `slots`, [Q], of texts behind some padding, [B]."""
        columns = ops.arange(num_slots)
        mask = (columns >= padding[:, None])[:, None, :] & (columns <= slots[:, None])  # [B, Q, L]
        # Proposed tokens may stand behind the window; they are never accepted there.
        positions = ops.clip(slots - padding[:, None], 0, self.config.max_positions - 1)  # [B, Q]
        return self._shared(positions, mask, columns, slots[:, None])

    def _shared(self, positions: Any, mask: Any, keys: Any, queries: Any) -> Shared:
        """Joins rotations and biases; `keys` and `queries` are numbered alike, and broadcast to the mask's shape."""
        config, sliding = self.config, None
        rotation = make_rotation(config.rotary, config.head_width, ops.reshape(positions, (-1,)), self.compute_dtype)
        if config.sliding_layers:
            sliding = Bias.of(mask & (keys > queries - config.sliding_window))
        return Shared(rotation, Bias.of(mask), sliding)

    def _embed(self, ids: Any) -> Any:
        """[B, T] ids -> [N, D]."""
        return self.token_embedding(ops.reshape(ids, (-1,)))

    def _finish(self, states: Any, ids: Any, training: bool = False) -> Any:
        """[N, D] -> [B, T, D]."""
        return ops.reshape(self.final_norm(states, training=training), (*ops.shape(ids), self.config.width))
