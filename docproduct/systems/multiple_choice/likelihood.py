"""How likely a language model finds each choice behind its question, without training.

Three normalizations, as in EleutherAI's lm-evaluation-harness: `acc` takes the sum of the log-probabilities of a
choice's tokens, `acc_norm` divides it by the number of characters of the choice, and `acc_bytes` by its bytes in UTF-8.

B questions in a batch, T tokens of a row, N tokens of all choices
"""

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from docproduct.systems.generator.model import LanguageModel
from docproduct.systems.multiple_choice.questions import Asked, Batch, Encoded, batches, check_model, encode, tell_cut

NORMALIZATIONS = ("acc", "acc_norm", "acc_bytes")
_BATCH_TOKENS = 2_048
_LOGITS = 512  # tokens whose logits are in memory at once: the vocabulary is large
_IDS = tf.TensorSpec([None, None], tf.int32)


class Likelihood:
    """Scores choices with a language model.

    Attributes:
      max_tokens: of a row: context, question and all choices.
      threshold: None: without training there is none, so that only one choice can be chosen.
    """

    threshold = None

    def __init__(self, model: LanguageModel, max_tokens: int | None = None):
        """Takes the model.

        Args:
          model: any causal language model without an encoder.
          max_tokens: of a row: context, question and all choices; default: the model's window.

        Raises:
          ValueError: the model attends to an encoder, or its window is smaller than `max_tokens`.
        """
        self._model, self.max_tokens = model, max_tokens or model.window
        check_model(model, self.max_tokens)
        # One signature for all sizes: traced once.
        self._states = tf.function(self._read, input_signature=[_IDS] * 3, autograph=False)
        signature = [tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.int32)]
        self._log_probs = tf.function(self._of_tokens, input_signature=signature, autograph=False)

    def sums(self, questions: Sequence[Asked]) -> list[np.ndarray]:
        """Returns the log-probability of each choice of each question, [number of choices] float64 each."""
        encoded = self.encode(questions)
        tell_cut(encoded)
        return self._sums_of(encoded)

    def encode(self, questions: Sequence[Asked]) -> list[Encoded]:
        """Tokenizes questions; see `questions.encode`."""
        return encode(questions, self._model.tokenizer, self.max_tokens)

    def probabilities_of(self, encoded: Sequence[Encoded], questions: Sequence[Asked]) -> list[np.ndarray]:
        """Returns the probability of each choice by `acc_norm`; `encoded`: the same questions, tokenized."""
        return [softmax(values) for values in normalized(self._sums_of(encoded), questions, "acc_norm")]

    def _sums_of(self, encoded: Sequence[Encoded]) -> list[np.ndarray]:
        sums = [np.zeros(len(row.choice_ids)) for row in encoded]
        for part in batches(encoded, _BATCH_TOKENS):
            for question, branch, value in self._tokens(part):
                sums[question][branch] += value
        return sums

    def _tokens(self, part: Batch) -> Iterator[tuple[int, int, float]]:
        """Yields question, choice and log-probability of each token of a choice."""
        states = self._states(part.ids, part.segment_ids, part.branch_ids)  # [B, T, D]
        for start in range(0, len(part.places), _LOGITS):
            places = part.places[start : start + _LOGITS]
            before = np.stack([places[:, 0], part.before[start : start + _LOGITS]], axis=1)
            targets = part.ids[places[:, 0], places[:, 1]]
            values = self._log_probs(tf.gather_nd(states, before), targets).numpy().tolist()
            for (row, column), value in zip(places.tolist(), values, strict=True):
                yield int(part.questions[row]), int(part.branch_ids[row, column]) - 1, value

    def _read(self, ids: tf.Tensor, segment_ids: tf.Tensor, branch_ids: tf.Tensor) -> tf.Tensor:
        states = self._model.decoder(ids, segment_ids=segment_ids, branch_ids=branch_ids)
        return tf.cast(states, tf.float32)

    def _of_tokens(self, states: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
        return -tf.nn.sparse_softmax_cross_entropy_with_logits(targets, self._model.decoder.logits(states))


def normalized(sums: Sequence[np.ndarray], questions: Sequence[Asked], normalization: str) -> list[np.ndarray]:
    """Returns the log-probabilities of choices, divided as one of `NORMALIZATIONS` says."""
    if normalization == "acc":
        return list(sums)
    size = len if normalization == "acc_norm" else _num_bytes
    return [
        values / np.array([size(choice) for choice in asked.row.choices])
        for values, asked in zip(sums, questions, strict=True)
    ]


def _num_bytes(text: str) -> int:
    return len(text.encode())
