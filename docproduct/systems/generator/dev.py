"""Evaluation of the generator on rows of a token folder: perplexity, and answers beside the right ones."""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.folders.token_folder import LANGUAGE_MODEL, TokenFolder, TokenRow
from docproduct import metrics
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.systems.generator.losses import PAD, joined, scorer

_BATCH_TOKENS = 4_096  # read together, padding included
_WRITTEN_TOGETHER = 8
_READ_TOGETHER = 1_024


@dataclasses.dataclass(frozen=True)
class Sample:
    """An answer that was written.

    Attributes:
      prompt: text of the prompt.
      reference: the right answer.
      answer: the answer that was written.
      rouge_l: ROUGE-L F1 of answer and reference, 0 to 1.
    """

    prompt: str
    reference: str
    answer: str
    rouge_l: float


def read_rows(folder: TokenFolder, split: str) -> list[TokenRow]:
    """Returns all rows of a split, in the order of its shards.

    Raises:
      ValueError: a shard is damaged, or lacks rows.
    """
    shards, num_rows = folder.shards(split), folder.num_rows(split)
    dataset = tf.data.TFRecordDataset(shards).batch(_READ_TOGETHER)
    dataset = dataset.map(lambda batch: batches.parse(batch, folder.features))
    rows: list[TokenRow] = []
    for batch in batches.ShardBatches(dataset, shards, folder.features, -(-num_rows // _READ_TOGETHER), num_rows):
        columns = [batch[name] for name in TokenRow._fields]
        lists = [c.to_list() if isinstance(c, tf.RaggedTensor) else c.numpy().tolist() for c in columns]
        rows += [TokenRow(*row) for row in zip(*lists, strict=True)]
    return rows


class DevEvaluation:
    """Scores a generator on rows.

    Attributes:
      rows: the rows.
      samples: the answers of the last call.
    """

    def __init__(self, generator: TrainedGenerator, rows: Sequence[TokenRow], kind: str, num_answers: int = 0):
        """Takes what to score.

        Args:
          generator: is scored as it is at each call.
          rows: what to score it on.
          kind: kind of the rows, one of `token_folder.ROWS`.
          num_answers: number of rows, spread over all, that are answered, too; 0: none. A language model answers none.
        """
        self.rows, self.samples = rows, []
        self._generator, packed = generator, kind == LANGUAGE_MODEL
        self._asked = asked_of(rows, 0 if packed else num_answers)
        self._bytes = np.array(generator.tokenizer.token_bytes())
        self._session: GenerationSession | None = None
        end_id = generator.tokenizer.end_id if packed else None
        signature = [tf.TensorSpec([None, None], tf.int32)] * 2
        self._losses_and_ids = scorer(generator.decoder, functools.partial(joined, end_id=end_id), signature)

    def __call__(self) -> dict[str, float]:
        """Returns "perplexity" per token, "byte_perplexity" per byte of text, and "ROUGE-L" if answers are written."""
        nats, tokens, num_bytes = 0.0, 0, 0
        for prompts, targets in self._batches():
            losses, ids = self._losses_and_ids(prompts, targets)
            nats, tokens = nats + float(losses.sum(dtype=np.float64)), tokens + len(ids)
            num_bytes += int(self._bytes[ids].sum())
        scores = {"perplexity": math.exp(nats / tokens), "byte_perplexity": math.exp(nats / max(num_bytes, 1))}
        if self._asked:
            self.samples = self.write()
            scores["ROUGE-L"] = float(np.mean([sample.rouge_l for sample in self.samples]))
        return scores

    def _batches(self) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        lengths = np.array([len(row.prompt_ids) + len(row.target_ids) for row in self.rows])
        for positions in batches.length_order(lengths, _BATCH_TOKENS):
            rows = [self.rows[i] for i in positions]
            yield tuple(_padded([getattr(row, name) for row in rows]) for name in ("prompt_ids", "target_ids"))

    def write(self) -> list[Sample]:
        """Answers `num_answers` of the rows, greedily."""
        if not self._asked:
            return []
        self._session = self._session or GenerationSession.of(self._generator)
        return answers(self._session, self._asked)


def asked_of(rows: Sequence[TokenRow], count: int) -> list[TokenRow]:
    """Returns `count` of the rows, or all, spread over them."""
    return [rows[i] for i in np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int)]


def answers(session: GenerationSession, rows: Sequence[TokenRow]) -> list[Sample]:
    """Answers the prompts of rows, greedily, each with as many tokens as its window has left."""
    samples: list[Sample | None] = [None] * len(rows)
    order = np.argsort([len(row.prompt_ids) for row in rows], kind="stable")
    for start in range(0, len(order), _WRITTEN_TOGETHER):
        numbers = order[start : start + _WRITTEN_TOGETHER]  # of like length
        asked = [rows[i] for i in numbers]
        room = session.window - max(len(row.prompt_ids) for row in asked)
        room = min(room, session.prompt.answer_tokens) if session.prompt else room
        written = session.write([row.prompt_ids for row in asked], GenerationSettings(max_tokens=room))
        for number, row, (generation,) in zip(numbers, asked, written, strict=True):
            reference = session.tokenizer.decode(row.target_ids)
            prompt = session.tokenizer.show(row.prompt_ids)
            samples[number] = Sample(prompt, reference, generation.text, metrics.rouge_l(reference, generation.text))
    return samples


def _padded(rows: Sequence[Sequence[int]]) -> tf.Tensor:
    return batches.pad(tf.ragged.constant(rows, tf.int32, ragged_rank=1), PAD)
