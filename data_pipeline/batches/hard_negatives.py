"""Draws hard negatives for every batch from the table that `docproduct.negatives` wrote."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.manifest import read_manifest
from data_pipeline.folders.prepared import PreparedFolder, RowFinder

KIND = "docproduct negatives"
FORMAT = 1
NEGATIVES_FILE = "negatives.parquet"
_REMEDY = "Make it with: python -m docproduct.negatives --model_dir=... --prepared_dir=... --output_dir=..."

SCHEMA = pa.schema(
    [
        ("pair_id", pa.int64()),
        ("score", pa.float32()),
        ("negative_pair_ids", pa.list_(pa.int64())),
        ("negative_scores", pa.list_(pa.float32())),
    ]
)


class HardNegatives:
    """Draws hard negatives for the pairs of a batch.

    Attributes:
      num_negatives: K, the number of negatives drawn for each pair.
      fingerprint: a hash of the whole table.
    """

    def __init__(self, folder: str, prepared: PreparedFolder, num_negatives: int, seed: int):
        """Opens the folder that `docproduct.negatives.mine` wrote.

        Args:
          folder: the folder.
          prepared: the prepared folder whose pairs were mined.
          num_negatives: K, the number of negatives drawn for each pair.
          seed: with epoch and pair, decides the draw.

        Raises:
          ValueError: the folder is not finished or belongs to another prepared folder, or its table is damaged.
        """
        manifest = read_manifest(folder, KIND, FORMAT, _REMEDY)
        if manifest["prepared"] != prepared.fingerprint():
            raise ValueError(f"{folder} was mined from other pairs than those of {prepared.path}. {_REMEDY}")
        path = os.path.join(folder, NEGATIVES_FILE)
        try:
            table = pq.read_table(path, schema=SCHEMA)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is missing or damaged ({error}). {_REMEDY}") from error
        self.fingerprint = files.sha256(path)
        self.num_negatives, self._seed = num_negatives, seed
        pairs = prepared.table(["pair_id", "split", "question_group", "answer_group"])
        self._groups = [pairs[name].to_numpy() for name in ("question_group", "answer_group")]
        self._row_of = RowFinder(pairs["pair_id"].to_numpy())
        self._train_rows = np.flatnonzero(pairs["split"].to_numpy(zero_copy_only=False) == splits.TRAIN)
        lists = table["negative_pair_ids"].combine_chunks()
        try:
            own = self._row_of(table["pair_id"].to_numpy())
            self._negatives = self._row_of(lists.values.to_numpy())
        except KeyError as error:
            raise ValueError(f"{path} names pairs that are not in {prepared.path}. {_REMEDY}") from error
        if not len(self._negatives):
            raise ValueError(f"{folder} holds no negative of any pair. Mine again with wider ranks or margins.")
        scores = table["negative_scores"].combine_chunks()
        if not scores.offsets.equals(lists.offsets):
            raise ValueError(f"{path} has other numbers of negative_scores than of negative_pair_ids. {_REMEDY}")
        self._scores = scores.values.to_numpy()
        self._own_scores = np.zeros(len(pairs), np.float32)
        self._own_scores[own] = table["score"].to_numpy()
        # The part of `_negatives` that belongs to each pair: its first place and length.
        self._first, self._count = np.zeros((2, len(pairs)), int)
        offsets = lists.offsets.to_numpy()
        self._first[own], self._count[own] = offsets[:-1] - offsets[0], np.diff(offsets)

    def draw(self, pair_ids: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Draws K different negatives for each pair; if fewer are known, unrelated pairs at random fill them up.

        Args:
          pair_ids: [B] int64.
          epoch: 0, 1, ...; each has another draw.

        Returns:
          [B, K] rows of pairs.parquet whose answers are the negatives; and [B, 1 + K] float32, the teacher's scores of
          the pair's own answer and of the negatives. An answer at random has the score -1.
        """
        rows = self._row_of(pair_ids)
        negatives = np.empty((len(rows), self.num_negatives), int)
        scores = np.full((len(rows), 1 + self.num_negatives), -1.0, np.float32)
        scores[:, 0] = self._own_scores[rows]
        for i, (row, pair_id) in enumerate(zip(rows.tolist(), pair_ids.tolist(), strict=True)):
            random = np.random.default_rng([self._seed, epoch, pair_id % 2**64])
            drawn = self._first[row] + random.permutation(self._count[row])[: self.num_negatives]
            negatives[i, : len(drawn)] = self._negatives[drawn]
            scores[i, 1 : 1 + len(drawn)] = self._scores[drawn]
            if len(drawn) < self.num_negatives:
                negatives[i, len(drawn) :] = self._unrelated(row, negatives[i, : len(drawn)], random)
        return negatives, scores

    def _unrelated(self, row: int, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
        """Returns the negatives missing from K: rows of train with another question and answer, if there are any."""
        missing = self.num_negatives - len(drawn)
        tried = random.choice(self._train_rows, 10 * missing + 20)
        different = ~np.isin(tried, drawn)
        for groups in self._groups:
            different &= groups[tried] != groups[row]
        fitting = list(dict.fromkeys(tried[different].tolist()))
        # A corpus of a few pairs may have none that fits: the loss leaves related answers out.
        return np.array([*fitting, *tried[: missing - len(fitting)]][:missing])
