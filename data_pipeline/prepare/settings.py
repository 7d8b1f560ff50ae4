"""What decides the content of a prepared folder."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.corpora import Columns, is_packed
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.scrubbing import ScrubSettings

_SHARD_BYTES = 16 * 2**20  # of input text; a worker holds one shard in memory
_PACKED_RATIO = 4
_MIN_SHARDS = 8
HTML_MODES = ("auto", "keep", "text")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What decides the content of a prepared folder.

    Attributes:
      inputs: files whose pairs are split by a hash of their question.
      tokenizer: a model folder with vocab.txt or tokenizer.json, or a vocabulary file.
      dev_inputs: files whose pairs are all dev.
      test_inputs: files whose pairs are all test.
      columns: the columns of the files.
      lower_case: None takes what the tokenizer's folder says.
      question_prompt: what the encoder expects before a question, its blank included; None: what the tokenizer's folder
        says.
      answer_prompt: the same for an answer.
      max_question_tokens: a longer question loses its end; [CLS] and [SEP] count.
      max_answer_tokens: the same for an answer.
      dev_share: share of the question groups of `inputs` that goes to dev.
      test_share: share that goes to test.
      duplicates: exact: a pair equal to an earlier one is refused; near: also one that shares most of its words' order.
      near_threshold: Jaccard similarity of word triples from which two pairs are near duplicates.
      scrub: what is taken out of the texts.
      html: auto: the HTML of a file's questions or answers is turned into text where most of them hold some; text: it
        always is; keep: never.
      keep_null_words: take NULL, nan and the like for texts, where they are a whole field.
      num_shards: TFRecord files for each split, at most; 0: as many as keep one small enough for memory.
      seed: draws the split.
    """

    inputs: tuple[str, ...]
    tokenizer: str
    dev_inputs: tuple[str, ...] = ()
    test_inputs: tuple[str, ...] = ()
    columns: Columns = Columns()
    lower_case: bool | None = None
    question_prompt: str | None = None
    answer_prompt: str | None = None
    max_question_tokens: int = 256
    max_answer_tokens: int = 256
    dev_share: float = 0.05
    test_share: float = 0.0
    duplicates: str = "exact"
    near_threshold: float = 0.8
    scrub: ScrubSettings = ScrubSettings()
    html: str = "auto"
    keep_null_words: bool = False
    num_shards: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises a ValueError for a setting out of range."""
        splits.check_shares(self.dev_share, self.test_share)
        if self.num_shards < 0:
            raise ValueError(f"num_shards is {self.num_shards}; expected 1 or more, or 0 to choose by size.")
        for name in ("max_question_tokens", "max_answer_tokens"):
            if getattr(self, name) < 3:
                raise ValueError(f"{name} is {getattr(self, name)}; expected 3 or more: [CLS], a token, [SEP].")
        if self.duplicates not in ("exact", "near"):
            raise ValueError(f"duplicates is {self.duplicates!r}; expected exact or near.")
        if self.html not in HTML_MODES:
            raise ValueError(f"html is {self.html!r}; expected one of {', '.join(HTML_MODES)}.")
        if not 0 < self.near_threshold <= 1:
            raise ValueError(f"near_threshold is {self.near_threshold}; expected more than 0, up to 1.")

    def with_prompts(self) -> "Settings":
        """Returns the settings with the prompts of the tokenizer's folder where none are given."""
        found = EncoderPrompts.read(self.tokenizer)
        given = {"question_prompt": self.question_prompt, "answer_prompt": self.answer_prompt}
        stored = {"question_prompt": found.question, "answer_prompt": found.answer}
        chosen = {name: stored[name] if value is None else value for name, value in given.items()}
        return dataclasses.replace(self, **chosen)

    def prompts(self) -> EncoderPrompts:
        """Returns what is put before questions and answers."""
        return EncoderPrompts(self.question_prompt or "", self.answer_prompt or "")

    def paths(self) -> tuple[str, ...]:
        """Returns all input files, in the order in which they are read: what is given a split comes first."""
        return (*self.test_inputs, *self.dev_inputs, *self.inputs)

    def with_num_shards(self, inputs: Sequence[dict[str, Any]]) -> "Settings":
        """Returns the settings with the number of shards that the inputs ask for."""
        if self.num_shards:
            return self
        text = sum(entry["bytes"] * (_PACKED_RATIO if is_packed(entry["path"]) else 1) for entry in inputs)
        return dataclasses.replace(self, num_shards=max(_MIN_SHARDS, -(-text // _SHARD_BYTES)))
