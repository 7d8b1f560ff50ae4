"""The model card of a retriever, README.md in its folder: scores, settings, data, limits and misses."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.folders import files
from data_pipeline.folders.prepared import PreparedFolder
from docproduct.systems.retriever import dev_sets
from docproduct.systems.retriever.dev import Miss
from docproduct.systems.retriever.model import RetrieverConfig
from docproduct.training import cards
from docproduct.training.cards import line
from docproduct.training.loop import CURVE_FILE


def write(
    model_dir: str,
    config: Any,
    retriever: RetrieverConfig,
    prepared: PreparedFolder,
    history: dict[str, Any],
    joined: Mapping[str, float],
    misses: Sequence[Miss],
) -> None:
    """Writes the model card.

    Args:
      model_dir: the model folder.
      config: the RetrieverTraining.
      retriever: the model's config.
      prepared: the pairs that it was trained on.
      history: the content of metrics.json, see `loop.fit`.
      joined: RR@10 of each way to join BM25, see `fusion.choose`.
      misses: dev questions to show, the worst first.
    """
    name = os.path.basename(os.path.abspath(model_dir))
    sections = [
        f"# {name}\n\nA retriever made by docproduct: a BERT bi-encoder that finds the nearest answers to a question. "
        "**Research software: nothing it finds is medical advice.**",
        f"## Scores on dev\n\n{_scores(history, prepared)}\n\n{_joined(joined)}\n\n![learning curve]({CURVE_FILE})",
        f"## Data\n\n{_inputs(prepared)}",
        f"## Settings\n\n{_settings(config, retriever)}\n\nAll of them, versions and git commit are in `config.json`.",
        "## Limits\n\nIt finds the nearest answer even if none fits, and does not know whether an answer is right. "
        f"Texts are cut at {retriever.max_tokens} tokens. It was trained on the data above and is weaker on other "
        "topics, other kinds of questions and other languages. Answers of equal text count as one; answers that nobody "
        "marked as relevant count as wrong, so that the scores are lower bounds.",
        f"## Hardest misses on dev\n\n{_misses(misses)}",
    ]
    files.write_text(os.path.join(model_dir, cards.FILE), "\n\n".join(sections) + "\n")


def _scores(history: dict[str, Any], prepared: PreparedFolder) -> str:
    pairs = prepared.num_rows(splits.DEV)
    intro = f"{pairs:,} dev pairs; epoch 0 is the model that training started from. RR@10 and Success@1 are means over "
    intro += "the dev sets."
    return "\n\n".join([intro, cards.epochs(history), *_shares(history)])


def _shares(history: dict[str, Any]) -> list[str]:
    """Returns what is known of the blend of trained weights and the start's."""
    share = history["best"].get("trained_share", 1.0)
    if share == 1 and not history.get("shares"):
        return []
    kept = f"Kept are {share:g} of the trained weights and {1 - share:g} of those that training started from: RR@10 "
    kept += f"{history['best']['RR@10']:.4f}, Success@1 {history['best']['Success@1']:.4f}."
    tried = [[name, f"{score:.4f}"] for name, score in history.get("shares", {}).items()]
    return [kept, *([cards.table(["share of the trained weights", "RR@10"], tried)] if tried else [])]


def _joined(joined: Mapping[str, float]) -> str:
    if not joined:
        return "BM25 finds no words in these texts: the vectors are searched alone."
    table = cards.table(["beside the vectors", "RR@10"], [[name, f"{score:.4f}"] for name, score in joined.items()])
    return f"With BM25 (`--hybrid`); the index takes the best by default, if it gains 0.005 or more:\n\n{table}"


def _inputs(prepared: PreparedFolder) -> str:
    held_out = len(dev_sets.held_out_rows(prepared))
    note = f"\n\n{held_out:,} pairs of train were held out and scored, as dev lacks their sources." if held_out else ""
    return cards.inputs(prepared) + note


def _settings(config: Any, retriever: RetrieverConfig) -> str:
    asked = {k: v for k, v in dataclasses.asdict(config).items() if k not in ("random_bert", "prepared_dir")}
    return cards.settings(asked, {k: getattr(retriever, k) for k in ("pooling", "max_tokens", "head", "head_depth")})


def _misses(misses: Sequence[Miss]) -> str:
    if not misses:
        return "None: every dev question has a right answer at rank 1."
    blocks = []
    for miss in misses:
        lines = [f"* **{line(miss.question)}** rank {miss.rank}, cosine {miss.score:.3f}: {line(miss.answer)}"]
        lines += [f"  * {score:.3f} {line(question)} {line(answer)}" for score, question, answer in miss.above]
        blocks.append("\n".join(lines))
    return "The best right answer, and what outranked it:\n\n" + "\n".join(blocks)
