"""GPT-2.

Source: Radford et al. 2019, openai/gpt-2 `model.py`. Differences: queries, keys and values of all heads are one product
over all tokens of a batch; cross-attention to an encoder's states is optional (Vaswani et al. 2017).

    B texts, T tokens, N = B * T, D width, H heads, S = D / H, V vocabulary
    L slots of a cache, Q new tokens, E states of an encoder
"""

import itertools
import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from docproduct.layers import array_ops
from docproduct.layers.attention import (
    CrossAttention,
    LayerCache,
    NewRows,
    SelfAttention,
    attention_bias,
    causal_mask,
    head_width,
    new_rows,
    padding_bias,
    text_positions,
)
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.recompute import recomputed
from docproduct.layers.transformer import Blocks, FeedForward

CrossCache = tuple[Any, Any, Any]  # keys and values of an encoder's states, [B, H, E, S] each, and their bias


class GPT2Layer(keras.layers.Layer):
    """Self-attention, cross-attention if there is an encoder, and feed-forward network.

    Each of them normalizes the states, and its result is added to them.
    """

    def __init__(self, config: GPT2Config, index: int, blocks: Blocks):
        super().__init__(name=f"layer_{index}", dtype=blocks.dtype, autocast=False)  # the bias stays in float32
        scale = 1 / math.sqrt(head_width(config.width, config.num_heads)) if config.scale_attention else 1.0
        scale = scale / (index + 1) if config.scale_attention_by_layer else scale
        sizes = (config.width, config.num_heads, config.attention_dropout, blocks)
        self.attention_norm = blocks.layer_norm(config.norm_epsilon, "attention_norm")
        self.attention = SelfAttention(*sizes, "attention", scale)
        if config.cross_attention:
            self.cross_attention_norm = blocks.layer_norm(config.norm_epsilon, "cross_attention_norm")
            self.cross_attention = CrossAttention(*sizes, "cross_attention", scale)
        self.feed_forward_norm = blocks.layer_norm(config.norm_epsilon, "feed_forward_norm")
        self.feed_forward = FeedForward(
            config.width, config.feed_forward_width, config.activation, blocks, "feed_forward"
        )
        self.dropout = [blocks.dropout(config.dropout) for _ in range(3)]
        self._encoder_width = (config.encoder_width or config.width) if config.cross_attention else None

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        for layer in (self.attention_norm, self.attention, self.feed_forward_norm, self.feed_forward):
            layer.build(shape)
        if self._encoder_width:
            self.cross_attention_norm.build(shape)
            self.cross_attention.build(shape, (None, None, self._encoder_width))

    def call(self, states: Any, bias: Any, encoder: tuple[Any, Any] | None = None, training: bool = False) -> Any:
        """Reads whole texts.

        Args:
          states: [N, D].
          bias: [B, 1, T, T] float32.
          encoder: its states [B, E, D of the encoder] and the bias on them, if there is one.
          training: whether dropout is active.

        Returns:
          [N, D].
        """
        attended = self.attention(self.attention_norm(states, training=training), [bias], training=training)
        states = states + self.dropout[0](attended, training=training)
        cross = encoder and (lambda normal: self.cross_attention(normal, *encoder, training=training))
        return self._rest(states, cross, training)

    def prefill(
        self, states: Any, bias: Any, num_slots: Any, cross_cache: CrossCache | None = None
    ) -> tuple[Any, LayerCache]:
        """Reads prompts and returns their keys and values; see `SelfAttention.prefill`."""
        attended, cache = self.attention.prefill(self.attention_norm(states), bias, num_slots)
        return self._rest(states + attended, self._attend_to(cross_cache)), cache

    def decode_step(
        self, states: Any, cache: LayerCache, rows: NewRows, bias: Any, cross_cache: CrossCache | None = None
    ) -> tuple[Any, LayerCache]:
        """Reads new tokens with the cache; see `SelfAttention.decode_step`."""
        attended, cache = self.attention.decode_step(self.attention_norm(states), cache, rows, bias)
        return self._rest(states + attended, self._attend_to(cross_cache)), cache

    def _attend_to(self, cross_cache: CrossCache | None) -> Callable[[Any], Any] | None:
        return cross_cache and (lambda normal: self.cross_attention.attend(normal, *cross_cache))

    def _rest(self, states: Any, cross: Callable[[Any], Any] | None, training: bool = False) -> Any:
        """Runs what follows self-attention; `cross` attends to the encoder."""
        if cross:
            attended = cross(self.cross_attention_norm(states, training=training))
            states = states + self.dropout[1](attended, training=training)
        transformed = self.feed_forward(self.feed_forward_norm(states, training=training), training=training)
        return states + self.dropout[2](transformed, training=training)


class GPT2(keras.layers.Layer):
    """Token ids to token states, and states to logits of the next token."""

    def __init__(self, config: GPT2Config, seed: int = 0, dtype: Any = None, blocks: Blocks | None = None):
        """Makes a GPT-2 with random weights.

        Args:
          config: its sizes.
          seed: of weights and dropout.
          dtype: Keras dtype policy.
          blocks: makes its layers; default: float layers.
        """
        super().__init__(name="gpt2", dtype=dtype)
        self.config = config
        blocks = blocks or Blocks(config.initializer_range, itertools.count(1_000 * seed), dtype)
        self.token_embedding = blocks.embedding(config.vocab_size, config.width, "token_embedding")
        self.position_embedding = blocks.embedding(config.max_positions, config.width, "position_embedding")
        self.embedding_dropout = blocks.dropout(config.dropout)
        self.layers = [GPT2Layer(config, i, blocks) for i in range(config.num_layers)]
        self.final_norm = blocks.layer_norm(config.norm_epsilon, "final_norm")
        self.head = None if blocks.ties_head else blocks.dense(config.vocab_size, "head")

    def build(self, shape: Any = None) -> None:
        """Makes the variables; their shapes depend on the configuration alone."""
        del shape
        for embedding in (self.token_embedding, self.position_embedding):
            embedding.build((None,))
        for layer in [*self.layers, self.final_norm, *([] if self.head is None else [self.head])]:
            layer.build((None, self.config.width))

    def make_variables(self) -> "GPT2":
        """Makes the variables and returns the model."""
        self.build()
        return self

    def call(
        self,
        ids: Any,
        segment_ids: Any = None,
        encoder_states: Any = None,
        encoder_mask: Any = None,
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
          encoder_states: [B, E, encoder width], with cross-attention.
          encoder_mask: [B, E], 1 for a real state; default: all are real.
          training: whether dropout is active.
          recompute: whether the gradient computes each layer again, to save memory; see recompute.py.
          branch_ids: [B, T] int, for texts that begin alike and are read together; see `causal_mask`.

        Returns:
          [B, T, D] states, after the last normalization; those of padding have no meaning.
        """
        segment_ids = ops.ones_like(ids, dtype="int32") if segment_ids is None else ops.cast(segment_ids, "int32")
        encoder = self._encoder(encoder_states, encoder_mask)
        mask = causal_mask(segment_ids, branch_ids)
        states = self.embedding_dropout(self._embed(ids, text_positions(mask)), training=training)
        bias = attention_bias(mask)
        for layer in self.layers:
            run = recomputed(layer) if recompute else layer
            states = run(states, bias, encoder, training=training)
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

    def cross_caches(self, encoder_states: Any, encoder_mask: Any = None) -> list[CrossCache]:
        """Returns each layer's keys and values of an encoder's states, which are computed once for a text."""
        encoder_states, bias = self._encoder(encoder_states, encoder_mask)
        return [(*layer.cross_attention.keys_and_values(encoder_states), bias) for layer in self.layers]

    def _encoder(self, encoder_states: Any, encoder_mask: Any) -> tuple[Any, Any] | None:
        """Returns an encoder's states and the attention bias on them.

        Raises:
          ValueError: there are states without cross-attention, or cross-attention without states.
        """
        self._check_encoder(encoder_states)
        if encoder_states is None:
            return None
        if encoder_mask is None:
            encoder_mask = ops.ones(ops.shape(encoder_states)[:2], "int32")
        return encoder_states, padding_bias(encoder_mask)

    def _check_encoder(self, given: Any) -> None:
        """Raises a ValueError for states without cross-attention, or cross-attention without states."""
        if (given is not None) != self.config.cross_attention:
            raise ValueError(
                f"cross_attention is {self.config.cross_attention}, and an encoder's states are "
                f"{'missing' if given is None else 'given'}. Expected states with cross-attention only."
            )

    def prefill(
        self, ids: Any, mask: Any, num_slots: Any, cross_caches: list[CrossCache] | None = None
    ) -> tuple[Any, list[LayerCache]]:
        """Reads prompts and returns their keys and values.

        Args:
          ids: [B, T] int, prompts that end at the last column: padding stands before them.
          mask: [B, T], 1 for a real token.
          num_slots: L, slots of the caches; T or more.
          cross_caches: what `cross_caches` returned, with cross-attention.

        Returns:
          The [B, T, D] states that `call` returns, and a cache for each layer.
        """
        self._check_encoder(cross_caches)
        seen = causal_mask(ops.cast(mask, "int32"))
        states, bias = self._embed(ids, text_positions(seen)), attention_bias(seen)
        caches = []
        for layer, cross_cache in zip(self.layers, cross_caches or [None] * len(self.layers), strict=True):
            states, cache = layer.prefill(states, bias, num_slots, cross_cache)
            caches.append(cache)
        return self._finish(states, ids), caches

    def decode_step(
        self, ids: Any, padding: Any, caches: list[LayerCache], start: Any, cross_caches: list[CrossCache] | None = None
    ) -> tuple[Any, list[LayerCache]]:
        """Reads further tokens of texts whose beginnings are in the caches.

        Args:
          ids: [B, Q] int; start + Q at most L.
          padding: [B] int, slots of padding before each text.
          caches: of `prefill` or `decode_step`. They are overwritten: use the returned caches from then on.
          start: scalar int, the slot of the first new token; what stands in this slot and behind it is replaced.
          cross_caches: what `cross_caches` returned, with cross-attention.

        Returns:
          [B, Q, D] states, and the caches with the new tokens.
        """
        self._check_encoder(cross_caches)
        num_texts, num_tokens = ops.shape(ids)
        slots = start + ops.arange(num_tokens)  # [Q]
        num_slots = ops.shape(caches[0][0])[2]
        steps = ops.arange(num_slots)
        bias = attention_bias((steps >= padding[:, None])[:, None, :] & (steps <= slots[:, None]))  # [B, 1, Q, L]
        rows = new_rows(num_texts, self.config.num_heads, num_tokens, num_slots, start)
        # Proposed tokens may stand behind the window; they are never accepted there.
        positions = ops.clip(slots - padding[:, None], 0, self.config.max_positions - 1)
        states = self._embed(ids, positions)
        result = []
        for layer, cache, cross in zip(self.layers, caches, cross_caches or [None] * len(self.layers), strict=True):
            states, cache = layer.decode_step(states, cache, rows, bias, cross)
            result.append(cache)
        return self._finish(states, ids), result

    def _embed(self, ids: Any, positions: Any) -> Any:
        """[B, T] ids and positions -> [N, D]."""
        return self.token_embedding(ops.reshape(ids, (-1,))) + self.position_embedding(ops.reshape(positions, (-1,)))

    def _finish(self, states: Any, ids: Any, training: bool = False) -> Any:
        """[N, D] -> [B, T, D]."""
        return ops.reshape(self.final_norm(states, training=training), (*ops.shape(ids), self.config.width))
