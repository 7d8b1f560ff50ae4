"""Makes rows of a token folder from pairs: prompt and answer, with retrieved pairs in the prompt or without."""

import collections
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_pipeline import splits
from data_pipeline.folders.prepared import PreparedFolder
from data_pipeline.folders.token_folder import CLOSED_BOOK, Origin, TokenRow, same_folder, write
from data_pipeline.prompts.answer_prompts import (
    PromptSettings,
    answer_prompt,
    end_id,
    target,
    with_markers,
)
from data_pipeline.prompts.chat_prompts import TextPair
from data_pipeline.settings import Settings, setting
from data_pipeline.token_rows.packing import split_at_ends
from data_pipeline.tokenizers import CausalTokenizer
from data_pipeline.tokenizers.byte_pairs import END as END_OF_TEXT


@dataclasses.dataclass(frozen=True)
class FocusSample(Settings):
    """Draws a few pairs of the topics that have the most, as in the recipe of GPT-2 on MedQuAD.

    All come from the prepared folder's train, so that its own dev and test stay unseen.

    The help beside each field says what it does.
    """

    top_foci: int = setting(0, "closed_book: only the foci with most pairs; 0: all pairs.", least=0)
    train_per_focus: int = setting(4, "With --top_foci: pairs of each to train on.", least=1)
    dev_per_focus: int = setting(1, "With --top_foci: pairs of each for dev.", least=1)

    def rows(self, prepared: PreparedFolder, seed: int) -> dict[str, np.ndarray]:
        """Returns the rows of pairs.parquet for train and dev; no question is in both, or under two foci.

        Raises:
          ValueError: too few foci have enough different questions.
        """
        table = prepared.table(["split", "focus", "question_group"]).to_pydict()
        if not self.top_foci:
            names = np.array(table["split"])
            return {split: np.flatnonzero(names == split) for split in (splits.TRAIN, splits.DEV)}
        of_focus: dict[str, dict[int, int]] = collections.defaultdict(dict)
        for row, (split, focus, group) in enumerate(zip(*table.values(), strict=True)):
            if split == splits.TRAIN and focus:
                of_focus[focus].setdefault(group, row)
        needed = self.train_per_focus + self.dev_per_focus
        best: list[list[int]] = []
        taken: set[int] = set()  # groups
        for row_of_group in sorted(of_focus.values(), key=len, reverse=True):
            free = {group: row for group, row in row_of_group.items() if group not in taken}
            if len(free) >= needed:
                best.append(list(free.values()))
                taken |= free.keys()
        if len(best) < self.top_foci:
            raise ValueError(
                f"The train part of {prepared.path} has {len(best)} foci with {needed} questions or more; top_foci is "
                f"{self.top_foci}. Give a smaller --top_foci, or prepare a table with a column focus (topic)."
            )
        random = np.random.default_rng(seed)
        drawn = np.array([random.permutation(rows)[:needed] for rows in best[: self.top_foci]])
        train, dev = np.split(drawn, [self.train_per_focus], axis=1)
        return {splits.TRAIN: train.reshape(-1), splits.DEV: dev.reshape(-1)}


class PairRows:
    """Makes rows of pairs, and counts what is shortened or left out.

    Attributes:
      counts: "questions_shortened" and "answers_cut" count rows. "contexts_missing" counts the retrieved pairs that
        prompts lack, because no other pair is allowed or because there is no room. "end_of_text_removed" counts texts
        that begin or end with `<|endoftext|>`. "rows_left_out_for_end_of_text" and "contexts_left_out_for_end_of_text"
        count pairs with the mark inside a text, of which nobody knows what document is meant. The last three are there
        only if they are above 0.
    """

    def __init__(self, tokenizer: CausalTokenizer, settings: PromptSettings):
        """Takes a tokenizer with the markers, and the lengths of prompts."""
        self._tokenizer, self._settings = tokenizer, settings
        self.counts = {"questions_shortened": 0, "answers_cut": 0, "contexts_missing": 0}

    def row(
        self, pair_id: int, question: str, answer: str, contexts: Sequence[TextPair] | None = None
    ) -> TokenRow | None:
        """Returns the row of a pair. The answer gets all the room that the prompt leaves in the window.

        Args:
          pair_id: the pair's id.
          question: its question.
          answer: its answer.
          contexts: retrieved pairs, the nearest first; without them, the prompt is the question.

        Returns:
          The row; None if the question or the answer holds `<|endoftext|>` inside.
        """
        if (own := self._document((question, answer))) is None:
            self._count("rows_left_out_for_end_of_text")
            return None
        question, answer = own
        others = [self._document(pair) for pair in contexts or ()]
        self._count("contexts_left_out_for_end_of_text", others.count(None))
        others = [pair for pair in others if pair is not None]
        prompt = answer_prompt(self._tokenizer, self._settings, question, others)
        target_ids = target(self._tokenizer, answer, self._settings.window - len(prompt.ids))
        self.counts["questions_shortened"] += prompt.shortened
        if contexts is not None:
            self.counts["contexts_missing"] += self._settings.num_contexts - len(prompt.sources)
        self.counts["answers_cut"] += target_ids[-1] != end_id(self._tokenizer)
        return TokenRow(prompt.ids, target_ids, pair_id)

    def _document(self, pair: TextPair) -> TextPair | None:
        """Returns a pair without `<|endoftext|>` at the ends of its texts; None if it stands inside a text or alone."""
        texts = [split_at_ends(text) if END_OF_TEXT in text else [text] for text in pair]
        if any(len(parts) != 1 for parts in texts):
            return None
        question, answer = (part for (part,) in texts)
        self._count("end_of_text_removed", (question != pair[0]) + (answer != pair[1]))
        return question, answer

    def _count(self, name: str, texts: int = 1) -> None:
        if texts:
            self.counts[name] = self.counts.get(name, 0) + texts


def write_closed_book(
    path: str,
    prepared: PreparedFolder,
    tokenizer: CausalTokenizer,
    settings: PromptSettings,
    sample: FocusSample = FocusSample(),
    seed: int = 0,
) -> dict[str, Any]:
    """Writes a token folder of pairs without retrieved pairs, unless the same one is there.

    Args:
      path: the folder.
      prepared: the pairs.
      tokenizer: that of the model to be trained; the markers are added.
      settings: lengths of prompts; no contexts.
      sample: which pairs to take.
      seed: draws the sample.

    Returns:
      The manifest; "shortened" has the counts of `PairRows`.

    Raises:
      ValueError: train or dev has no pairs, see `FocusSample.rows`; or another token folder is at the path.
    """
    tokenizer = with_markers(tokenizer)
    described = {"prompt": dataclasses.asdict(settings), "sample": dataclasses.asdict(sample)}
    described["seed"] = seed if sample.top_foci else None  # it draws nothing else
    origin = Origin(CLOSED_BOOK, described, {"prepared": prepared.fingerprint()})
    if (manifest := same_folder(path, origin, tokenizer)) is not None:
        return manifest
    pairs = prepared.table(["pair_id", "question", "answer"])
    maker = PairRows(tokenizer, settings)

    def token_rows(places: np.ndarray) -> Iterator[TokenRow]:
        for pair in pairs.take(places).to_pylist():
            if (row := maker.row(pair["pair_id"], pair["question"], pair["answer"])) is not None:
                yield row

    chosen = sample.rows(prepared, seed)
    for split, places in chosen.items():
        if not len(places):
            raise ValueError(
                f"{prepared.path} has no {split} pairs. Prepare it again, of more pairs or with another --dev_share."
            )
    rows = {split: token_rows(places) for split, places in chosen.items()}
    return write(path, origin, tokenizer, rows, shortened=maker.counts)
