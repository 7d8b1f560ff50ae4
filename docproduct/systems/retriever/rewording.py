"""Train questions in other words: users do not ask in the words of a table.

B pairs in a batch, T tokens of the longest question
"""

import random

import numpy as np
import tensorflow as tf

from data_pipeline import batches
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.other_words import reworded
from docproduct.systems.retriever.folder import TrainedRetriever


class Rewording:
    """Draws, anew in each epoch, which questions are asked in other words, and how."""

    def __init__(
        self, prepared: PreparedFolder, retriever: TrainedRetriever, share: float, seed: int, pad_to_multiple: int = 1
    ):
        """Reads the texts of all pairs.

        Args:
          prepared: the pairs.
          retriever: its tokenizer and prompts turn the new questions into ids.
          share: probability that a question is asked in other words.
          seed: decides, together with epoch and pair_id, what is drawn.
          pad_to_multiple: widths are multiples of it.
        """
        table = prepared.table(["pair_id", "question", "focus"])
        self._keys, self._questions, self._topics = (
            table[name].to_pylist() for name in ("pair_id", "question", "focus")
        )
        self._retriever, self._share, self._seed, self._multiple = retriever, share, seed, pad_to_multiple

    def ids(self, stored: tf.Tensor, rows: np.ndarray, epoch: int) -> tf.Tensor:
        """Returns the question ids of a batch, [B, T] int32, padded.

        Args:
          stored: [B, T] int32, the ids of the stored questions.
          rows: [B] int, the pairs' rows in pairs.parquet.
          epoch: 0, 1, ...
        """
        pad_id = self._retriever.tokenizer.pad_id
        ids = [row[row != pad_id] for row in stored.numpy()]
        drawn = ((place, self._drawn(row, epoch)) for place, row in enumerate(rows.tolist()))
        texts = {place: text for place, text in drawn if text}
        if not texts:
            return stored
        prompted = self._retriever.prompts.add(list(texts.values()), "question")
        made = self._retriever.tokenizer.encode_few(prompted, self._retriever.config.max_tokens)
        for place, new in zip(texts, made, strict=True):
            ids[place] = np.array(new, np.int32)
        joined = tf.RaggedTensor.from_row_lengths(np.concatenate(ids), [len(row) for row in ids], validate=False)
        return batches.pad(joined, pad_id, self._multiple)

    def _drawn(self, row: int, epoch: int) -> str | None:
        """Returns the text of a question in other words; None if the stored ids are to be used."""
        draw = random.Random(f"{self._seed} {epoch} {self._keys[row]}")
        if draw.random() >= self._share:
            return None
        return reworded(self._questions[row], self._topics[row] or "", draw)
