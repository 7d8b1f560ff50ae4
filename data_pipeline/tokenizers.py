"""WordPiece tokenization in TensorFlow ops, with the ids of the reference BERT tokenizer.

Source: Devlin et al. 2019 (BERT), `tokenization.py`; Song et al. 2021 (fast WordPiece).
tensorflow-text's FastBertTokenizer is not used: its built-in normalization rewrites characters that BERT's keeps
(an ellipsis becomes three dots). Here the text is normalized first, then split by FastWordpieceTokenizer, which is
several times faster than tokenizing text by text and gives equal ids (`tests/check_token_ids.py`).
"""

import collections
import hashlib
import os
import re
from collections.abc import Iterable, Sequence

import tensorflow as tf
import tensorflow_text as tf_text
from tokenizers import BertWordPieceTokenizer

from data_pipeline import files

VOCAB_FILE = "vocab.txt"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
_PAD, _UNKNOWN, _START, _END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"


class WordPiece:
    """Turns texts into ids: [CLS] pieces [SEP].

    Attributes:
      lower_case: whether text is lower-cased and stripped of accents, as for an uncased vocabulary.
      pad_id: the id that fills a batch; a real text never contains it, so a mask is `ids != pad_id`.
      vocab_size: number of ids.
      fingerprint: hash of the vocabulary and the casing; two tokenizers with equal ones give equal ids.
    """

    def __init__(self, vocab: Sequence[str], lower_case: bool):
        """Builds the tokenizer from the tokens of `vocab`, in the order of their ids."""
        missing = [token for token in (_PAD, _UNKNOWN, _START, _END) if token not in vocab]
        if missing:
            raise ValueError(
                f"The vocabulary has no {', '.join(missing)}; it needs {_PAD}, {_UNKNOWN}, {_START} and {_END}. "
                "Give the vocab.txt of a BERT model."
            )
        repeated = [token for token, rows in collections.Counter(vocab).items() if rows > 1]
        if repeated:
            raise ValueError(
                f"The vocabulary has several rows of {', '.join(repeated[:5])}; expected every token once."
            )
        self._vocab = list(vocab)
        self.lower_case = lower_case
        self.vocab_size = len(self._vocab)
        self.pad_id, self._start_id, self._end_id = (self._vocab.index(t) for t in (_PAD, _START, _END))
        self._pieces = tf_text.FastWordpieceTokenizer(
            self._vocab, token_out_type=tf.int32, unknown_token=_UNKNOWN, no_pretokenization=False
        )
        digest = hashlib.sha256("\n".join(self._vocab).encode())
        digest.update(b"lower" if lower_case else b"cased")
        self.fingerprint = digest.hexdigest()

    @classmethod
    def load(cls, folder: str, lower_case: bool | None = None) -> "WordPiece":
        """Reads `vocab.txt` from a model folder (or the vocabulary file itself).

        Args:
          folder: a folder with vocab.txt (and, if it has one, tokenizer_config.json), or a path to a vocabulary.
          lower_case: None takes `do_lower_case` from tokenizer_config.json; without that file a vocabulary in which
            no word has a capital letter is taken as lower-cased.

        Raises:
          FileNotFoundError: no vocabulary there.
        """
        path = os.path.join(folder, VOCAB_FILE) if os.path.isdir(folder) else folder
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"No vocabulary at {path}. Expected a folder with {VOCAB_FILE} (one token a line), or such a file."
            )
        with open(path, encoding="utf-8", newline="\n") as file:
            vocab = [line.rstrip("\r\n") for line in file]
        if lower_case is None:
            lower_case = _stored_lower_case(os.path.dirname(path))
        if lower_case is None:
            # [CLS] and <S> are marks, not words.
            lower_case = not any(re.match(r"[^\[<]*[A-Z]", token) for token in vocab)
        return cls(vocab, lower_case)

    def save(self, folder: str) -> None:
        """Writes `vocab.txt` and `tokenizer_config.json`, as Hugging Face folders have them."""
        files.write_text(os.path.join(folder, VOCAB_FILE), "\n".join(self._vocab) + "\n")
        config = {"do_lower_case": self.lower_case, "tokenizer_class": "BertTokenizer"}
        files.write_json(os.path.join(folder, TOKENIZER_CONFIG_FILE), config)

    def encode(self, texts: tf.Tensor | Sequence[str], max_tokens: int) -> tf.RaggedTensor:
        """Tokenizes texts.

        Args:
          texts: [N] strings, UTF-8.
          max_tokens: longest row, [CLS] and [SEP] counted; a longer text loses its end.

        Returns:
          [N, (T)] int32 ragged, 2 <= T <= max_tokens.
        """
        if max_tokens < 3:
            raise ValueError(f"max_tokens is {max_tokens}; expected 3 or more: [CLS], a token, [SEP].")
        pieces = self._pieces.tokenize(self._normalize(tf.convert_to_tensor(texts, tf.string)))[:, : max_tokens - 2]
        edge = tf.ones([pieces.nrows(), 1], tf.int32)
        return tf.concat([edge * self._start_id, pieces, edge * self._end_id], axis=1)

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Returns the tokens of one row of ids."""
        return [self._vocab[i] for i in ids]

    def _normalize(self, texts: tf.Tensor) -> tf.Tensor:
        # Line breaks are white space, though Unicode files them under control characters: they become blanks
        # before control characters are dropped, or the words on both sides would be joined.
        texts = tf.strings.regex_replace(texts, r"[\t\n\r\p{Z}]", " ")
        texts = tf.strings.regex_replace(texts, r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}]", "")
        if not self.lower_case:
            return texts
        texts = tf_text.normalize_utf8(texts, "NFD")
        texts = tf.strings.regex_replace(texts, r"\p{Mn}", "")
        # The reference lowers one character at a time, so that a sigma at the end of a word stays a plain one.
        texts = tf.strings.regex_replace(texts, "Σ", "σ")
        return tf.strings.lower(texts, encoding="utf-8")


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> WordPiece:
    """Makes a lower-cased vocabulary from texts, for models that start from random weights.

    Args:
      texts: what to learn from.
      vocab_size: number of ids, at most.
    """
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=1, show_progress=False)
    vocab = trainer.get_vocab()
    return WordPiece(sorted(vocab, key=vocab.__getitem__), lower_case=True)


def _stored_lower_case(folder: str) -> bool | None:
    return (files.read_json(os.path.join(folder, TOKENIZER_CONFIG_FILE)) or {}).get("do_lower_case")
