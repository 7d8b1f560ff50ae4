"""Evaluation on dev dialogues: perplexity of the replies' tokens, and replies beside the right ones."""

import math
from collections.abc import Sequence

import numpy as np

from data_pipeline.batches import length_order
from data_pipeline.folders.token_folder import TokenRow
from data_pipeline.token_rows.dialogue_rows import DialogueRow
from docproduct.generation.session import GenerationSession
from docproduct.systems.chat.rows import SPEC, batch_of, tokens_of
from docproduct.systems.generator.dev import Sample, answers, asked_of
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.losses import scorer

_BATCH_TOKENS = 4_096  # read together, padding included


class ReplyEvaluation:
    """Scores a language model on dialogues.

    Attributes:
      samples: the replies of the last call.
    """

    def __init__(self, generator: TrainedGenerator, rows: Sequence[DialogueRow], num_answers: int = 0):
        """Takes what to score.

        Args:
          generator: is scored as it is at each call.
          rows: one dialogue each.
          num_answers: number of dialogues, spread over all, whose last question is answered, too; 0: none.
        """
        self.samples: list[Sample] = []
        self._generator, self._rows = generator, rows
        self._asked = [_last_exchange(row) for row in asked_of(rows, num_answers)]
        self._bytes = np.array(generator.tokenizer.token_bytes())
        self._session: GenerationSession | None = None
        self._losses_and_ids = scorer(generator.decoder, tokens_of, [SPEC])

    def __call__(self) -> dict[str, float]:
        """Returns "perplexity" per token of replies, "byte_perplexity", and "ROUGE-L" if replies are written."""
        nats, tokens, num_bytes = 0.0, 0, 0
        for places in length_order(np.array([len(row.ids) for row in self._rows]), _BATCH_TOKENS):
            batch = batch_of([self._rows[place] for place in places])
            losses, ids = self._losses_and_ids(batch)
            nats, tokens = nats + float(losses.sum(dtype=np.float64)), tokens + len(ids)
            num_bytes += int(self._bytes[ids].sum())
        scores = {"perplexity": math.exp(nats / tokens), "byte_perplexity": math.exp(nats / max(num_bytes, 1))}
        if self._asked:
            self.samples = self.write()
            scores["ROUGE-L"] = float(np.mean([sample.rouge_l for sample in self.samples]))
        return scores

    def write(self) -> list[Sample]:
        """Answers the last questions of `num_answers` dialogues, greedily."""
        self._session = self._session or GenerationSession.of(self._generator)
        return answers(self._session, self._asked)


def _last_exchange(row: DialogueRow) -> TokenRow:
    """Returns what a model reads before the last reply of a dialogue, and this reply."""
    end = int(np.flatnonzero(row.learned)[-1]) + 1
    before = np.flatnonzero(~row.learned[:end])
    start = int(before[-1]) + 1
    return TokenRow(row.ids[:start].tolist(), row.ids[start:end].tolist(), 0)
