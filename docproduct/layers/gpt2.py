"""GPT-2.

Source: Radford et al. 2019, openai/gpt-2 `model.py`. Differences: queries, keys and values of all heads are one product
over the whole batch of tokens; optional cross-attention to an encoder's states (Vaswani et al. 2017).

    B texts, T tokens, N = B * T, D width, H heads, S = D / H, V vocabulary, L slots of a cache
"""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from docproduct.layers import transformer
from docproduct.layers.attention import (
    Cache,
    CrossAttention,
    NewRows,
    SelfAttention,
    head_width,
    hide,
    new_rows,
    padding_bias,
    read_before,
)
from docproduct.layers.gpt2_config import GPT2Config
from docproduct.layers.recompute import recomputed
from docproduct.layers.transformer import FeedForward, LayerNorm


class GPT2Layer(keras.layers.Layer):
    """Attention and feed-forward network, each on normalized states, whose results are added to the states."""

    def __init__(
        self,
        config: GPT2Config,
        index: int,
        seeds: Iterator[int],
        dtype: Any = None,
        dense: Callable[..., keras.layers.Layer] = transformer.dense,
    ):
        super().__init__(name=f"layer_{index}", dtype=dtype, autocast=False)  # the attention bias stays in float32
        scale = 1 / math.sqrt(head_width(config.width, config.num_heads)) if config.scale_attention else 1.0
        attention = {
            "width": config.width,
            "num_heads": config.num_heads,
            "dropout": config.attention_dropout,
            "initializer_range": config.initializer_range,
            "seeds": seeds,
            "dtype": dtype,
            "scale": scale / (index + 1) if config.scale_attention_by_layer else scale,
            "dense": dense,
        }
        self.attention_norm = LayerNorm(config.norm_epsilon, "attention_norm", dtype)
        self.attention = SelfAttention(name="attention", **attention)
        if config.cross_attention:
            self.cross_attention_norm = LayerNorm(config.norm_epsilon, "cross_attention_norm", dtype)
            self.cross_attention = CrossAttention(name="cross_attention", **attention)
        self.feed_forward_norm = LayerNorm(config.norm_epsilon, "feed_forward_norm", dtype)
        self.feed_forward = FeedForward(
            config.width,
            config.feed_forward_width,
            config.activation,
            config.initializer_range,
            seeds,
            "feed_forward",
            dtype,
            dense,
        )
        self.dropout = [keras.layers.Dropout(config.dropout, seed=next(seeds), dtype=dtype) for _ in range(3)]

    def call(
        self, states: Any, attention_biases: Any, encoder: Any = None, training: bool = False, compiled: bool = False
    ) -> Any:
        """[N, D] -> [N, D]; attention_biases: one [B, 1, T, T]; encoder: its states and the bias on them, or None."""
        attended = self.attention(self.attention_norm(states, compiled=compiled), attention_biases, training=training)
        states = states + self.dropout[0](attended, training=training)
        cross = encoder and (lambda normal: self.cross_attention(normal, *encoder, training=training))
        return self._rest(states, cross, training, compiled)

    def begin(self, states: Any, bias: Any, length: Any, encoded: Any = None) -> tuple[Any, Cache]:
        """`call` without dropout that keeps keys and values; see `SelfAttention.begin`."""
        attended, cache = self.attention.begin(self.attention_norm(states), bias, length)
        return self._rest(states + attended, self._cross(encoded)), cache

    def extend(self, states: Any, cache: Cache, rows: NewRows, bias: Any, encoded: Any = None) -> tuple[Any, Cache]:
        """`call` for new tokens; see `SelfAttention.extend`."""
        attended, cache = self.attention.extend(self.attention_norm(states), cache, rows, bias)
        return self._rest(states + attended, self._cross(encoded)), cache

    def _cross(self, encoded: Any) -> Callable[[Any], Any] | None:
        return encoded and (lambda normal: self.cross_attention.attend(normal, *encoded))

    def _rest(
        self, states: Any, cross: Callable[[Any], Any] | None, training: bool = False, compiled: bool = False
    ) -> Any:
        """What comes after self-attention; `cross` attends to the encoder."""
        if cross:
            attended = cross(self.cross_attention_norm(states, compiled=compiled))
            states = states + self.dropout[1](attended, training=training)
        normal = self.feed_forward_norm(states, compiled=compiled)
        transformed = self.feed_forward(normal, training=training, compiled=compiled)
        return states + self.dropout[2](transformed, training=training)


class GPT2(keras.layers.Layer):
    """Token ids to token states, and states to logits of the next token."""

    def __init__(
        self,
        config: GPT2Config,
        seed: int = 0,
        name: str = "gpt2",
        dtype: Any = None,
        dense: Callable[..., keras.layers.Layer] = transformer.dense,
        tied_head: bool = True,
    ):
        """Makes a GPT-2 with random weights.

        Args:
          config: its sizes.
          seed: of weights and dropout.
          name: of the layer.
          dtype: Keras dtype policy.
          dense: makes the dense layers; see `transformer.dense`.
          tied_head: logits are the product with the token table, as in GPT-2; else with a dense layer that holds a copy
            of it in a form of its own.
        """
        super().__init__(name=name, dtype=dtype)
        self.config = config
        seeds = itertools.count(1_000 * seed)
        self.token_embedding = self._embedding(config.vocab_size, seeds, "token_embedding", dtype)
        self.position_embedding = self._embedding(config.max_positions, seeds, "position_embedding", dtype)
        self.embedding_dropout = keras.layers.Dropout(config.dropout, seed=next(seeds), dtype=dtype)
        self.layers = [GPT2Layer(config, i, seeds, dtype, dense) for i in range(config.num_layers)]
        self.final_norm = LayerNorm(config.norm_epsilon, "final_norm", dtype)
        self.head = None if tied_head else dense(config.vocab_size, config.initializer_range, seeds, "head", dtype)
        if self.head is not None:
            self.head.build((None, config.width))  # `call` does not run it

    def _embedding(self, rows: int, seeds: Iterator[int], name: str, dtype: Any) -> keras.layers.Embedding:
        initializer = keras.initializers.TruncatedNormal(stddev=self.config.initializer_range, seed=next(seeds))
        return keras.layers.Embedding(rows, self.config.width, initializer, name=name, dtype=dtype)

    def call(
        self,
        ids: Any,
        texts: Any = None,
        encoder_states: Any = None,
        encoder_mask: Any = None,
        training: bool = False,
        compiled: bool = False,
        recompute: bool = False,
    ) -> Any:
        """Reads texts.

        Args:
          ids: [B, T] int; T at most `config.max_positions`.
          texts: [B, T] int, the text that a token belongs to, from 1; 0 for padding, wherever it stands; None: a row is
            one text. Tokens see only their own text, and count from its beginning.
          encoder_states: [B, E, encoder width], with cross-attention.
          encoder_mask: [B, E], 1 for a real one; None: all are.
          training: whether dropout acts.
          compiled: XLA compiles what is done for each element; N must not vary much.
          recompute: whether the gradient computes each layer again instead of keeping what it needs; see recompute.py.

        Returns:
          [B, T, D] states, after the last normalization; of padding they mean nothing.
        """
        texts = ops.ones_like(ids, dtype="int32") if texts is None else ops.cast(texts, "int32")
        seen, encoder = read_before(texts), self._encoder(encoder_states, encoder_mask)
        states, bias = self.embedding_dropout(self._embed(ids, _positions(seen)), training=training), hide(seen)
        for layer in self.layers:
            run = recomputed(layer) if recompute else layer
            states = run(states, [bias], encoder, training=training, compiled=compiled)
        return self._finish(states, ids, compiled)

    def logits(self, states: Any) -> Any:
        """[..., D] -> [..., V] float32: the product with the token table."""
        flat = ops.cast(ops.reshape(states, (-1, self.config.width)), self.compute_dtype)
        if self.head is None:
            table = ops.cast(self.token_embedding.embeddings, self.compute_dtype)
            logits = ops.matmul(flat, ops.transpose(table))
        else:
            logits = self.head(flat)
        logits = ops.cast(logits, "float32")
        return ops.reshape(logits, (*ops.shape(states)[:-1], self.config.vocab_size))

    def encoded(self, encoder_states: Any, encoder_mask: Any = None) -> list[Any]:
        """Returns for each layer keys, values and bias of an encoder's states, computed once for a text; see `call`."""
        encoder_states, bias = self._encoder(encoder_states, encoder_mask)
        return [(*layer.cross_attention.keys_and_values(encoder_states), bias) for layer in self.layers]

    def _encoder(self, encoder_states: Any, encoder_mask: Any) -> tuple[Any, Any] | None:
        """Returns the states and the attention bias on them.

        Raises:
          ValueError: states without cross-attention, or cross-attention without states.
        """
        self._check_encoded(encoder_states)
        if encoder_states is None:
            return None
        if encoder_mask is None:
            encoder_mask = ops.ones(ops.shape(encoder_states)[:2], "int32")
        return encoder_states, padding_bias(encoder_mask)

    def _check_encoded(self, encoded: Any) -> None:
        """Raises a ValueError for states without cross-attention, or cross-attention without states."""
        if (encoded is not None) != self.config.cross_attention:
            raise ValueError(
                f"cross_attention is {self.config.cross_attention}, and an encoder's states are "
                f"{'missing' if encoded is None else 'given'}. Expected states with cross-attention only."
            )

    def begin(self, ids: Any, mask: Any, length: Any, encoded: list[Any] | None = None) -> tuple[Any, list[Cache]]:
        """Reads prompts and keeps their keys and values.

        Args:
          ids: [B, T] int, prompts that end at the last column: padding stands before them.
          mask: [B, T], 1 for a real token.
          length: L, slots of the cache; T or more.
          encoded: what `encoded` returned.

        Returns:
          [B, T, D] states as of `call`, and for each layer keys and values, [B, H, L, S] each.
        """
        self._check_encoded(encoded)
        seen = read_before(ops.cast(mask, "int32"))
        states, bias = self._embed(ids, _positions(seen)), hide(seen)
        caches = []
        for layer, kept in zip(self.layers, encoded or [None] * len(self.layers), strict=True):
            states, cache = layer.begin(states, bias, length, kept)
            caches.append(cache)
        return self._finish(states, ids), caches

    def extend(
        self, ids: Any, padding: Any, caches: list[Cache], start: Any, encoded: list[Any] | None = None
    ) -> tuple[Any, list[Cache]]:
        """Reads further tokens of texts whose beginnings are in the cache.

        Args:
          ids: [B, Q] int; start + Q at most the cache's L.
          padding: [B] int, how many slots before each text it does not see.
          caches: of `begin` or `extend`, which are written into; the result takes their place.
          start: scalar int, the slot of the first of them; later slots are written anew.
          encoded: what `encoded` returned.

        Returns:
          [B, Q, D] states, and the caches with the new tokens in them.
        """
        self._check_encoded(encoded)
        texts, tokens = ops.shape(ids)
        slots = start + ops.arange(tokens)  # [Q]
        length = ops.shape(caches[0][0])[2]
        steps = ops.arange(length)
        bias = hide((steps >= padding[:, None])[:, None, :] & (steps <= slots[:, None]))  # [B, 1, Q, L]
        rows = new_rows(texts, self.config.num_heads, tokens, length, start)
        # What is proposed and never counts may stand behind the window.
        positions = ops.clip(slots - padding[:, None], 0, self.config.max_positions - 1)
        states = self._embed(ids, positions)
        result = []
        for layer, cache, kept in zip(self.layers, caches, encoded or [None] * len(self.layers), strict=True):
            states, cache = layer.extend(states, cache, rows, bias, kept)
            result.append(cache)
        return self._finish(states, ids), result

    def _embed(self, ids: Any, positions: Any) -> Any:
        """[B, T] ids and positions -> [N, D]."""
        return self.token_embedding(ops.reshape(ids, (-1,))) + self.position_embedding(ops.reshape(positions, (-1,)))

    def _finish(self, states: Any, ids: Any, compiled: bool = False) -> Any:
        """[N, D] -> [B, T, D]."""
        return ops.reshape(self.final_norm(states, compiled=compiled), (*ops.shape(ids), self.config.width))


def _positions(seen: Any) -> Any:
    """[B, T, T] bool, what each token sees -> [B, T] int: a text's first token is at 0; padding is at 0, too."""
    return ops.maximum(ops.sum(ops.cast(seen, "int32"), axis=-1) - 1, 0)
