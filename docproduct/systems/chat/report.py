"""The model card of a chat model, README.md in its folder: scores, replies, data, settings and limits."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.chat.config import ChatTraining
from docproduct.systems.chat.rows import SplitRows
from docproduct.systems.generator.folder import TrainedGenerator
from docproduct.training import cards
from docproduct.training.loop import CURVE_FILE


def write(
    model_dir: str,
    config: ChatTraining,
    generator: TrainedGenerator,
    prepared: PreparedFolder,
    history: dict[str, Any],
    rows: Sequence[SplitRows],
    samples: str,
) -> None:
    """Writes the model card.

    Args:
      model_dir: the model folder.
      config: what was trained.
      generator: the model whose weights were kept.
      prepared: the dialogues.
      history: the content of metrics.json, see `loop.fit`.
      rows: those of train and of dev.
      samples: a table of replies; empty: none were written.
    """
    name = os.path.basename(os.path.abspath(model_dir))
    counts = "\n".join(map(_counts, (splits.TRAIN, splits.DEV), rows))
    sections = [
        f"# {name}\n\nA chat model made by docproduct: a language model that learned the replies of dialogues "
        "(`--task=chat`). **Research software: nothing it writes is medical advice, and what it writes may be wrong.**",
        "## Scores on dev\n\nEpoch 0 is the model that training started from. Perplexity is per token of the replies; "
        "byte_perplexity is per byte of their texts, which models with other vocabularies can be compared by. ROUGE-L "
        f"is of greedy replies to some last questions.\n\n{cards.epochs(history)}\n\n![learning curve]({CURVE_FILE})",
        *([f"## Replies to dev dialogues\n\n{samples}"] if samples else []),
        f"## Data\n\n{cards.inputs(prepared)}\n\n{counts}",
        f"## Settings\n\n{cards.settings(dataclasses.asdict(config), dataclasses.asdict(generator.decoder.config))}\n\n"
        "All of them, versions and git commit are in `config.json`.",
        "## Limits\n\nIt writes what is likely, which need not be true, and does not know what it does not know.",
    ]
    files.write_text(os.path.join(model_dir, cards.FILE), "\n\n".join(sections) + "\n")


def _counts(split: str, rows: SplitRows) -> str:
    """Returns a line about a split."""
    num_tokens, num_learned = rows.num_tokens
    parts = [
        f"{rows.num_dialogues:,} dialogues in {len(rows.rows):,} rows",
        f"{num_tokens:,} tokens, {num_learned:,} of them in replies",
        *(f"{name.replace('_', ' ')}: {count:,}" for name, count in rows.counts.items()),
        *(f"left out: {entry['rows']:,}, as {reason}" for reason, entry in rows.refused.items()),
    ]
    return f"* {split}: {'; '.join(parts)}"
