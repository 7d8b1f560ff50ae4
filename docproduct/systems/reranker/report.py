"""The model card of a reranker, README.md in its folder: scores, settings, data and limits."""

import dataclasses
import os
from typing import Any

from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.reranker.config import RerankerTraining
from docproduct.systems.reranker.model import RerankerConfig
from docproduct.training import cards
from docproduct.training.loop import CURVE_FILE


def write(
    model_dir: str,
    config: RerankerTraining,
    reranker: RerankerConfig,
    prepared: PreparedFolder,
    history: dict[str, Any],
) -> None:
    """Writes the model card; `history` is the content of metrics.json, see `loop.fit`."""
    name = os.path.basename(os.path.abspath(model_dir))
    sections = [
        f"# {name}\n\nA reranker made by docproduct: a BERT cross-encoder that reads a question and an answer together "
        "and reorders the first hits of a retriever. **Research software: nothing it finds is medical advice.**",
        "## Scores on dev\n\nThe first hits of the retriever are reranked. RR@10_without and Success@1_without are the "
        "retriever's own, RR@10_logits is that of the reranker's logits alone. `weight` is the share of the logits in "
        "the score; it was chosen on the same questions, and is 0 where that gains less than 0.005. Epoch 0 is the "
        f"retriever's order.\n\n{cards.epochs(history)}\n\n![learning curve]({CURVE_FILE})",
        f"## Data\n\n{cards.inputs(prepared)}",
        f"## Settings\n\n{cards.settings(_asked(config), {})}\n\nAll of them, versions and git commit are in "
        "`config.json`.",
        "## Limits\n\nIt orders answers that a retriever found, and does not know whether one is right. Questions are "
        f"cut at {reranker.max_question_tokens} tokens, and answers where the pair has {reranker.max_tokens}. Its "
        "weight was chosen for the retriever above; with another one, the scores do not fit together.",
    ]
    files.write_text(os.path.join(model_dir, cards.FILE), "\n\n".join(sections) + "\n")


def _asked(config: RerankerTraining) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(config).items() if name != "prepared_dir"}
