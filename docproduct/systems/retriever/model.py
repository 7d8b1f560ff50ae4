"""The bi-encoder: one BERT for questions and answers, and a feed-forward head for each.

Source: DocProduct (2019); in-batch softmax as in Karpukhin et al. 2020 (DPR). Deviations from DocProduct: the mean is
taken over real tokens, heads start as the identity, the loss comes from logits over unit vectors, and equal texts are
no negatives of each other.

    B pairs in a batch (of one replica), C candidates (the pairs of all replicas), T tokens, D width
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
from keras import ops

from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.transformer import dense, masked_mean

POOLINGS = ("mean", "cls")


@dataclasses.dataclass(frozen=True)
class RetrieverConfig:
    """What a retriever is.

    Attributes:
      bert: sizes of the encoder.
      pooling: mean (over real tokens) or cls (the first token's state).
      max_tokens: longest text that is encoded, [CLS] and [SEP] counted.
      head_dropout: rate inside the heads.
      scale: factor on the cosines before the softmax.
    """

    bert: BertConfig
    pooling: str = "mean"
    max_tokens: int = 256
    head_dropout: float = 0.1
    scale: float = 20.0

    def __post_init__(self) -> None:
        """Raises a ValueError for an impossible setting."""
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling is {self.pooling!r}; expected {' or '.join(POOLINGS)}.")
        if not 3 <= self.max_tokens <= self.bert.max_positions:
            raise ValueError(
                f"max_tokens is {self.max_tokens}; expected 3 to {self.bert.max_positions}, the positions of this BERT."
            )
        if self.scale <= 0:
            raise ValueError(f"scale is {self.scale}; expected more than 0.")


class FeedForwardHead(keras.layers.Layer):
    """x + output(dropout(relu(inner(x)))), in float32; the identity until it is trained.

    DocProduct's head had one dense layer before the relu. Started at zero, such a head never learns, as the gradient of
    a relu is zero there; a second dense layer, of zeros, gives the identity and learns.
    """

    def __init__(self, width: int, dropout: float, seeds: Iterator[int], name: str):
        super().__init__(name=name, dtype="float32")
        self.inner = dense(width, 0.02, seeds, "inner", "float32")
        self.dropout = keras.layers.Dropout(dropout, seed=next(seeds), dtype="float32")
        self.output_projection = keras.layers.Dense(width, kernel_initializer="zeros", name="output", dtype="float32")

    def call(self, x: Any, training: bool = False) -> Any:
        """[B, D] -> [B, D]."""
        return x + self.output_projection(self.dropout(ops.relu(self.inner(x)), training=training))


class Retriever(keras.Model):
    """Encodes questions and answers as unit vectors; their dot product is the score."""

    def __init__(self, config: RetrieverConfig, seed: int = 0, dtype: str = "float32"):
        """Makes a retriever with random weights.

        Args:
          config: what it is.
          seed: of weights and dropout.
          dtype: Keras dtype policy of the encoder, e.g. mixed_bfloat16; pooling, heads and vectors are float32.
        """
        super().__init__(name="retriever")
        self.config = config
        self.bert = Bert(config.bert, seed, name="bert", dtype=keras.DTypePolicy(dtype))
        seeds = itertools.count(1_000 * seed + 500)
        self.question_head = FeedForwardHead(config.bert.width, config.head_dropout, seeds, "question_head")
        self.answer_head = FeedForwardHead(config.bert.width, config.head_dropout, seeds, "answer_head")
        real_ids = ops.full((1, 3), 0 if config.bert.pad_id else 1, dtype="int32")
        self(real_ids, real_ids)  # makes the variables

    def call(self, question_ids: Any, answer_ids: Any, training: bool = False) -> tuple[Any, Any]:
        """Encodes both sides, each in its own length: [B, Tq] and [B, Ta] int -> two times [B, D]."""
        return self.encode_question(question_ids, training), self.encode_answer(answer_ids, training)

    def encode_question(self, question_ids: Any, training: bool = False) -> Any:
        """[B, T] int, padded -> [B, D] float32, unit norm."""
        return unit(self.question_head(self.pool(question_ids, training), training=training))

    def encode_answer(self, answer_ids: Any, training: bool = False) -> Any:
        """[B, T] int, padded -> [B, D] float32, unit norm."""
        return unit(self.answer_head(self.pool(answer_ids, training), training=training))

    def pool(self, ids: Any, training: bool = False) -> Any:
        """Returns the encoder's own vector of a text, before its head: [B, T] int -> [B, D] float32."""
        # A frozen encoder is used as it will be in serving: without dropout.
        states = self.bert(ids, training=training and self.bert.trainable)
        if self.config.pooling == "cls":
            return ops.cast(states[:, 0], "float32")
        return masked_mean(states, self.bert.mask(ids))


def unit(vectors: Any) -> Any:
    """[B, D] -> [B, D] of norm 1."""
    return ops.normalize(vectors, axis=-1)


def in_batch_softmax(
    question_vectors: Any,
    answer_vectors: Any,
    batch: dict[str, Any],
    scale: float,
    gather: Callable[[Any], Any] = lambda rows: rows,
) -> Any:
    """Cross-entropy of each question's own answer among the answers of all replicas.

    An answer is no negative of a question where both belong to pairs with an equal question or an equal answer.

    Args:
      question_vectors: [B, D] float, unit norm.
      answer_vectors: [B, D] float, unit norm.
      batch: "pair_id", "question_group" and "answer_group", [B] int64 each; pair_id is unique among the candidates.
      scale: factor on the cosines.
      gather: returns the rows of all replicas, [B, ...] -> [C, ...].

    Returns:
      [B] float, the loss of each row.
    """
    logits = scale * ops.matmul(question_vectors, ops.transpose(gather(answer_vectors)))  # [B, C]

    def equal(name: str) -> Any:  # [B, C] bool
        return ops.equal(batch[name][:, None], gather(batch[name])[None, :])

    own = equal("pair_id")
    excluded = ops.logical_and(ops.logical_or(equal("question_group"), equal("answer_group")), ops.logical_not(own))
    candidates = ops.logsumexp(ops.where(excluded, -1e9, logits), axis=1)  # [B]; exp(-1e9) is 0 in float32
    return candidates - ops.sum(ops.where(own, logits, 0.0), axis=1)
