"""WordPiece tokenization, with the ids of the reference BERT tokenizer.

Source: Devlin et al. 2019 (BERT), `tokenization.py`.

Two ways lead to the same ids (`tests/check_token_ids.py`): `encode` runs in TensorFlow ops, for graphs. `pack_words`
prepares a corpus: it asks the reference tokenizer once for each word and remembers the answer. TensorFlow takes seconds
to import, so only `encode` imports it.
"""

import collections
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import BertWordPieceTokenizer, Tokenizer, models
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from data_pipeline.folders import files
from data_pipeline.tokenizers.joining import join_words
from data_pipeline.varints import split_varints, varints

if TYPE_CHECKING:
    import tensorflow as tf

    from data_pipeline.tokenizers.graph_wordpiece import GraphWordPiece

VOCAB_FILE = "vocab.txt"
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
_PAD, _UNKNOWN, _START, _END = "[PAD]", "[UNK]", "[CLS]", "[SEP]"
_MARKS = (_PAD, _START, _END, "[MASK]")  # tokens that stand for no text
_MAX_REMEMBERED = 250_000  # words; about 50 MiB
_MAX_WORD = 100  # characters; longer words are not remembered
# Characters that are words of their own without blanks around them, as in Google's code. The tokenizers package leaves
# out U+2B820 to U+2B91F, rare Chinese characters that no published vocabulary holds.
_CJK_RANGES = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df\U0002a700-\U0002ceaf\U0002f800-\U0002fa1f"
CHINESE = re.compile(f"[{_CJK_RANGES}]")


class WordPiece:
    """Turns texts into ids: [CLS] pieces [SEP].

    Attributes:
      lower_case: whether text is lower-cased.
      strip_accents: whether accents are taken off, as BERT does when it lower-cases.
      split_chinese: whether a Chinese character is a word of its own.
      in_graph: always True, as `encode` runs inside a graph, too.
      pad_id: the id that fills a batch; no text contains it, so that a mask is `ids != pad_id`.
      frame: the ids before the pieces of a text, and those after them.
      vocab_size: number of ids.
      fingerprint: hash of vocabulary and normalization; two tokenizers with equal ones give equal ids.
    """

    in_graph = True

    def __init__(
        self, vocab: Sequence[str], lower_case: bool, strip_accents: bool | None = None, split_chinese: bool = True
    ):
        """Builds the tokenizer.

        Args:
          vocab: the tokens in the order of their ids.
          lower_case: whether text is lower-cased.
          strip_accents: whether accents are taken off; None: if text is lower-cased.
          split_chinese: whether a Chinese character is a word of its own.
        """
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
        self.strip_accents = lower_case if strip_accents is None else strip_accents
        self.split_chinese = split_chinese
        self.vocab_size = len(self._vocab)
        self.pad_id, self._start_id, self._end_id = (self._vocab.index(t) for t in (_PAD, _START, _END))
        self.frame = ([self._start_id], [self._end_id])
        self._varint_of_id = split_varints(varints(np.arange(self.vocab_size)))
        self._remembered: dict[str, bytes] = {}  # word -> its ids as varints
        digest = hashlib.sha256("\n".join(self._vocab).encode())
        digest.update(b"lower" if lower_case else b"cased")
        if self.strip_accents != lower_case:
            digest.update(b", accents stripped" if self.strip_accents else b", accents kept")
        if not split_chinese:
            digest.update(b", Chinese words whole")
        self.fingerprint = digest.hexdigest()

    def save(self, folder: str) -> None:
        """Writes `vocab.txt` and `tokenizer_config.json`, as Hugging Face folders have them."""
        files.write_text(os.path.join(folder, VOCAB_FILE), "\n".join(self._vocab) + "\n")
        config: dict[str, Any] = {"do_lower_case": self.lower_case, "tokenizer_class": "BertTokenizer"}
        if self.strip_accents != self.lower_case:
            config["strip_accents"] = self.strip_accents
        if not self.split_chinese:
            config["tokenize_chinese_chars"] = False
        files.write_json(os.path.join(folder, TOKENIZER_CONFIG_FILE), config)

    def encode(self, texts: "tf.Tensor | Sequence[str]", max_tokens: int) -> "tf.RaggedTensor":
        """Tokenizes texts in TensorFlow ops.

        Args:
          texts: [N] strings, UTF-8.
          max_tokens: largest number of ids of a row, with [CLS] and [SEP]; a longer text loses its end.

        Returns:
          [N, (T)] int32 ragged, 2 <= T <= max_tokens.
        """
        import tensorflow as tf  # takes seconds, and preparing does not need it

        _check_max_tokens(max_tokens)
        pieces = self._graph(tf.convert_to_tensor(texts, tf.string))[:, : max_tokens - 2]
        edge = tf.ones([pieces.nrows(), 1], tf.int32)
        return tf.concat([edge * self._start_id, pieces, edge * self._end_id], axis=1)

    def encode_few(self, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
        """Returns the same ids as `encode` for clean texts, as lists; faster for a few texts."""
        _check_max_tokens(max_tokens)
        encodings = self.reference.encode_batch_fast(list(map(self._spaced, texts)), add_special_tokens=False)
        return [[self._start_id, *encoding.ids[: max_tokens - 2], self._end_id] for encoding in encodings]

    def pack_words(self, texts: Sequence[str], max_tokens: int) -> tuple[list[bytes], np.ndarray]:
        """Tokenizes clean texts word by word, into the varints that a record holds.

        BERT splits at white space before any step that looks further than one character, so that the ids of a text are
        the concatenated ids of its words. Arrow splits the texts and finds the different words; of these, only new ones
        are tokenized. This is 21 times as fast as lists from the tokenizers package,
        and 5 times as fast as the same words in a dict, without Arrow (benchmarks/records.py).

        Args:
          texts: N texts of `cleaning.clean`: the only white space is blanks and line breaks.
          max_tokens: see `encode`.

        Returns:
          The ids of each text as varints, and their number in each text, [N] int64.
        """
        _check_max_tokens(max_tokens)
        room = max_tokens - 2
        first = 3 * room // 4 + 1  # words: nearly always more than `room` pieces
        packed, lengths, words = self._packed(texts, room, first)
        short = np.flatnonzero((lengths < room) & (words > first)).tolist()
        if short:
            repacked, lengths[short], _ = self._packed([texts[i] for i in short], room, None)
            for i, ids in zip(short, repacked, strict=True):
                packed[i] = ids
        start, end = self._varint_of_id[self._start_id], self._varint_of_id[self._end_id]
        return [b"".join((start, ids, end)) for ids in packed], lengths + 2

    def decode(self, ids: Sequence[int]) -> list[str]:
        """Returns the tokens of one row of ids."""
        return [self._vocab[i] for i in ids]

    def text(self, ids: Sequence[int]) -> str:
        """Returns the text of one row of ids, without [PAD], [CLS], [SEP] and [MASK]."""
        words: list[str] = []
        for token in self.decode(ids):
            if token.startswith("##") and words:
                words[-1] += token[2:]
            elif token not in _MARKS:
                words.append(token)
        return join_words(words)

    def with_pieces(self, words: Sequence[str]) -> "WordPiece":
        """Returns a tokenizer with more pieces, whose ids come last; each piece begins a word.

        Args:
          words: in the normal form of this tokenizer; none is in its vocabulary.
        """
        return WordPiece([*self._vocab, *words], self.lower_case, self.strip_accents, self.split_chinese)

    def _packed(self, texts: Sequence[str], room: int, most: int | None) -> tuple[list[bytes], np.ndarray, np.ndarray]:
        """Returns at most `room` ids of the first `most` words of each text, their number, and the number of words."""
        split = pc.ascii_split_whitespace(pa.array(map(self._spaced, texts), pa.string()), max_splits=most)
        num_words = pc.list_value_length(split).to_numpy()
        if most is not None:
            split = pc.list_slice(split, 0, most)  # the last part is what was not split
        words = split.flatten().dictionary_encode()
        ids = pa.array(self._ids_of(words.dictionary.to_pylist()), pa.binary()).take(words.indices)
        data = ids.buffers()[2].to_pybytes() if ids.buffers()[2] else b""
        word_ends = np.frombuffer(ids.buffers()[1], np.int32, len(ids) + 1)  # in bytes, with a 0 before the first
        row_ends = word_ends[np.concatenate([[0], np.cumsum(pc.list_value_length(split).to_numpy())])]  # [N + 1]
        token_ends = np.flatnonzero(np.frombuffer(data, np.uint8) < 0x80) + 1
        tokens = np.searchsorted(token_ends, row_ends, side="right")  # [N + 1] tokens before the row
        lengths = np.minimum(np.diff(tokens), room)
        ends = np.concatenate([[0], token_ends])[tokens[:-1] + lengths]
        starts = row_ends[:-1].tolist()
        return [data[a:b] for a, b in zip(starts, ends.tolist(), strict=True)], lengths, num_words

    def _ids_of(self, words: list[str]) -> list[bytes]:
        """Returns the ids of each word, as varints."""
        ids = list(map(self._remembered.get, words))
        new = [word for word, known in zip(words, ids, strict=True) if known is None]
        if new:
            learned = iter(self._learn(new))
            ids = [next(learned) if known is None else known for known in ids]
        return ids

    def _learn(self, words: list[str]) -> list[bytes]:
        """Asks the reference for the ids of words, and remembers them."""
        encodings = self.reference.encode_batch_fast(words, add_special_tokens=False)
        of_id = self._varint_of_id.__getitem__
        learned = [b"".join(map(of_id, encoding.ids)) for encoding in encodings]
        if len(self._remembered) > _MAX_REMEMBERED:
            self._remembered.clear()
        short = ((word, ids) for word, ids in zip(words, learned, strict=True) if len(word) <= _MAX_WORD)
        self._remembered.update(short)
        return learned

    @functools.cached_property
    def reference(self) -> Tokenizer:
        """The same tokenizer in the tokenizers package, which knows no special tokens."""
        # Special tokens are not added: "[SEP]" in a text is text.
        ids = {token: i for i, token in enumerate(self._vocab)}
        tokenizer = Tokenizer(models.WordPiece(ids, unk_token=_UNKNOWN))
        tokenizer.normalizer = BertNormalizer(
            handle_chinese_chars=self.split_chinese, strip_accents=self.strip_accents, lowercase=self.lower_case
        )
        tokenizer.pre_tokenizer = BertPreTokenizer()
        return tokenizer

    @functools.cached_property
    def _graph(self) -> "GraphWordPiece":
        from data_pipeline.tokenizers.graph_wordpiece import GraphWordPiece  # imports TensorFlow

        return GraphWordPiece(self._vocab, _UNKNOWN, self.lower_case, self.strip_accents, self.split_chinese)

    def _spaced(self, text: str) -> str:
        """Puts blanks around the characters that are words of their own."""
        if not self.split_chinese or text.isascii() or not CHINESE.search(text):
            return text
        return CHINESE.sub(r" \g<0> ", text)


def _check_max_tokens(max_tokens: int) -> None:
    if max_tokens < 3:
        raise ValueError(f"max_tokens is {max_tokens}; expected 3 or more: [CLS], a token, [SEP].")


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> WordPiece:
    """Makes a lower-cased vocabulary from texts, for models that start from random weights.

    Args:
      texts: texts to learn from.
      vocab_size: largest number of ids.
    """
    trainer = BertWordPieceTokenizer(lowercase=True)
    trainer.train_from_iterator(texts, vocab_size=vocab_size, min_frequency=1, show_progress=False)
    vocab = trainer.get_vocab()
    return WordPiece(sorted(vocab, key=vocab.__getitem__), lower_case=True)
