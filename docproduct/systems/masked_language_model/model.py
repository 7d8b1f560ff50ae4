"""A BERT with the head that predicts masked tokens.

Source: Devlin et al. 2019, google-research/bert `get_masked_lm_output`: dense layer, activation, layer normalization,
product with the token table, bias. Only the states of masked tokens are projected to the vocabulary.

    B rows, T tokens, M masked tokens in all rows, D width, V token ids
"""

import itertools
from typing import Any

import keras
from keras import ops

from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.checkpoints import Source
from docproduct.layers.transformer import ACTIVATIONS, Blocks

# Names of the head's variables in Hugging Face's files and in Google's checkpoints.
HUGGING_FACE_HEAD = {
    "transform/kernel": Source(("cls.predictions.transform.dense.weight",), transpose=True),
    "transform/bias": Source(("cls.predictions.transform.dense.bias",)),
    "norm/gamma": Source(("cls.predictions.transform.LayerNorm.weight",)),
    "norm/beta": Source(("cls.predictions.transform.LayerNorm.bias",)),
    "bias": Source(("cls.predictions.bias",)),
}
GOOGLE_HEAD = {
    "transform/kernel": Source(("cls/predictions/transform/dense/kernel",)),
    "transform/bias": Source(("cls/predictions/transform/dense/bias",)),
    "norm/gamma": Source(("cls/predictions/transform/LayerNorm/gamma",)),
    "norm/beta": Source(("cls/predictions/transform/LayerNorm/beta",)),
    "bias": Source(("cls/predictions/output_bias",)),
}


class MaskedHead(keras.layers.Layer):
    """States of masked tokens to logits of the vocabulary."""

    def __init__(self, config: BertConfig, seed: int, name: str, dtype: Any = None):
        super().__init__(name=name, dtype=dtype, autocast=False)  # the bias stays in float32
        blocks = Blocks(config.initializer_range, itertools.count(1_000 * seed + 700), dtype)
        self.transform = blocks.dense(config.width, "transform")
        self.norm = blocks.layer_norm(config.norm_epsilon, "norm")
        self.activation = ACTIVATIONS[config.activation]

    def build(self, states_shape: tuple[int | None, int], table_shape: tuple[int, int]) -> None:
        """Makes the variables, with a bias [V]."""
        self.transform.build(states_shape)
        self.norm.build(states_shape)
        self.bias = self.add_weight(shape=table_shape[:1], initializer="zeros", name="bias", autocast=False)

    def call(self, states: Any, table: Any, training: bool = False) -> Any:
        """[M, D] states, [V, D] token table -> [M, V] float32."""
        states = self.norm(self.activation(self.transform(states), training), training=training)
        logits = ops.matmul(states, ops.transpose(ops.cast(table, self.compute_dtype)))
        return ops.cast(logits, "float32") + self.bias


class MaskedLanguageModel(keras.Model):
    """Predicts masked tokens."""

    def __init__(self, config: BertConfig, seed: int = 0, dtype: str = "float32"):
        """Makes a model with random weights.

        Args:
          config: The encoder's sizes.
          seed: Random seed of weights and dropout.
          dtype: Keras dtype policy, e.g. mixed_bfloat16; logits are float32.
        """
        policy = keras.DTypePolicy(dtype)
        super().__init__(name="masked_language_model", dtype=policy)
        self.config = config
        self.bert = Bert(config, seed, name="bert", dtype=policy)
        self.head = MaskedHead(config, seed, "head", policy)
        self.build()

    def build(self, shape: Any = None) -> None:
        """Makes the variables; their shapes depend on the configuration alone."""
        del shape
        self.bert.build()
        self.head.build((None, self.config.width), (self.config.vocab_size, self.config.width))

    def call(self, ids: Any, places: Any, training: bool = False) -> Any:
        """Scores the vocabulary at some tokens.

        Args:
          ids: [B, T] int, padded, with mask tokens.
          places: [M] int, the places to predict, in all rows one after the other: row * T + token.
          training: Whether dropout acts.

        Returns:
          Logits, [M, V] float32.
        """
        states = self.bert(ids, training=training)  # [B, T, D]
        states = ops.take(ops.reshape(states, (-1, self.config.width)), places, axis=0)  # [M, D]
        return self.head(states, self.bert.token_embedding.embeddings, training=training)
