"""Batches of token ids: shuffled and bucketed by length for training, sorted by length for inference.

parsing.py         records to tensors
training.py        the batches of an epoch
sorting.py         batches and groups of similar length
neighbors.py       an epoch whose batches hold clusters of similar questions
hard_negatives.py  draws mined negatives for each batch
"""

from data_pipeline.batches.parsing import Element, ShardBatches, count_tokens, pad, parse
from data_pipeline.batches.sorting import (
    inference_batches,
    length_groups,
    length_order,
    length_sorted,
    pad_rows,
    shuffled_batches,
    side_ids,
)
from data_pipeline.batches.training import BatchSettings, Source, length_boundaries, training_batches

__all__ = [
    "BatchSettings",
    "Element",
    "ShardBatches",
    "Source",
    "count_tokens",
    "inference_batches",
    "length_boundaries",
    "length_groups",
    "length_order",
    "length_sorted",
    "pad",
    "pad_rows",
    "parse",
    "shuffled_batches",
    "side_ids",
    "training_batches",
]
