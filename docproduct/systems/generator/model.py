"""A decoder with its tokenizer as a `CausalLM`, which decoding, sessions and exports write with.

B texts, T tokens of a prompt, Q new tokens, L slots, D width, V vocabulary, KV heads of keys and values, S width of a
head, E encoder states
"""

import copy

import tensorflow as tf

from data_pipeline.prompts.answer_prompts import ANSWER, END, QUESTION, PromptSettings
from data_pipeline.prompts.chat_prompts import REFUSAL
from data_pipeline.tokenizers import CausalTokenizer
from docproduct.generation.causal_lm import Cache, Encoder
from docproduct.layers import int8, named_caches
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.llama import Llama
from docproduct.layers.quantized import quantized

Decoder = GPT2 | Llama

_CROSS = "cross_"  # keys and values of an encoder's states


class LanguageModel:
    """A decoder with its tokenizer; see `CausalLM`.

    Attributes:
      decoder: the model, with variables.
      tokenizer: of prompts and answers.
      prompt: how prompts are made, if the model was trained to answer.
      chat_template: Jinja template of a conversation, if the model was trained to chat.
      refusal_bias: added to the logit of the refusal's first token where an answer begins; see refusal.py.
    """

    refusal_bias = 0.0

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: CausalTokenizer,
        prompt: PromptSettings | None = None,
        chat_template: str | None = None,
    ):
        """Joins them.

        Raises:
          ValueError: the tokenizer has more ids than the model has rows.
        """
        if tokenizer.vocab_size > decoder.config.vocab_size:
            raise ValueError(
                f"The tokenizer has {tokenizer.vocab_size} ids, the model {decoder.config.vocab_size} rows. Give the "
                "files that the model was trained with."
            )
        self.decoder, self.tokenizer, self.prompt, self.chat_template = decoder, tokenizer, prompt, chat_template

    @property
    def vocab_size(self) -> int:
        """Number of logits; the tokenizer may have fewer ids."""
        return self.decoder.config.vocab_size

    @property
    def window(self) -> int:
        """Largest number of tokens in a prompt and its answer together."""
        return self.decoder.config.max_positions

    @property
    def end_ids(self) -> list[int]:
        """The ids that end an answer: the prompts' end marker if the tokenizer has it, else the tokenizer's own."""
        added = self.tokenizer.added
        return [added[END]] if END in added else list(self.tokenizer.end_ids)

    @property
    def suppressed_ids(self) -> list[int]:
        """The ids of the other markers, which stand in prompts only."""
        added = self.tokenizer.added
        return [added[marker] for marker in (QUESTION, ANSWER) if marker in added]

    @property
    def refusal_id(self) -> int:
        """Id of the refusal's first token."""
        return self.tokenizer.encode([REFUSAL])[0][0]

    @property
    def opening_bias(self) -> dict[int, float]:
        """{token id: bias}, added to the logits of an answer's first token."""
        return {self.refusal_id: self.refusal_bias} if self.refusal_bias else {}

    @property
    def encoder_width(self) -> int | None:
        """Width of the encoder's states that the model attends to; None: it has no encoder."""
        config = self.decoder.config
        return (config.encoder_width or config.width) if config.cross_attention else None

    @property
    def variables(self) -> list[tf.Variable]:
        """TensorFlow's own variables: of Keras' variables a session would restore copies."""
        return [variable.value for variable in self.decoder.weights]

    @property
    def precisions(self) -> tuple[str, ...]:
        """What the model can be exported in, on a machine that can compute it."""
        return ("float32",) if self.encoder_width else ("float32", "int8")

    @property
    def fastest_precision(self) -> str:
        """What to export in by default: int8 if this machine computes it exactly, else float32."""
        return "int8" if "int8" in self.precisions and int8.available() else "float32"

    def cache_spec(self) -> dict[str, tf.TensorSpec]:
        """Returns keys and values of each layer, [B, KV, L, S]; with cross-attention the encoder's, too."""
        config, dtype = self.decoder.config, self.decoder.compute_dtype
        sizes = (config.num_layers, config.num_key_value_heads, config.head_width, dtype)
        spec = named_caches.spec(*sizes)
        if config.cross_attention:
            spec |= named_caches.spec(*sizes, _CROSS) | {"cross_bias": tf.TensorSpec([None, 1, 1, None], tf.float32)}
        return spec

    def prefill(
        self, ids: tf.Tensor, mask: tf.Tensor, num_slots: tf.Tensor, encoder: Encoder | None = None
    ) -> tuple[tf.Tensor, Cache]:
        """Reads prompts; see `CausalLM.prefill`."""
        if not encoder:
            states, caches = self.decoder.prefill(ids, mask, num_slots)
            return states, named_caches.named(caches)
        cross = self.decoder.cross_caches(*encoder)
        states, caches = self.decoder.prefill(ids, mask, num_slots, cross)
        keys_and_values, bias = [layer[:2] for layer in cross], cross[0][2]
        of_encoder = named_caches.named(keys_and_values, _CROSS) | {"cross_bias": bias}
        return states, named_caches.named(caches) | of_encoder

    def decode_step(
        self, ids: tf.Tensor, padding: tf.Tensor, cache: Cache, start: tf.Tensor
    ) -> tuple[tf.Tensor, Cache]:
        """Reads new tokens; see `CausalLM.decode_step`."""
        config, cross = self.decoder.config, ()
        if config.cross_attention:
            layers = named_caches.by_layer(cache, config.num_layers, _CROSS)
            cross = ([(*layer, cache["cross_bias"]) for layer in layers],)
        caches = named_caches.by_layer(cache, config.num_layers)
        states, caches = self.decoder.decode_step(ids, padding, caches, start, *cross)
        return states, cache | named_caches.named(caches)

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """[B, Q, D] -> [B, Q, V] float32."""
        return self.decoder.logits(states)

    def for_export(self, precision: str) -> "LanguageModel":
        """Returns the model in float32 or int8.

        Raises:
          ValueError: the model has another dtype, or it or this machine has no int8 form.
        """
        if precision not in self.precisions:
            raise ValueError("int8 is for a generator without an encoder; this one attends to one. Export in float32.")
        if precision == "int8" and not int8.available():
            raise ValueError(f"int8 needs {int8.NEEDED}; this machine lacks them. Export in float32.")
        policy = self.decoder.dtype_policy.name
        if policy != "float32":
            raise ValueError(f"The generator is in {policy}; expected float32. Load it again in float32.")
        if precision == "float32":
            return self
        result = copy.copy(self)
        result.decoder = quantized(self.decoder)
        return result
