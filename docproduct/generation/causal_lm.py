"""The protocol of a causal language model. Decoding, sessions and exports use nothing else of a model.

P prompts, B texts, T tokens of the longest prompt, Q new tokens, L slots of a cache, D width, V vocabulary
E states of an encoder
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf

from data_pipeline.prompts.answer_prompts import PromptSettings

Cache = dict[str, tf.Tensor]
Encoder = tuple[tf.Tensor, tf.Tensor]  # states [P, E, D of the encoder] float and mask [P, E], 1 for a real state


class Tokenizer(Protocol):
    """Texts to token ids and back."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, without any special token."""

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids; special tokens have none."""

    def decode_finished(self, ids: Iterable[int]) -> str:
        """Returns the text of ids as far as further ids cannot change it."""

    def save(self, folder: str) -> None:
        """Writes the tokenizer's files into a folder, from which the class method `load` of its class reads them.

        A session loads exports with the tokenizers that session.py names.
        """


class CausalLM(Protocol):
    """A causal language model with its tokenizer.

    Attributes:
      tokenizer: of prompts and answers.
      vocab_size: V.
      window: largest number of tokens in a prompt and its answer together.
      end_ids: tokens that end a text; the first of them fills rows that have ended.
      suppressed_ids: tokens that are never written.
      prompt: how prompts are made, if the model was trained to answer.
      chat_template: Jinja template that turns a conversation into a prompt, if the model was trained to chat.
      variables: variables of the model.
      encoder_width: width of the encoder's states that the model attends to. A model without an encoder may lack it.
      opening_bias: {token id: bias}, added to the logits of an answer's first token, unless the settings say otherwise.
        A model without any may lack it.
    """

    tokenizer: Tokenizer
    vocab_size: int
    window: int
    end_ids: Sequence[int]
    suppressed_ids: Sequence[int]
    prompt: PromptSettings | None
    chat_template: str | None
    variables: Sequence[tf.Variable]

    def cache_spec(self) -> Mapping[str, tf.TensorSpec]:
        """Returns name, shape and dtype of each tensor in a cache, such as `key_0` of the first layer.

        The first dimension is B. Of the others, those that are None are L, or E for what belongs to an encoder. A model
        that remembers nothing returns {}.
        """

    def prefill(
        self, ids: tf.Tensor, mask: tf.Tensor, num_slots: tf.Tensor, encoder: Encoder | None = None
    ) -> tuple[tf.Tensor, Cache]:
        """Reads prompts.

        Args:
          ids: [P, T] int32, prompts that end at the last column: padding comes before them.
          mask: [P, T] bool, true for a real token.
          num_slots: scalar int32, L; T or more.
          encoder: for a model with cross-attention, whose keys and values of these states are a part of the cache.

        Returns:
          [P, T, D] states, and the cache with the prompts in its first T slots.
        """

    def decode_step(
        self, ids: tf.Tensor, padding: tf.Tensor, cache: Cache, start: tf.Tensor
    ) -> tuple[tf.Tensor, Cache]:
        """Reads new tokens of texts whose beginnings are in the cache.

        Args:
          ids: [B, Q] int32; start + Q is at most L.
          padding: [B] int32, slots of padding before each text.
          cache: of `prefill` or `decode_step`. It may be overwritten: the returned one takes its place.
          start: scalar int32, the slot of the first new token; this slot and those after it are overwritten.

        Returns:
          [B, Q, D] states, and the cache with the new tokens.
        """

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """[B, Q, D] states -> [B, Q, V] float32 logits of the token after each."""

    def for_export(self, precision: str) -> "CausalLM":
        """Returns the model that an export in a precision holds: "float32" or "int8".

        Raises:
          ValueError: this model, or this machine, has no such form.
        """


@dataclasses.dataclass(frozen=True)
class SessionConfig:
    """What a session knows of a model beside its graph and its tokenizer; see `CausalLM`.

    Attributes:
      vocab_size: V.
      window: largest number of tokens in a prompt and its answer together.
      end_ids: tokens that end a text.
      cache: names of the tensors in a cache.
      prompt: how prompts are made, if the model was trained to answer.
      chat_template: Jinja template of a conversation, if the model was trained to chat.
      encoder_width: width of the encoder's states that the model attends to; None: it has no encoder.
    """

    vocab_size: int
    window: int
    end_ids: tuple[int, ...]
    cache: tuple[str, ...]
    prompt: PromptSettings | None = None
    chat_template: str | None = None
    encoder_width: int | None = None

    @classmethod
    def of(cls, model: CausalLM) -> "SessionConfig":
        """Reads them from a model."""
        fields: dict[str, Any] = {name: getattr(model, name) for name in ("vocab_size", "window", "prompt")}
        return cls(
            **fields,
            end_ids=tuple(model.end_ids),
            cache=tuple(model.cache_spec()),
            chat_template=model.chat_template,
            encoder_width=encoder_width(model),
        )


def encoder_width(model: CausalLM) -> int | None:
    """Returns the width of the encoder's states that a model attends to; None if it has no encoder."""
    return getattr(model, "encoder_width", None)


def opening_bias(model: CausalLM) -> Mapping[int, float]:
    """Returns {token id: bias}, added to the logits of an answer's first token."""
    return getattr(model, "opening_bias", {})
