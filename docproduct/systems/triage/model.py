"""The encoder with its classifier: BERT reads a text, its states are pooled, and a dense layer gives a logit a label.

Source: Devlin et al. 2019, "BERT", section 4.1, for the classifier on [CLS]; MEDI-BERPT (CS224N) for the decoder beside
it. Deviation: the mean over the tokens by default, as published sentence encoders were trained with it.

    B texts, T tokens, D width, L labels, K train texts whose vectors are known
"""

import dataclasses
import itertools
from typing import Any

import keras
from keras import ops

from data_pipeline.settings import Settings, setting
from docproduct.layers.bert import Bert, BertConfig
from docproduct.layers.transformer import dense, masked_mean

MAX_TOKENS = 256
MAX_REPLY_TOKENS = 128
_NEIGHBORS = 5
POOLINGS = ("mean", "cls")


@dataclasses.dataclass(frozen=True)
class TriageConfig(Settings):
    """Architecture of a triage model; the help beside each field says what it means."""

    bert: BertConfig
    labels: tuple[str, ...] = setting((), "Names of the classes, in the order of the logits.")
    pooling: str = setting("mean", "How token states become a vector: mean, or cls, the first state.", choices=POOLINGS)
    dropout: float = setting(0.1, "Dropout on the vector that is classified.", least=0, below=1)
    max_tokens: int = setting(MAX_TOKENS, "Maximum tokens of a text, special tokens included.", least=3)
    max_reply_tokens: int = setting(MAX_REPLY_TOKENS, "Maximum tokens of a reply, its end included.", least=2)

    num_known: int = setting(0, "Number of train texts that a text is compared with; 0: none.", least=0)

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range, or that does not fit the encoder."""
        super().__post_init__()
        if self.max_tokens > self.bert.max_positions:
            raise ValueError(
                f"max_tokens is {self.max_tokens}; expected 3 to {self.bert.max_positions}, the positions of this BERT."
            )
        if len(self.labels) == 1 or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are {self.labels}; expected two or more different names, or none.")


class TriageClassifier(keras.Model):
    """Classifies texts, and returns the states that a decoder attends to.

    Attributes:
      config: the architecture.
      bert: the encoder.
      classifier: the last layer; None without labels.
      known: [K, D] float32, vectors of train texts, unit norm; all zeros until training has ended, None for K = 0.
    """

    def __init__(self, config: TriageConfig, seed: int = 0, dtype: str = "float32"):
        """Makes a model with random weights; all labels are equally likely.

        Args:
          config: its architecture.
          seed: random seed of weights and dropout.
          dtype: Keras dtype policy of the encoder, e.g. mixed_bfloat16; logits are float32.
        """
        super().__init__(name="triage")
        self.config = config
        seeds = itertools.count(1_000 * seed + 500)
        self.bert = Bert(config.bert, seed, name="bert", dtype=keras.DTypePolicy(dtype))
        self.dropout = keras.layers.Dropout(config.dropout, seed=next(seeds), dtype="float32")
        self.classifier = None
        if config.labels:
            self.classifier = dense(len(config.labels), 0.0, seeds, "classifier", "float32")
        self.known = None
        if config.num_known:
            shape = (config.num_known, config.bert.width)
            self.known = self.add_weight(shape=shape, initializer="zeros", trainable=False, name="known")
        self.build()

    def build(self, shape: Any = None) -> None:
        """Makes the variables; their shapes depend on the configuration alone."""
        del shape
        self.bert.build()
        if self.classifier is not None:
            self.classifier.build((None, self.config.bert.width))

    def call(self, ids: Any, training: bool = False) -> tuple[Any, Any]:
        """Reads texts.

        Args:
          ids: [B, T] int, padded.
          training: whether dropout acts.

        Returns:
          Logits, [B, L] float32, with L = 0 without labels; and the encoder's states, [B, T, D].
        """
        # A frozen encoder's dropout would only blur what it knows.
        states = self.bert(ids, training=training and self.bert.trainable)
        vectors = self.dropout(self.pool(states, ids), training=training)
        logits = ops.zeros((ops.shape(ids)[0], 0), "float32") if self.classifier is None else self.classifier(vectors)
        return logits, states

    def pool(self, states: Any, ids: Any) -> Any:
        """[B, T, D] -> [B, D] float32, the vectors that are classified."""
        if self.config.pooling == "cls":
            return ops.cast(states[:, 0], "float32")
        return masked_mean(states, self.bert.mask(ids))

    def familiarity(self, vectors: Any) -> Any:
        """Returns how near texts are to those of train, [B] float32: the mean of the highest cosines; 0 without any.

        A classifier is as sure of a text of another kind as of one that it knows. Source: Sun et al. 2022,
        "Out-of-Distribution Detection with Deep Nearest Neighbors"; here the mean of five neighbors, not the k-th.

        Args:
          vectors: [B, D], as `pool` returns them.
        """
        if self.known is None:
            return ops.zeros(ops.shape(vectors)[:1], "float32")
        cosines = ops.matmul(ops.normalize(vectors, axis=-1), ops.transpose(self.known))  # [B, K]
        nearest, _ = ops.top_k(cosines, min(_NEIGHBORS, self.config.num_known))
        return ops.mean(nearest, axis=-1)
