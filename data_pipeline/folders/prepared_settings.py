"""The settings that decide the content of a prepared folder; its manifest stores them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from data_pipeline import splits
from data_pipeline.corpora import Columns, is_packed
from data_pipeline.prompts.encoder_prompts import EncoderPrompts
from data_pipeline.schemas import Schema
from data_pipeline.scrubbing import ScrubSettings
from data_pipeline.settings import REQUIRED, Settings, from_json, setting

MAX_TOKENS = 256
_LEAST_TOKENS = 3  # [CLS], a token, [SEP]
_SHARD_BYTES = 16 * 2**20  # of input text; a worker holds one shard in memory
_PACKED_RATIO = 4
_MIN_SHARDS = 8
_LATER = ("label", "title", "facts", "format", "min_score", "keep_deleted", "sample")


@dataclasses.dataclass(frozen=True)
class PrepareSettings(Settings):
    """What decides the content of a prepared folder.

    Attributes:
      tokenizer: required for rows with a tokenized field; None for others.
      columns: the columns of the files, for readers of tables.
      prompts: for a tokenized field, what the encoder expects before its texts, the blank included; a field without one
        takes that of its side from the tokenizer's folder.
      max_tokens: for a tokenized field, the number of tokens that its texts are cut to, special tokens counted;
        MAX_TOKENS for a field without one.
      scrub: what is removed from the texts.
    """

    inputs: tuple[str, ...] = setting(REQUIRED, "Files whose rows are split by their key.")
    tokenizer: str | None = setting(None, "Model folder, or a vocabulary file (vocab.txt).")
    dev_inputs: tuple[str, ...] = setting((), "Files whose pairs are all dev; their questions are kept out of train.")
    test_inputs: tuple[str, ...] = setting((), "Files whose pairs are all test; their questions are in no other split.")
    columns: Columns = Columns()
    lower_case: bool | None = setting(None, "Whether text is lower-cased; none: as the tokenizer's folder says.")
    prompts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    max_tokens: Mapping[str, int] = dataclasses.field(default_factory=dict)
    dev_share: float = setting(0.05, "Share of questions (or texts) for dev; 0.05, or 0 if dev_input is given.")
    test_share: float = setting(0.0, "Share of questions (or texts) for test.")
    duplicates: str = setting(
        "exact", "Duplicates to refuse; near: near duplicates as well.", choices=("exact", "near")
    )
    near_threshold: float = setting(0.8, "Jaccard similarity of near duplicates.", above=0, most=1)
    scrub: ScrubSettings = ScrubSettings()
    html: str = setting(
        "auto",
        "Whether to turn HTML into text; auto: only in columns where most texts hold tags.",
        choices=("auto", "keep", "text"),
    )
    keep_null_words: bool = setting(
        False, "Keep NULL, nan, N/A and the like as texts; otherwise they count as empty fields."
    )
    num_shards: int = setting(0, "Number of TFRecord files per split; 0: chosen by the size.", least=0)
    seed: int = setting(0, "Random seed of the split.")

    def __post_init__(self) -> None:
        """Raises a ValueError for a setting out of range."""
        super().__post_init__()
        splits.check_shares(self.dev_share, self.test_share)
        for name, most in self.max_tokens.items():
            if most < _LEAST_TOKENS:
                raise ValueError(
                    f"max_{name}_tokens is {most}; expected {_LEAST_TOKENS} or more: [CLS], a token, [SEP]."
                )

    def completed(self, schema: Schema) -> "PrepareSettings":
        """Returns the settings with a prompt and a limit for each tokenized field.

        Raises:
          ValueError: one is given for another field, or a tokenizer or its casing is missing or not needed.
        """
        names = [field.name for field in schema.tokenized]
        if names and not self.tokenizer:
            raise ValueError(
                "tokenizer is missing. Expected a model folder or a vocabulary file (vocab.txt), because "
                f"{', '.join(names)} of {schema.plural} are stored as token ids."
            )
        for setting_name in () if names else ("tokenizer", "lower_case"):
            if (value := getattr(self, setting_name)) is not None:
                raise ValueError(
                    f"{setting_name} is {value!r}; expected none, because no field of {schema.plural} is tokenized. "
                    "Leave it out."
                )
        for setting_name in ("prompts", "max_tokens"):
            if others := sorted(set(getattr(self, setting_name)) - set(names)):
                raise ValueError(f"{setting_name} names {others[0]!r}; expected {', '.join(names) or 'nothing'}.")
        of_folder = EncoderPrompts.read(self.tokenizer) if self.tokenizer else EncoderPrompts()
        defaults = {field.name: getattr(of_folder, field.side, "") for field in schema.tokenized}
        return dataclasses.replace(
            self,
            prompts={name: self.prompts.get(name, defaults[name]) for name in names},
            max_tokens={name: self.max_tokens.get(name, MAX_TOKENS) for name in names},
        )

    def paths(self) -> tuple[str, ...]:
        """Returns all input files, in the order in which they are read: those of a given split come first."""
        return (*self.test_inputs, *self.dev_inputs, *self.inputs)

    def with_num_shards(self, inputs: Sequence[dict[str, Any]]) -> "PrepareSettings":
        """Returns the settings with the number of shards that suits the size of the inputs, unless one is given."""
        if self.num_shards:
            return self
        text = sum(entry["bytes"] * (_PACKED_RATIO if is_packed(entry["path"]) else 1) for entry in inputs)
        return dataclasses.replace(self, num_shards=max(_MIN_SHARDS, -(-text // _SHARD_BYTES)))

    def stored(self) -> dict[str, Any]:
        """Returns the completed settings as a manifest holds them: question_prompt, max_question_tokens, ..."""
        flat: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            if name == "prompts":
                flat |= {prompt_name(field): prompt for field, prompt in value.items()}
            elif name == "max_tokens":
                flat |= {limit_name(field): limit for field, limit in value.items()}
            else:
                flat[name] = value
        # Settings that came later are left out where they have their default: folders of pairs keep their fingerprint.
        flat["columns"] = {
            name: value
            for name, value in flat["columns"].items()
            if name not in _LATER or value != getattr(Columns, name)
        }
        return flat

    @classmethod
    def from_stored(cls, stored: Mapping[str, Any], schema: Schema, where: str) -> "PrepareSettings":
        """Returns the settings of a manifest; one that is newer than the manifest has its default.

        Args:
          stored: what `stored` returned, from JSON.
          schema: of the rows.
          where: the file, for errors.

        Raises:
          ValueError: a setting that this version does not know; the message names it.
        """
        names = [field.name for field in schema.tokenized]
        prompts = {name: stored.get(prompt_name(name)) or "" for name in names}
        max_tokens = {name: stored.get(limit_name(name), MAX_TOKENS) for name in names}
        of_fields = {*map(prompt_name, names), *map(limit_name, names)}
        others = {name: value for name, value in stored.items() if name not in of_fields}
        return from_json(cls, others | {"prompts": prompts, "max_tokens": max_tokens}, where)


def prompt_name(field: str) -> str:
    """Returns the name of the flag, and the stored name, of a field's prompt."""
    return f"{field}_prompt"


def limit_name(field: str) -> str:
    """Returns the name of the flag, and the stored name, of a field's largest number of tokens."""
    return f"max_{field}_tokens"
