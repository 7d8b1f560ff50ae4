"""An encoder's vocabulary for a decoder: WordPiece or Unigram pieces, with the mark that begins a text and its end.

Chinese GPT-2s have BERT's vocabulary: [CLS], the text, [SEP]. A decoder that is trained beside an encoder may share its
vocabulary, so that both read the same pieces.
"""

import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

from data_pipeline.folders import files
from data_pipeline.tokenizers.json_tokenizer import JSON_FILE
from data_pipeline.tokenizers.loading import Tokenizer, load_tokenizer
from data_pipeline.tokenizers.wordpiece import VOCAB_FILE

_BYTE_PAIRS = ("vocab.json", "merges.txt", "encoder.json")  # a folder with one of these has byte pairs
_ALL = 2**31 - 1  # more tokens than any text has
_SPECIAL = re.compile(r"\[(PAD|CLS|SEP|MASK)\]|<(s|/s|pad|mask)>")


class EncoderVocabulary:
    """Turns texts into ids and back.

    Attributes:
      vocab_size: number of ids.
      begin_id: the mark that begins a text, such as [CLS].
      end_id: the mark that ends a text, such as [SEP].
      end_ids: the end alone.
      added: always empty.
      chat_template: always None.
      fingerprint: hash of vocabulary and normalization.
    """

    chat_template = None

    def __init__(self, tokenizer: Tokenizer):
        """Takes the encoder's tokenizer.

        Raises:
          ValueError: it puts no mark before a text, or none behind it.
        """
        before, after = tokenizer.frame
        if (len(before), len(after)) != (1, 1):
            raise ValueError(
                f"The encoder's tokenizer puts {len(before)} special tokens before a text and {len(after)} behind it; "
                "expected one each. Give a decoder with a tokenizer of its own."
            )
        self._tokenizer, self.vocab_size = tokenizer, tokenizer.vocab_size
        self.begin_id, self.end_id = before[0], after[0]
        self.end_ids, self.added = (self.end_id,), dict[str, int]()
        self.fingerprint = files.fingerprint(["encoder vocabulary", tokenizer.fingerprint])

    @classmethod
    def load(cls, folder: str) -> "EncoderVocabulary":
        """Reads a folder with vocab.txt or tokenizer.json; see `load_tokenizer`."""
        return cls(load_tokenizer(folder))

    @staticmethod
    def is_in(folder: str) -> bool:
        """Returns whether a folder has the files of an encoder's vocabulary, and no byte pairs."""
        if any(os.path.isfile(os.path.join(folder, name)) for name in _BYTE_PAIRS):
            return False
        content: dict[str, Any] = files.read_json(os.path.join(folder, JSON_FILE)) or {}
        kind = (content.get("model") or {}).get("type")
        return kind in ("WordPiece", "Unigram") or (kind is None and os.path.isfile(os.path.join(folder, VOCAB_FILE)))

    def with_added(self, tokens: Sequence[str]) -> "EncoderVocabulary":
        """Raises a ValueError: an encoder's vocabulary takes no further tokens."""
        raise ValueError(
            f"An encoder's vocabulary cannot take {', '.join(tokens)}. Expected a GPT-2 with byte pairs, whose "
            "vocabulary can grow, or --task=triage, which needs no added tokens."
        )

    def save(self, folder: str) -> None:
        """Writes the tokenizer's files."""
        self._tokenizer.save(folder)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Returns the ids of each text, without the marks around it. Special tokens in a text are text."""
        return [ids[1:-1] for ids in self._tokenizer.encode_few(list(texts), _ALL)] if texts else []

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids, without special tokens; an unknown token is shown as [UNK] or <unk>."""
        return self._tokenizer.text([i for i in ids if i < self.vocab_size])

    def decode_finished(self, ids: Iterable[int]) -> str:
        """Returns the text of ids that further ids cannot change: they only add to it."""
        return self.decode(ids)

    def show(self, ids: Iterable[int]) -> str:
        """Returns the tokens of ids for people, special ones as well."""
        return " ".join(self._tokenizer.decode(list(ids)))

    def token_bytes(self) -> list[int]:
        """Returns the number of bytes that each id stands for; 0 for special tokens."""
        tokens = (token or "" for token in self._tokenizer.decode(range(self.vocab_size)))
        return [
            0 if _SPECIAL.fullmatch(token) else len(token.removeprefix("##").replace("\u2581", "").encode())
            for token in tokens
        ]
