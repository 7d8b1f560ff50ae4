"""The cross-encoder: one BERT reads `[CLS] question [SEP] answer [SEP]`, and a head gives the pair one logit.

Source: Nogueira & Cho 2019, "Passage Re-ranking with BERT". Deviations: BERT starts as a bi-encoder, whose mean states
of a text say what it is about. The head compares the mean states of the two segments, so that it need not learn to
compare first. Its last layer starts at zero: an untrained reranker scores all answers alike.

    N pairs, T tokens, D width
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
MAX_QUESTION_TOKENS = 64


@dataclasses.dataclass(frozen=True)
class RerankerConfig(Settings):
    """Architecture of a reranker; the help beside each field says what it means."""

    bert: BertConfig
    max_tokens: int = setting(MAX_TOKENS, "Maximum tokens of a question with an answer, special tokens included.")
    max_question_tokens: int = setting(MAX_QUESTION_TOKENS, "Maximum tokens of the question, [CLS] and [SEP] included.")

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of range, or that does not fit the encoder."""
        super().__post_init__()
        if not 5 <= self.max_tokens <= self.bert.max_positions:
            raise ValueError(
                f"max_tokens is {self.max_tokens}; expected 5 to {self.bert.max_positions}, the positions of this BERT."
            )
        if not 3 <= self.max_question_tokens <= self.max_tokens - 2:
            raise ValueError(
                f"max_question_tokens is {self.max_question_tokens}; expected 3 to {self.max_tokens - 2}, so that an "
                "answer has room in max_tokens."
            )


class PairHead(keras.layers.Layer):
    """The mean states of question and answer, compared, to a logit: a dense layer, tanh, and a last layer of zeros."""

    def __init__(self, config: RerankerConfig, seed: int, name: str):
        super().__init__(name=name, dtype="float32")
        seeds = itertools.count(1_000 * seed + 500)
        self.inner = dense(config.bert.width, 0.02, seeds, "inner", "float32")
        self.dropout = keras.layers.Dropout(config.bert.dropout, seed=next(seeds), dtype="float32")
        self.output_projection = keras.layers.Dense(1, kernel_initializer="zeros", name="output", dtype="float32")

    def build(self, question_shape: tuple[int | None, int], answer_shape: tuple[int | None, int]) -> None:
        """Makes the variables."""
        self.inner.build((None, 2 * (question_shape[-1] + answer_shape[-1])))
        self.output_projection.build(question_shape)

    def call(self, question: Any, answer: Any, training: bool = False) -> Any:
        """[N, D], [N, D] -> [N]."""
        # Components of unit vectors are of size 1 / sqrt(D).
        size = question.shape[-1] ** 0.5
        question, answer = (ops.normalize(mean, axis=-1) * size for mean in (question, answer))
        compared = ops.concatenate([question, answer, question * answer, ops.abs(question - answer)], axis=-1)
        inner = ops.tanh(self.inner(compared))
        return self.output_projection(self.dropout(inner, training=training))[:, 0]


class Reranker(keras.Model):
    """Scores pairs of a question and an answer."""

    def __init__(self, config: RerankerConfig, seed: int = 0, dtype: str = "float32"):
        """Makes a reranker with random weights.

        Args:
          config: Its architecture.
          seed: Random seed of weights and dropout.
          dtype: Keras dtype policy of the encoder, e.g. mixed_bfloat16; the head and the logits are float32.
        """
        super().__init__(name="reranker")
        self.config = config
        self.bert = Bert(config.bert, seed, name="bert", dtype=keras.DTypePolicy(dtype))
        self.head = PairHead(config, seed, "head")
        self.build()

    def build(self, shape: Any = None) -> None:
        """Makes the variables; their shapes depend on the configuration alone."""
        del shape
        self.bert.build()
        self.head.build(*[(None, self.config.bert.width)] * 2)

    def call(self, ids: Any, question_lengths: Any, training: bool = False) -> Any:
        """Scores pairs.

        Args:
          ids: [N, T] int, padded: question and answer in one row. Or a list of such groups of similar length.
          question_lengths: [N] int, the number of tokens that belong to the question; for groups, a list.
          training: Whether dropout acts.

        Returns:
          Logits, [N] float32; the groups one after the other.
        """
        groups = ids if isinstance(ids, (list, tuple)) else [ids]
        lengths = question_lengths if isinstance(question_lengths, (list, tuple)) else [question_lengths]
        places = [ops.arange(ops.shape(group)[1], dtype="int32")[None, :] for group in groups]  # [1, T]
        is_answer = [place >= length[:, None] for place, length in zip(places, lengths, strict=True)]  # [N, T]
        segments = None
        if self.config.bert.num_segments > 1:
            segments = [ops.cast(part, "int32") for part in is_answer]
        states = self.bert(groups, training=training, segments=segments)
        sides: list[list[Any]] = [[], []]  # the mean states of questions and answers, a tensor for each group
        for group, group_ids, part in zip(states, groups, is_answer, strict=True):
            real = self.bert.mask(group_ids)
            sides[0].append(masked_mean(group, real & ~part))
            sides[1].append(masked_mean(group, real & part))
        means = [ops.concatenate(side, axis=0) for side in sides]  # [N, D] each
        return self.head(*means, training=training)
