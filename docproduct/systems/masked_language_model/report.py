"""The model card of a masked language model, README.md in its folder: scores, vocabulary, data, settings and limits."""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

from data_pipeline.folders import files
from data_pipeline.token_rows.plain_texts import PlainTexts
from data_pipeline.tokenizers.unknown import Unknown
from docproduct.systems.masked_language_model.config import MaskedTraining
from docproduct.systems.masked_language_model.start import Vocabulary
from docproduct.training import cards
from docproduct.training.loop import CURVE_FILE

_SHOWN = 50  # new pieces


def write(
    model_dir: str,
    config: MaskedTraining,
    texts: PlainTexts,
    vocabulary: Vocabulary,
    num_rows: tuple[int, int],
    history: dict[str, Any],
) -> None:
    """Writes the model card.

    Args:
      model_dir: the model folder.
      config: what was trained.
      texts: what it was trained on.
      vocabulary: what its vocabulary knows of the texts.
      num_rows: of train and dev.
      history: the content of metrics.json, see `loop.fit`.
    """
    name = os.path.basename(os.path.abspath(model_dir))
    sections = [
        f"# {name}\n\nAn encoder made by docproduct: a BERT that was trained on texts without labels, to fill in "
        "masked words (`--task=masked_language_model`). It loads wherever a published encoder does, and is a start for "
        "a retriever or a triage model. **Research software: nothing it computes is medical advice.**",
        "## Scores on dev\n\nOf masked tokens, with the same masks in each epoch. Perplexities of other vocabularies "
        f"cannot be compared. Epoch 0 is the encoder that training started from.\n\n{cards.epochs(history)}\n\n"
        f"![learning curve]({CURVE_FILE})",
        f"## Vocabulary\n\n{_vocabulary(vocabulary)}",
        f"## Data\n\n{_sources(texts.sources)}\n\n{len(texts.train):,} train texts in {num_rows[0]:,} rows, "
        f"{len(texts.dev):,} dev texts in {num_rows[1]:,} rows.",
        f"## Settings\n\n{cards.settings(_asked(config), {})}\n\nAll of them, versions and git commit are in "
        "`config.json`.",
        "## Limits\n\nIts vectors were not trained to compare texts: train a retriever from it before searching with "
        "it. It has no pooler. What it fills in is likely in the texts above, and need not be true.",
    ]
    files.write_text(os.path.join(model_dir, cards.FILE), "\n\n".join(sections) + "\n")


def _vocabulary(vocabulary: Vocabulary) -> str:
    before, added = vocabulary.before, vocabulary.added
    parts = [f"With the vocabulary that training started from, {_share(before)}."]
    if before.words:
        rows = [[cards.line(word), f"{count:,}"] for word, count in before.words]
        parts.append(f"The most frequent words with unknown tokens:\n\n{cards.table(['word', 'times'], rows)}")
    if added:
        shown = ", ".join(cards.line(word) for word in added[:_SHOWN])
        more = f" and {len(added) - _SHOWN:,} more" if len(added) > _SHOWN else ""
        parts.append(
            f"{len(added):,} pieces were added, whose rows began as the mean of the pieces that each word was before: "
            f"{shown}{more}. With them, {_share(vocabulary.after)}."
        )
    return "\n\n".join(parts)


def _share(unknown: Unknown) -> str:
    return (
        f"{unknown.num_unknown:,} of {unknown.num_tokens:,} tokens of the train texts are unknown ({unknown.share:.3%})"
    )


def _sources(sources: Sequence[dict[str, Any]]) -> str:
    rows = [
        [f"`{os.path.basename(os.path.abspath(entry['name']))}`", f"{entry['texts']:,}", f"`{entry['sha256'][:16]}`"]
        for entry in sources
    ]
    return cards.table(["file or prepared folder", "texts", "SHA-256"], rows)


def _asked(config: MaskedTraining) -> dict[str, Any]:
    left_out = ("text", "prepared_dir", *(() if config.encoder_dir is None else ("random_bert", "vocab_size")))
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in left_out}
