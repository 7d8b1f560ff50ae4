"""Tiny trainings of triage: a table, its prepared rows, and settings."""

import csv
import dataclasses

from data_pipeline.corpora.triage import TRIAGES
from data_pipeline.prepare import PrepareSettings, prepare
from docproduct.systems.generator.cross_attention import SmallDecoder
from docproduct.systems.triage.config import TriageTraining
from docproduct.training.settings import TrainingSettings
from tests.conftest import TINY_BERT

SETTINGS = TrainingSettings(
    epochs=2, batch_size=16, learning_rate=3e-3, precision="float32", checkpoint_steps=1, seed=5, keep="last"
)
BERT = dataclasses.replace(TINY_BERT, max_positions=40)
DECODER = SmallDecoder(width=8, num_layers=1, num_heads=2, max_positions=24)
PARTS = {"random_bert": BERT, "random_decoder": DECODER, "max_tokens": 20, "max_reply_tokens": 10, "num_replies": 3}
WORDS = {"heart": ("chest", "pulse"), "lung": ("cough", "breath"), "skin": ("rash", "itch")}
NAMES = tuple(WORDS)
TABLE = [
    (
        f"{WORDS[NAMES[i % 3]][i % 2]} pain number {i} for {'many ' * (i % 5)}days",
        NAMES[i % 3],
        f"see the {NAMES[i % 3]} doctor {i % 4}",
    )
    for i in range(40)
]


def write_table(path, table):
    with open(path, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label", "reply"), *table])
    return str(path)


def prepare_table(folder, table, **settings):
    """Prepares a table in a folder; returns the path of the prepared folder."""
    path = write_table(folder / "table.csv", table)
    settings = {"dev_share": 0.25, "seed": 1} | settings
    prepare(PrepareSettings((path,), **settings), str(folder / "prepared"), reader=TRIAGES)
    return str(folder / "prepared")


def config_in(folder):
    """Prepares TABLE, one row with a label alone and one with a reply alone; returns the settings of a training."""
    more = [("a label alone", "skin", ""), ("a reply alone", "", "rest a while")]
    return TriageTraining(prepare_table(folder, [*TABLE, *more]), **PARTS, settings=SETTINGS)
