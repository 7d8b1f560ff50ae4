"""The bi-encoder: one BERT for questions and answers, and a feed-forward head for each.

Source: DocProduct (2019). Deviations: the mean is taken over real tokens, and heads start as the identity. losses.py
holds the training objective.

    B texts in a batch, T tokens, D width
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from data_pipeline.settings import Settings, setting
from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.transformer import dense
from docproduct.systems.retriever.pooling import POOLINGS, DenseConfig, dense_layers

HEADS = ("residual", "plain", "none")


@dataclasses.dataclass(frozen=True)
class RetrieverConfig(Settings):
    """Architecture of a retriever; the help beside each field says what it means."""

    bert: BertConfig
    pooling: str = setting(
        "mean",
        "mean (over real tokens), cls (the first token's state), max (over real tokens), or mean_sqrt_len (the sum "
        "over the square root of the number of tokens).",
        choices=tuple(POOLINGS),
    )
    max_tokens: int = setting(256, "Maximum tokens of a text, including [CLS] and [SEP].")
    head: str = setting(
        "residual",
        "residual (starts as the identity), plain (dense layers from random weights) or none.",
        choices=HEADS,
    )
    head_width: int | None = setting(None, "Width inside a head; default: that of the encoder.", least=1)
    head_depth: int = setting(1, "Blocks of a residual head, or hidden layers of a plain one.", least=1)
    head_dropout: float = setting(0.1, "Dropout inside the heads.")
    matryoshka_dims: tuple[int, ...] = setting((), "Shorter lengths that the vectors were trained for.")
    dense: tuple[DenseConfig, ...] = ()  # layers between the pooling and the heads

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range, or that does not fit the encoder."""
        super().__post_init__()
        if not 3 <= self.max_tokens <= self.bert.max_positions:
            raise ValueError(
                f"max_tokens is {self.max_tokens}; expected 3 to {self.bert.max_positions}, the positions of this BERT."
            )
        if any(not 1 <= dims <= self.width for dims in self.matryoshka_dims):
            raise ValueError(f"matryoshka_dims are {self.matryoshka_dims}; expected 1 to {self.width}, the width.")

    @property
    def width(self) -> int:
        """Number of components of a vector."""
        return self.dense[-1].units if self.dense else self.bert.width


class ResidualHead(keras.layers.Layer):
    """`depth` times x + output(dropout(relu(inner(x)))), in float32; the identity until it is trained.

    DocProduct's head had one dense layer before the relu. Started at zero, such a head never learns, as the gradient of
    a relu is zero there; a second dense layer, of zeros, gives the identity and learns.
    """

    def __init__(self, config: "RetrieverConfig", seeds: Iterator[int], name: str):
        super().__init__(name=name, dtype="float32")
        d, inner = config.width, config.head_width or config.width
        # The variables of the first block have no number, as most heads have depth 1.
        endings = ["", *(f"_{i}" for i in range(1, config.head_depth))]
        self.inner = [dense(inner, 0.02, seeds, f"inner{ending}", "float32") for ending in endings]
        self.dropout = [keras.layers.Dropout(config.head_dropout, seed=next(seeds), dtype="float32") for _ in endings]
        self.output_projection = [
            keras.layers.Dense(d, kernel_initializer="zeros", name=f"output{ending}", dtype="float32")
            for ending in endings
        ]

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        for inner, output in zip(self.inner, self.output_projection, strict=True):
            inner.build(shape)
            output.build((None, inner.units))

    def call(self, x: Any, training: bool = False) -> Any:
        """[B, D] -> [B, D]."""
        for inner, dropout, output in zip(self.inner, self.dropout, self.output_projection, strict=True):
            x = x + output(dropout(ops.relu(inner(x)), training=training))
        return x


class PlainHead(keras.layers.Layer):
    """`depth` dense layers with relu and dropout, then one to the output, in float32, from random weights."""

    def __init__(self, config: "RetrieverConfig", seeds: Iterator[int], name: str):
        super().__init__(name=name, dtype="float32")
        d, inner = config.width, config.head_width or config.width

        def layer(units: int, name: str) -> keras.layers.Dense:
            initializer = keras.initializers.GlorotUniform(seed=next(seeds))
            return keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype="float32")

        self.inner = [layer(inner, f"inner_{i}") for i in range(config.head_depth)]
        self.dropout = [
            keras.layers.Dropout(config.head_dropout, seed=next(seeds), dtype="float32") for _ in self.inner
        ]
        self.output_projection = layer(d, "output")

    def build(self, shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        for layer in (*self.inner, self.output_projection):
            layer.build(shape)
            shape = (None, layer.units)

    def call(self, x: Any, training: bool = False) -> Any:
        """[B, D] -> [B, D]."""
        for inner, dropout in zip(self.inner, self.dropout, strict=True):
            x = dropout(ops.relu(inner(x)), training=training)
        return self.output_projection(x)


class NoHead(keras.layers.Layer):
    """The identity: both sides have the encoder's own vectors."""

    def __init__(self, config: "RetrieverConfig", seeds: Iterator[int], name: str):
        del config, seeds
        super().__init__(name=name, dtype="float32")

    def call(self, x: Any, training: bool = False) -> Any:
        """[B, D] -> [B, D]."""
        del training
        return x


_HEAD_LAYERS = {"residual": ResidualHead, "plain": PlainHead, "none": NoHead}


class Retriever(keras.Model):
    """Encodes questions and answers as unit vectors; their dot product is the score."""

    def __init__(self, config: RetrieverConfig, seed: int = 0, dtype: str = "float32"):
        """Makes a retriever with random weights.

        Args:
          config: Its architecture.
          seed: Random seed of weights and dropout.
          dtype: Keras dtype policy of the encoder, e.g. mixed_bfloat16; pooling, heads and vectors are float32.
        """
        super().__init__(name="retriever")
        self.config = config
        self.bert = Bert(config.bert, seed, name="bert", dtype=keras.DTypePolicy(dtype))
        self.dense = dense_layers(config.dense)
        seeds = itertools.count(1_000 * seed + 500)
        self.question_head = _HEAD_LAYERS[config.head](config, seeds, "question_head")
        self.answer_head = _HEAD_LAYERS[config.head](config, seeds, "answer_head")
        self.build()

    def build(self, shape: Any = None) -> None:
        """Makes the variables; their shapes depend on the configuration alone."""
        del shape
        self.bert.build()
        width = self.config.bert.width
        for layer in self.dense:
            layer.build((None, width))
            width = layer.units
        for head in (self.question_head, self.answer_head):
            head.build((None, width))

    def call(self, question_ids: Any, answer_ids: Any, training: bool = False) -> tuple[Any, Any]:
        """Encodes both sides in one pass, each padded to its own length.

        Args:
          question_ids: [B, T] int, padded, or a list of such groups of similar length.
          answer_ids: The same for answers; their number may differ.
          training: Whether dropout acts.

        Returns:
          Question vectors and answer vectors, [B, D] float32, unit norm; the groups one after the other.
        """
        sides = [ids if isinstance(ids, (list, tuple)) else [ids] for ids in (question_ids, answer_ids)]
        pooled = self.pool([*sides[0], *sides[1]], training)
        num_questions = sum(ops.shape(ids)[0] for ids in sides[0])
        return self.heads(pooled[:num_questions], pooled[num_questions:], training)

    def heads(self, pooled_questions: Any, pooled_answers: Any, training: bool = False) -> tuple[Any, Any]:
        """Returns the vectors to compare, from those that `pool` returned: [B, D] each -> [B, D] each, unit norm."""
        questions = self.question_head(pooled_questions, training=training)
        return unit(questions), unit(self.answer_head(pooled_answers, training=training))

    def encode_question(self, question_ids: Any, training: bool = False) -> Any:
        """[B, T] int, padded -> [B, D] float32, unit norm."""
        return unit(self.question_head(self.pool(question_ids, training), training=training))

    def encode_answer(self, answer_ids: Any, training: bool = False) -> Any:
        """[B, T] int, padded -> [B, D] float32, unit norm."""
        return unit(self.answer_head(self.pool(answer_ids, training), training=training))

    def pool(self, ids: Any, training: bool = False) -> Any:
        """Returns the encoder's own vectors, before a head: [B, T] int, or groups of them -> [B, D] float32."""
        groups = ids if isinstance(ids, (list, tuple)) else [ids]
        # A frozen encoder runs without dropout, as in serving.
        states = self.bert(groups, training=training and self.bert.trainable)
        pooling = POOLINGS[self.config.pooling]
        pooled = [pooling(group, self.bert.mask(ids)) for group, ids in zip(states, groups, strict=True)]
        vectors = ops.concatenate(pooled, axis=0)
        for layer in self.dense:
            vectors = layer(vectors)
        return vectors

    def freeze_encoder(self) -> None:
        """Freezes all but the heads."""
        for layer in (self.bert, *self.dense):
            layer.trainable = False


def unit(vectors: Any) -> Any:
    """[B, D] -> [B, D] of norm 1."""
    return ops.normalize(vectors, axis=-1)
