"""A GPT-2 with its tokenizer as a `CausalLM`, which decoding, sessions and exports write with.

B texts, T tokens of a prompt, Q new tokens, L slots, D width, V vocabulary, H heads, S = D / H, E encoder states
"""

import copy

import tensorflow as tf

from data_pipeline.prompts.answer_prompts import ANSWER, END, QUESTION, PromptSettings
from data_pipeline.tokenizers import BytePairs
from docproduct.generation.causal_lm import Cache, Encoder
from docproduct.layers import int8, named_caches
from docproduct.layers.gpt2 import GPT2
from docproduct.layers.gpt2_int8 import quantized

_CROSS = "cross_"  # keys and values of an encoder's states


class GPT2LanguageModel:
    """A GPT-2 with its tokenizer; see `CausalLM`.

    Attributes:
      gpt2: the model, with variables.
      tokenizer: of prompts and answers.
      prompt: how prompts are made, if the model was trained to answer.
      chat_template: always None.
    """

    chat_template = None

    def __init__(self, gpt2: GPT2, tokenizer: BytePairs, prompt: PromptSettings | None = None):
        """Joins them.

        Raises:
          ValueError: the tokenizer has more ids than the model has rows.
        """
        if tokenizer.vocab_size > gpt2.config.vocab_size:
            raise ValueError(
                f"The tokenizer has {tokenizer.vocab_size} ids, the model {gpt2.config.vocab_size} rows. Give the "
                "files that the model was trained with."
            )
        self.gpt2, self.tokenizer, self.prompt = gpt2, tokenizer, prompt

    @property
    def vocab_size(self) -> int:
        """Number of logits; the tokenizer may have fewer ids."""
        return self.gpt2.config.vocab_size

    @property
    def window(self) -> int:
        """Largest number of tokens in a prompt and its answer together."""
        return self.gpt2.config.max_positions

    @property
    def end_ids(self) -> list[int]:
        """The id that ends an answer: the prompts' end marker, if the tokenizer has it."""
        return [self.tokenizer.added.get(END, self.tokenizer.end_id)]

    @property
    def suppressed_ids(self) -> list[int]:
        """The ids of the other markers, which stand in prompts only."""
        added = self.tokenizer.added
        return [added[marker] for marker in (QUESTION, ANSWER) if marker in added]

    @property
    def variables(self) -> list[tf.Variable]:
        """TensorFlow's own variables: of Keras' variables a session would restore copies."""
        return [variable.value for variable in self.gpt2.weights]

    def cache_spec(self) -> dict[str, tf.TensorSpec]:
        """Returns keys and values of each layer, [B, H, L, S]; with cross-attention the encoder's, too."""
        config, dtype = self.gpt2.config, self.gpt2.compute_dtype
        sizes = (config.num_layers, config.num_heads, config.width // config.num_heads, dtype)
        spec = named_caches.spec(*sizes)
        if config.cross_attention:
            spec |= named_caches.spec(*sizes, _CROSS) | {"cross_bias": tf.TensorSpec([None, 1, 1, None], tf.float32)}
        return spec

    def prefill(
        self, ids: tf.Tensor, mask: tf.Tensor, num_slots: tf.Tensor, encoder: Encoder | None = None
    ) -> tuple[tf.Tensor, Cache]:
        """Reads prompts; see `CausalLM.prefill`."""
        cross = self.gpt2.cross_caches(*encoder) if encoder else None
        states, caches = self.gpt2.prefill(ids, mask, num_slots, cross)
        cache = named_caches.named(caches)
        if cross:
            keys_and_values, bias = [layer[:2] for layer in cross], cross[0][2]
            cache |= named_caches.named(keys_and_values, _CROSS) | {"cross_bias": bias}
        return states, cache

    def decode_step(
        self, ids: tf.Tensor, padding: tf.Tensor, cache: Cache, start: tf.Tensor
    ) -> tuple[tf.Tensor, Cache]:
        """Reads new tokens; see `CausalLM.decode_step`."""
        config, cross = self.gpt2.config, None
        if config.cross_attention:
            layers = named_caches.by_layer(cache, config.num_layers, _CROSS)
            cross = [(*layer, cache["cross_bias"]) for layer in layers]
        caches = named_caches.by_layer(cache, config.num_layers)
        states, caches = self.gpt2.decode_step(ids, padding, caches, start, cross)
        return states, cache | named_caches.named(caches)

    def logits(self, states: tf.Tensor) -> tf.Tensor:
        """[B, Q, D] -> [B, Q, V] float32."""
        return self.gpt2.logits(states)

    def for_export(self, precision: str) -> "GPT2LanguageModel":
        """Returns the model in float32 or int8.

        Raises:
          ValueError: the model has another dtype or cross-attention, or this machine cannot compute int8.
        """
        if precision == "int8" and not int8.available():
            raise ValueError(f"int8 needs {int8.NEEDED}; this machine lacks them. Export in float32.")
        policy = self.gpt2.dtype_policy.name
        if policy != "float32":
            raise ValueError(f"The generator is in {policy}; expected float32. Load it again in float32.")
        if self.gpt2.config.cross_attention:
            raise ValueError("The generator attends to an encoder; expected one without cross-attention.")
        if precision == "float32":
            return self
        result = copy.copy(self)
        result.gpt2 = quantized(self.gpt2)
        return result
