"""Evaluation of a triage model on dev: labels, their calibration, and replies.

N rows, L labels
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import sacrebleu
import tensorflow as tf
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from data_pipeline.batches import pad_rows
from docproduct import metrics
from docproduct.generation.sampling import GenerationSettings
from docproduct.systems.triage import calibration
from docproduct.systems.triage.config import TriageTraining
from docproduct.systems.triage.folder import TrainedTriage
from docproduct.systems.triage.losses import PAD, reply_losses
from docproduct.systems.triage.rows import TriageRows

_CHINESE = "\u4e00", "\u9fff"
_MOST_LOGITS = 2**26  # in memory at once: 256 MiB


@dataclasses.dataclass(frozen=True)
class Sample:
    """A reply that was written.

    Attributes:
      text: what was replied to.
      reference: the reply in the data.
      reply: the reply that was written.
    """

    text: str
    reference: str
    reply: str


class DevEvaluation:
    """Scores a triage model on rows.

    Attributes:
      logits: [N, L] of the labeled rows in the last call.
      classes: [N] int, their right labels.
      samples: replies of the last call.
      done: whether there was a call.
    """

    def __init__(self, config: TriageTraining, triage: TrainedTriage, rows: TriageRows):
        """Takes what to score; `triage` is scored as it is at each call."""
        self._config, self._triage, self._rows = config, triage, rows
        self._labeled = np.flatnonzero(rows.classes >= 0)
        replied = np.array([bool(ids) for ids in rows.reply_ids], bool)
        self._replied = np.flatnonzero(replied).tolist()
        self.classes = rows.classes[self._labeled]
        self.logits = np.zeros((len(self._labeled), len(triage.labels)), np.float32)
        self.samples: list[Sample] = []
        self.done = False

    def __call__(self) -> dict[str, float]:
        """Returns the metrics of what is trained: of labels, of replies, or of both."""
        self.done = True
        scores: dict[str, float] = {}
        if self._config.has_labels:
            self.logits = self._triage.logits([self._rows.text_ids[row] for row in self._labeled.tolist()])
            scores |= label_scores(self.logits, self.classes)
        if self._config.has_replies:
            scores["reply_perplexity"] = self._perplexity()
            self.samples = self.write(self._config.num_replies)
            scores |= reply_scores(self.samples)
        return scores

    def familiarity(self) -> np.ndarray:
        """Returns how near the labeled rows are to those of train, [N] float32."""
        return self._triage.familiarity([self._rows.text_ids[row] for row in self._labeled.tolist()])

    def _perplexity(self) -> float:
        """Returns the perplexity of a token of the replies."""
        nats = tokens = 0.0
        decoder = self._triage.generator.decoder
        text_ids = [self._rows.text_ids[row] for row in self._replied]
        for part in self._triage.read(text_ids):
            replies = pad_rows([self._rows.reply_ids[self._replied[row]] for row in part.rows.tolist()], PAD, least=2)
            mask = (part.ids != self._triage.tokenizer.pad_id).astype(np.int32)
            # Logits take more memory than states: a number for each id of the vocabulary.
            size = max(1, _MOST_LOGITS // (replies.shape[1] * decoder.config.vocab_size))
            for start in range(0, len(replies), size):
                own = slice(start, start + size)
                sums, counts = reply_losses(decoder, tf.constant(replies[own]), part.states[own], mask[own])
                nats, tokens = nats + float(tf.reduce_sum(sums)), tokens + float(tf.reduce_sum(counts))
        return math.exp(nats / tokens)

    def write(self, count: int) -> list[Sample]:
        """Replies to `count` of the dev texts, spread over all of them."""
        chosen = np.linspace(0, len(self._replied) - 1, min(count, len(self._replied))).astype(int)
        rows = [self._replied[place] for place in chosen]
        texts = [self._rows.texts[row] for row in rows]
        most = self._triage.config.max_reply_tokens
        sampling = GenerationSettings(temperature=self._config.reply_temperature, max_tokens=most)
        replies = self._triage.replies(texts, sampling)
        return [
            Sample(*sample) for sample in zip(texts, (self._rows.replies[row] for row in rows), replies, strict=True)
        ]


def label_scores(logits: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Returns accuracy, precision, recall and F1 (macro over the labels that occur, and weighted), loss and ECE.

    Args:
      logits: [N, L].
      classes: [N] int.
    """
    predicted = logits.argmax(axis=1)
    scores = {"accuracy": float(np.mean(predicted == classes))}
    for average in ("macro", "weighted"):
        precision, recall, f1, _ = precision_recall_fscore_support(classes, predicted, average=average, zero_division=0)
        values = {"precision": precision, "recall": recall, "f1": f1}
        scores |= {f"{average}_{name}": float(value) for name, value in values.items()}
    probs = calibration.Calibration().probs(logits)
    likelihoods = np.maximum(probs[np.arange(len(classes)), classes], 1e-9)
    scores["label_loss"] = float(-np.log(likelihoods).mean())
    scores["ece"] = metrics.expected_calibration_error(probs.max(axis=1), predicted == classes)
    return scores


def per_class(logits: np.ndarray, classes: np.ndarray, names: Sequence[str]) -> list[dict[str, Any]]:
    """Returns label, precision, recall, F1 and the number of dev rows of each label."""
    numbers = range(len(names))
    columns = precision_recall_fscore_support(classes, logits.argmax(axis=1), labels=numbers, zero_division=0)
    keys = ("label", "precision", "recall", "f1", "rows")
    return [dict(zip(keys, row, strict=True)) for row in zip(names, *(c.tolist() for c in columns), strict=True)]


def confusion(logits: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the number of rows of each label that got each label, [L right, L predicted] int."""
    return confusion_matrix(classes, logits.argmax(axis=1), labels=range(logits.shape[1]))


def reply_scores(samples: Sequence[Sample]) -> dict[str, float]:
    """Returns BLEU-2 and BLEU-4, 0 to 100, and ROUGE-L, 0 to 1, of replies; nothing without any."""
    if not samples:
        return {}
    replies, references = [s.reply for s in samples], [s.reference for s in samples]
    chinese = sum(_CHINESE[0] <= character <= _CHINESE[1] for text in references for character in text)
    # Without blanks between words, BLEU counts characters.
    tokenize = "zh" if chinese > sum(map(len, references)) / 4 else "13a"
    scores = {}
    for order in (2, 4):
        bleu = sacrebleu.BLEU(tokenize=tokenize, max_ngram_order=order)
        scores[f"BLEU-{order}"] = bleu.corpus_score(replies, [references]).score
    scores["ROUGE-L"] = float(np.mean([metrics.rouge_l(s.reference, s.reply) for s in samples]))
    return scores
