"""What a vocabulary does not know of some texts: the share of unknown tokens, unknown words, words in many pieces."""

import collections
import dataclasses
import unicodedata
from collections.abc import Iterable, Sequence

from data_pipeline.tokenizers.loading import Tokenizer
from data_pipeline.tokenizers.wordpiece import CHINESE, WordPiece

_UNKNOWN_TOKENS = ("[UNK]", "<unk>")
_LONGEST = 30  # characters of a new piece
_LEAST = 2  # times that a word must occur: from one place, little is learned


@dataclasses.dataclass(frozen=True)
class Unknown:
    """What a vocabulary does not know.

    Attributes:
      num_tokens: tokens of the texts, without special tokens around them.
      num_unknown: unknown tokens among them.
      words: the most frequent words with an unknown token, and how often each occurs; a Chinese character is a word.
    """

    num_tokens: int
    num_unknown: int
    words: tuple[tuple[str, int], ...] = ()

    @property
    def share(self) -> float:
        """Share of unknown tokens."""
        return self.num_unknown / max(1, self.num_tokens)


def count_words(tokenizer: Tokenizer, texts: Iterable[str]) -> collections.Counter[str]:
    """Returns how often each word occurs in clean texts, in the normal form that is cut into pieces.

    What a word is decides the tokenizer. In Chinese texts without blanks, a word of a Unigram vocabulary is a sentence.
    """
    normalizer, splitter = tokenizer.reference.normalizer, tokenizer.reference.pre_tokenizer
    counts: collections.Counter[str] = collections.Counter()
    for text, times in _repeated(tokenizer, texts):
        normal = normalizer.normalize_str(text) if normalizer else text
        words = [word for word, _ in splitter.pre_tokenize_str(normal)] if splitter else [normal]
        for word in words:
            counts[word] += times
    return counts


def _repeated(tokenizer: Tokenizer, texts: Iterable[str]) -> Iterable[tuple[str, int]]:
    """Returns parts of the texts that can be split on their own, and how often each occurs."""
    if not isinstance(tokenizer, WordPiece):
        return ((text, 1) for text in texts)
    # BERT splits at white space before any step that looks further than one character, see `WordPiece.pack_words`.
    parts: collections.Counter[str] = collections.Counter()
    for text in texts:
        parts.update(text.split())
    return parts.items()


def unknown_id(tokenizer: Tokenizer) -> int | None:
    """Returns the id of what the vocabulary does not know; None if it knows everything."""
    ids = (tokenizer.reference.token_to_id(token) for token in _UNKNOWN_TOKENS)
    return next((i for i in ids if i is not None), None)


def pieces_of(tokenizer: Tokenizer, word: str) -> list[int]:
    """Returns the ids of a word in normal form."""
    return [piece.id for piece in tokenizer.reference.model.tokenize(word)]


def unknown_tokens(tokenizer: Tokenizer, counts: collections.Counter[str], num_words: int = 20) -> Unknown:
    """Returns what a vocabulary does not know.

    Args:
      tokenizer: its tokenizer.
      counts: words in its normal form, from `count_words`.
      num_words: number of words to name.
    """
    unknown, num_tokens, num_unknown = unknown_id(tokenizer), 0, 0
    with_unknown: collections.Counter[str] = collections.Counter()
    for word, count in counts.items():
        ids = pieces_of(tokenizer, word)
        num_tokens += count * len(ids)
        if unknown in ids:
            num_unknown += count * ids.count(unknown)
            with_unknown[word] = count
    parts = _parts(tokenizer, with_unknown)
    words = [(word, count) for word, count in parts.most_common() if unknown in pieces_of(tokenizer, word)]
    return Unknown(num_tokens, num_unknown, tuple(words[:num_words]))


def new_pieces(tokenizer: Tokenizer, counts: collections.Counter[str], num_pieces: int) -> list[str]:
    """Returns the words that a vocabulary lacks most: first unknown ones, then those that cost the most tokens.

    Unknown words come in the order of their frequency, the others in that of the tokens that a piece of their own would
    save: their frequency times the number of their pieces but one. A word occurs twice or more, has a letter, and
    neither begins nor ends with a mark.

    Args:
      tokenizer: the tokenizer of the vocabulary.
      counts: words in its normal form, from `count_words`.
      num_pieces: the largest number of words to return.
    """
    unknown, known = unknown_id(tokenizer), tokenizer.reference.get_vocab()
    gains: list[tuple[bool, int, str]] = []
    for word, count in _parts(tokenizer, counts).items():
        if count < _LEAST or len(word) > _LONGEST or word in known or not _is_word(word):
            continue
        ids = pieces_of(tokenizer, word)
        if unknown in ids:
            gains.append((True, count, word))
        elif len(ids) > 1:
            gains.append((False, count * (len(ids) - 1), word))
    gains.sort(key=lambda gain: (not gain[0], -gain[1], gain[2]))
    return [word for _, _, word in gains[:num_pieces]]


def _is_word(word: str) -> bool:
    letters = word.removeprefix("▁")
    has_letter = any(map(str.isalpha, letters))
    return has_letter and all(unicodedata.category(letters[end])[0] not in "PS" for end in (0, -1))


def _parts(tokenizer: Tokenizer, counts: collections.Counter[str]) -> collections.Counter[str]:
    """Returns the counts with Chinese characters as words of their own, unless the tokenizer never cuts there."""
    if isinstance(tokenizer, WordPiece):
        return counts
    parts: collections.Counter[str] = collections.Counter()
    for word, count in counts.items():
        for part in _cut(word):
            parts[part] += count
    return parts


def _cut(word: str) -> Sequence[str]:
    """Returns the Chinese characters of a word, and the parts between them."""
    return CHINESE.sub(r" \g<0> ", word).split()
