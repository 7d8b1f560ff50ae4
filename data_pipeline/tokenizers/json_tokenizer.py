"""Runs any tokenizer.json with the `tokenizers` package: the Unigram pieces of XLM-R and multilingual-e5, and others.

BERT's WordPiece is faster in `wordpiece.py`, and runs inside graphs. This class runs in Python alone.
"""

import itertools
import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Tokenizer

from data_pipeline.folders import files
from data_pipeline.varints import varints

if TYPE_CHECKING:
    import tensorflow as tf

JSON_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"
_USUAL_PADDING = ("<pad>", "[PAD]")
# In a text these are text. Other special tokens, which some models add, are tokens there as well.
MARKS = (*_USUAL_PADDING, "<s>", "</s>", "<unk>", "<mask>", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
_ADVANTAGE = 0.01  # of a new piece's log probability


class JsonTokenizer:
    """Turns texts into ids: special tokens, pieces, special tokens, as tokenizer.json says.

    Attributes:
      lower_case: always None, as the normalizer in tokenizer.json decides.
      in_graph: always False, as it runs in Python.
      pad_id: the id that fills a batch; no text contains it.
      frame: the ids before the pieces of a text, and those after them.
      vocab_size: number of ids.
      fingerprint: hash of tokenizer.json; two tokenizers with equal ones give equal ids.
    """

    lower_case = None
    in_graph = False

    def __init__(self, content: dict[str, Any], pad_token: str | None, where: str):
        """Builds the tokenizer.

        Args:
          content: the content of tokenizer.json.
          pad_token: the token that fills a batch; None: one of the usual names.
          where: the file, for errors.

        Raises:
          ValueError: the package cannot read the content, or it has no padding or no special tokens around a text.
        """
        # This class cuts texts, and batches pad them.
        content = content | {"truncation": None, "padding": None}
        content["added_tokens"] = [
            token | {"special": token["special"] and token["content"] in (*MARKS, pad_token)}
            for token in content.get("added_tokens") or []
        ]
        try:
            self._tokenizer = Tokenizer.from_str(json.dumps(content))
        except Exception as error:  # the package raises no special class
            raise ValueError(
                f"{where} cannot be read ({error}). Expected a tokenizer.json of the tokenizers package."
            ) from error
        self._content, self._where = content, where
        self._tokenizer.encode_special_tokens = True  # "</s>" in a text is text
        known = [pad_token] if pad_token else [name for name in _USUAL_PADDING if self._token_id(name) is not None]
        if not known or self._token_id(known[0]) is None:
            raise ValueError(
                f"{where} has no token for padding ({pad_token or ' or '.join(_USUAL_PADDING)}). Name one of its "
                f"tokens as pad_token in {CONFIG_FILE}."
            )
        self._pad_token = known[0]
        self.pad_id: int = self._token_id(self._pad_token)
        self.vocab_size: int = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.frame = self._special_ids(where)
        self.fingerprint = files.fingerprint([content, self._pad_token])

    def _token_id(self, token: str) -> int | None:
        return self._tokenizer.token_to_id(token)

    def _special_ids(self, where: str) -> tuple[list[int], list[int]]:
        """Returns the ids before and after the pieces of a text."""
        framed, bare = (self._tokenizer.encode("a", add_special_tokens=special).ids for special in (True, False))
        size = len(bare)
        for start in range(len(framed) - size + 1):
            if bare and len(framed) > size and framed[start : start + size] == bare:
                return framed[:start], framed[start + size :]
        raise ValueError(f"{where} puts no special tokens around a text. Expected some, such as [CLS] and [SEP].")

    @property
    def reference(self) -> Tokenizer:
        """The tokenizer of the tokenizers package."""
        return self._tokenizer

    @property
    def model_type(self) -> str:
        """How words are cut into pieces, as tokenizer.json names it: Unigram, WordPiece, BPE ..."""
        return self._content["model"].get("type", "")

    def with_pieces(self, words: Sequence[str]) -> "JsonTokenizer":
        """Returns a tokenizer with more pieces, whose ids come last. Texts without them keep their ids.

        A new piece of a Unigram vocabulary is a little likelier than the pieces that it was before, and never less
        likely than the least likely piece, which unknown characters are measured by. So it wins over its parts, but not
        over a known piece that begins with it.

        Args:
          words: in the normal form of this tokenizer; none is in its vocabulary.

        Raises:
          ValueError: the vocabulary is no Unigram or WordPiece, or added tokens have the ids behind it.
        """
        model, pad_token = dict(self._content["model"]), self._pad_token
        if self.model_type not in ("Unigram", "WordPiece"):
            raise ValueError(
                f"{self._where} is of the type {self.model_type or 'unknown'}, whose vocabulary cannot be extended. "
                "Expected Unigram or WordPiece; leave --new_pieces out."
            )
        if self.vocab_size != len(model["vocab"]):
            raise ValueError(
                f"{self._where} has {self.vocab_size} ids, but {len(model['vocab'])} pieces: added tokens stand behind "
                "the vocabulary, where new pieces would go. Leave --new_pieces out, or take an encoder without them."
            )
        if self.model_type == "WordPiece":
            model["vocab"] = model["vocab"] | {word: self.vocab_size + i for i, word in enumerate(words)}
        else:
            model["vocab"] = [*model["vocab"], *([word, self._score(word)] for word in words)]
        return JsonTokenizer(self._content | {"model": model}, pad_token, self._where)

    def _score(self, word: str) -> float:
        """Returns the log probability of a new piece of a Unigram vocabulary."""
        vocab = self._content["model"]["vocab"]
        least = min(score for _, score in vocab)
        ids = [piece.id for piece in self._tokenizer.model.tokenize(word)]
        if self._content["model"].get("unk_id") in ids:
            return least
        return max(least, sum(vocab[i][1] for i in ids) + _ADVANTAGE)

    def save(self, folder: str) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json`, as Hugging Face folders have them."""
        files.write_json(os.path.join(folder, JSON_FILE), self._content)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": self._pad_token}
        files.write_json(os.path.join(folder, CONFIG_FILE), config)

    def encode(self, texts: Sequence[str], max_tokens: int) -> "tf.RaggedTensor":
        """Returns ids, [N, (T)] int32 ragged, special tokens counted; a longer text loses its end.

        Raises:
          ValueError: max_tokens leaves no room for a piece.
        """
        import tensorflow as tf  # takes seconds, and preparing does not need it

        rows = self.encode_few(texts, max_tokens)
        ids = np.fromiter((i for row in rows for i in row), np.int32)
        return tf.RaggedTensor.from_row_lengths(ids, np.array([len(row) for row in rows], np.int32))

    def encode_few(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Returns the same ids as `encode`, as lists."""
        before, after = self.frame
        room = max_tokens - len(before) - len(after)
        if room < 1:
            raise ValueError(
                f"max_tokens is {max_tokens}; expected {max_tokens - room + 1} or more: special tokens and a piece."
            )
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[*before, *encoding.ids[:room], *after] for encoding in encodings]

    def pack_words(self, texts: Sequence[str], max_tokens: int) -> tuple[list[bytes], np.ndarray]:
        """Returns the ids of N texts as varints, as a record holds them, and their number in each text, [N] int64."""
        rows = self.encode_few(texts, max_tokens)
        return [varints(np.array(row)).tobytes() for row in rows], np.array([len(row) for row in rows], np.int64)

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Returns the tokens of one row of ids."""
        return [self._tokenizer.id_to_token(i) for i in ids]

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of one row of ids, without special tokens but the unknown one."""
        unknown = self._tokenizer.token_to_id("<unk>")
        parts = [list(part) for _, part in itertools.groupby(ids, lambda i: i == unknown)]
        texts = ["<unk>" if part[0] == unknown else self._tokenizer.decode(part) for part in parts]
        return " ".join(filter(None, texts)) if unknown in ids else "".join(texts)
