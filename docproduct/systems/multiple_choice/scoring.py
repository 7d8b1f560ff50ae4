"""The probabilities of choices, from the scores of a model that was trained to choose, in this process or exported.

B questions in a batch, C choices of the one with most
"""

import abc
from collections.abc import Sequence

import numpy as np
from scipy.special import expit, softmax

from data_pipeline.tokenizers import CausalTokenizer
from docproduct.systems.multiple_choice.questions import Asked, Batch, Encoded, batches, encode, tell_cut

BATCH_INPUTS = ("ids", "segment_ids", "branch_ids", "ends")  # fields of a `Batch` that a model reads
_BATCH_TOKENS = 4_096


class ChoiceScorer(abc.ABC):
    """A model that was trained to choose: `TrainedChooser`, or `ChooserSession` of an export.

    Attributes:
      tokenizer: of questions and choices.
      max_tokens: of a row: context, question and all choices.
      threshold: where several choices may be right, those with at least this probability are chosen.
    """

    tokenizer: CausalTokenizer
    max_tokens: int
    threshold: float

    @abc.abstractmethod
    def batch_scores(self, batch: Batch) -> np.ndarray:
        """Returns the scores of a batch, [B, C] float32; 0 where there is no choice."""

    def encode(self, questions: Sequence[Asked]) -> list[Encoded]:
        """Tokenizes questions; see `questions.encode`."""
        return encode(questions, self.tokenizer, self.max_tokens)

    def scores(self, encoded: Sequence[Encoded]) -> list[np.ndarray]:
        """Returns the score of each choice of each question, [number of choices] float32 each."""
        result = [np.zeros(len(row.choice_ids), np.float32) for row in encoded]
        for part in batches(encoded, _BATCH_TOKENS):
            for place, row in zip(part.questions.tolist(), self.batch_scores(part), strict=True):
                result[place][:] = row[: len(result[place])]
        return result

    def probabilities(self, questions: Sequence[Asked]) -> list[np.ndarray]:
        """Returns the probability of each choice; where only one may be right, they add up to 1."""
        encoded = self.encode(questions)
        tell_cut(encoded)
        return self.probabilities_of(encoded, questions)

    def probabilities_of(self, encoded: Sequence[Encoded], questions: Sequence[Asked]) -> list[np.ndarray]:
        """Returns what `probabilities` returns; `encoded`: the same questions, tokenized."""
        return [
            expit(values) if asked.row.several else softmax(values)
            for values, asked in zip(self.scores(encoded), questions, strict=True)
        ]
