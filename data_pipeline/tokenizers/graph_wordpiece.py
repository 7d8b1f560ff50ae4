"""WordPiece in TensorFlow ops, for graphs: inference and exports.

tensorflow-text's FastBertTokenizer is not used: its normalization rewrites characters that BERT's keeps (an ellipsis
becomes three dots). Here, the text is normalized first and then split by FastWordpieceTokenizer (Song et al. 2021). The
ids are those of the reference (`tests/check_token_ids.py`).
"""

from collections.abc import Sequence

import tensorflow as tf
import tensorflow_text as tf_text

# BERT's punctuation: every ASCII character that is no letter, digit or blank, and Unicode's class P.
_PUNCTUATION = r"[!-/:-@\[-`{-~]|\p{P}"
_BREAK = rf"\s|{_PUNCTUATION}"


class GraphWordPiece:
    """Turns a tensor of texts into pieces, without [CLS] and [SEP]."""

    def __init__(
        self, vocab: Sequence[str], unknown_token: str, lower_case: bool, strip_accents: bool, split_chinese: bool
    ):
        self._lower_case, self._strip_accents, self._split_chinese = lower_case, strip_accents, split_chinese
        self._pieces = tf_text.FastWordpieceTokenizer(
            list(vocab), token_out_type=tf.int32, unknown_token=unknown_token, no_pretokenization=not split_chinese
        )

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """[N] strings, UTF-8 -> [N, (T)] int32."""
        texts = self._normalize(texts)
        if self._split_chinese:
            return self._pieces.tokenize(texts)
        # Its own pre-tokenization would take every Chinese character for a word.
        return self._pieces.tokenize(tf_text.regex_split(texts, _BREAK, _PUNCTUATION)).merge_dims(1, 2)

    def _normalize(self, texts: tf.Tensor) -> tf.Tensor:
        # Line breaks are control characters in Unicode. They become blanks before control characters are dropped, or
        # the words on both sides would be joined.
        texts = tf.strings.regex_replace(texts, r"[\t\n\r\p{Z}]", " ")
        texts = tf.strings.regex_replace(texts, r"[\p{Cc}\p{Cf}\p{Co}\x{FFFD}]", "")
        if self._strip_accents:
            texts = tf_text.normalize_utf8(texts, "NFD")
            texts = tf.strings.regex_replace(texts, r"\p{Mn}", "")
        if not self._lower_case:
            return texts
        # The reference lower-cases one character at a time: a sigma at the end of a word gets no final form.
        texts = tf.strings.regex_replace(texts, "Σ", "σ")
        return tf.strings.lower(texts, encoding="utf-8")
