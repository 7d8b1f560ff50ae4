"""Which token ids begin a word, and which are special: what masking of whole words needs to know of a vocabulary.

V token ids, T tokens of a row
"""

import dataclasses
import re

import numpy as np

from data_pipeline.tokenizers.json_tokenizer import MARKS, JsonTokenizer
from data_pipeline.tokenizers.loading import Tokenizer
from data_pipeline.tokenizers.wordpiece import CHINESE

_MASKS = ("[MASK]", "<mask>")
_WORD_START = "▁"  # of Unigram pieces
_CONTINUING = "##"  # of WordPiece
_UNUSED = re.compile(r"\[unused\d+\]")  # places that BERT's vocabularies keep free


@dataclasses.dataclass(frozen=True)
class WholeWords:
    """The words of a vocabulary's ids.

    Attributes:
      mask_id: the id of the mask token.
      ordinary_ids: ids that are not special, [N] int32.
      is_special: of each id, whether it is a special token or unknown, [V] bool.
      begins: of each id, whether it begins a word wherever it stands, [V] bool.
      is_chinese: of each id, whether it begins with a Chinese character, which is a word of its own, [V] bool.
    """

    mask_id: int
    ordinary_ids: np.ndarray
    is_special: np.ndarray
    begins: np.ndarray
    is_chinese: np.ndarray

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "WholeWords":
        """Returns the words of a tokenizer's ids.

        Raises:
          ValueError: it has no mask token, or it is of a type whose pieces do not show where a word begins.
        """
        is_unigram = isinstance(tokenizer, JsonTokenizer) and tokenizer.model_type == "Unigram"
        if isinstance(tokenizer, JsonTokenizer) and tokenizer.model_type not in ("Unigram", "WordPiece"):
            raise ValueError(
                f"The tokenizer is of the type {tokenizer.model_type or 'unknown'}, whose pieces do not show where a "
                "word begins. Expected WordPiece or Unigram."
            )
        tokens = [token or "" for token in tokenizer.decode(range(tokenizer.vocab_size))]
        masks = [tokens.index(mask) for mask in _MASKS if mask in tokens]
        if not masks:
            raise ValueError(
                f"The vocabulary has no mask token; expected {' or '.join(_MASKS)}. Start from an encoder whose "
                "vocabulary has one, as BERT's and XLM-R's have."
            )
        before, after = tokenizer.frame
        around = {tokenizer.pad_id, *before, *after}
        is_special = np.array(
            [not t or t in MARKS or i in around or bool(_UNUSED.fullmatch(t)) for i, t in enumerate(tokens)]
        )
        is_chinese = np.array([bool(CHINESE.match(token.lstrip("#▁"))) for token in tokens])
        if is_unigram:
            begins = np.array([token.startswith(_WORD_START) for token in tokens])
        else:
            begins = np.array([not token.startswith(_CONTINUING) or token == _CONTINUING for token in tokens])
        ordinary = np.flatnonzero(~is_special).astype(np.int32)
        return cls(masks[0], ordinary, is_special, begins | is_chinese | is_special, is_chinese)

    def starts(self, ids: np.ndarray) -> np.ndarray:
        """Returns which tokens of a row begin a word, [T] int -> [T] bool.

        After a special token and after a Chinese character, a word begins whatever the piece is.
        """
        starts = self.begins[ids].copy()
        starts[:1] = True
        starts[1:] |= (self.is_special | self.is_chinese)[ids[:-1]]
        return starts
