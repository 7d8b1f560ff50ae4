"""Masks whole words of token ids, for masked-language-model training.

Source: Devlin et al. 2019, "BERT", section 3.1, and google-research/bert `create_pretraining_data.py` with
`--do_whole_word_mask`. Differences: masks are drawn anew each time a row is read, and unknown tokens are never masked,
as there is nothing to learn from them; a random token is never a special one.

T tokens of a row
"""

import numpy as np

from data_pipeline.tokenizers.whole_words import WholeWords

MASK_SHARE = 0.15
NO_TARGET = -1
_MASKED, _RANDOM = 0.8, 0.1  # shares of the chosen tokens; the others stay as they are


def mask(
    ids: np.ndarray, words: WholeWords, random: np.random.Generator, mask_share: float = MASK_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Masks a row.

    Words are taken in random order, each with all its tokens. A word that would be more than `mask_share` of the tokens
    is passed over; at least one token may be masked, however short the row is.

    Args:
      ids: [T] int, special tokens included.
      words: where words begin.
      random: decides which words, and what stands in their place.
      mask_share: share of the tokens, special ones not counted, that are to be predicted.

    Returns:
      The ids that the model reads, and the ids that it is to predict, NO_TARGET elsewhere: [T] int32 each.
    """
    ids = np.asarray(ids, np.int32)
    special = words.is_special[ids]
    number = np.cumsum(words.starts(ids)) - 1  # [T] of the word that a token belongs to
    candidates = np.unique(number[~special])
    lengths = np.bincount(number)
    room = max(1, round(mask_share * int((~special).sum())))
    chosen: list[int] = []
    for word in random.permutation(candidates).tolist():
        if lengths[word] <= room:
            chosen.append(word)
            room -= int(lengths[word])
        if not room:
            break
    places = np.flatnonzero(np.isin(number, chosen))
    masked, targets = ids.copy(), np.full_like(ids, NO_TARGET)
    targets[places] = ids[places]
    draw = random.random(len(places))
    replaced = random.choice(words.ordinary_ids, len(places))
    masked[places] = np.where(
        draw < _MASKED, words.mask_id, np.where(draw < _MASKED + _RANDOM, replaced, masked[places])
    )
    return masked, targets


def cut(ids: np.ndarray, words: WholeWords, room: int) -> list[np.ndarray]:
    """Cuts the ids of a text, without special tokens around it, into parts of at most `room`, at the start of a word.

    A word that is longer than `room` is cut, too.

    Args:
      ids: [T] int.
      words: where words begin.
      room: largest number of tokens of a part; 1 or more.
    """
    starts, parts, start = words.starts(ids), [], 0
    while start < len(ids):
        end = start + room
        if end < len(ids):
            at_words = np.flatnonzero(starts[start + 1 : end + 1])
            end = start + 1 + int(at_words[-1]) if len(at_words) else end
        parts.append(ids[start:end])
        start = end
    return parts
