"""What the tokenizer's vocabulary does not know of the sample."""

from collections.abc import Sequence
from typing import Any

from data_pipeline.report.corpus import Row
from data_pipeline.report.personal_data import shown
from data_pipeline.report.tally import share
from data_pipeline.tokenizers import Tokenizer
from data_pipeline.tokenizers.unknown import count_words, new_pieces, pieces_of, unknown_tokens

_TOP = 20


def vocabulary(sample: Sequence[Row], tokenizer: Tokenizer | None) -> dict[str, Any] | None:
    """Returns the rate of unknown tokens, the most frequent unknown words, and the words that cost the most tokens.

    Returns None without a tokenizer.
    """
    if tokenizer is None:
        return None
    texts = (text for row in sample for text in (row.question, row.answer) if text)
    counts = count_words(tokenizer, texts)
    unknown = unknown_tokens(tokenizer, counts, _TOP)
    words = counts.total()
    wanted = new_pieces(tokenizer, counts, _TOP + len(unknown.words))
    pieces = {word: len(pieces_of(tokenizer, word)) for word in wanted}
    costly = [
        {"word": shown(word), "times": counts[word], "pieces": number} for word, number in pieces.items() if number > 1
    ]
    return {
        "sample_rows": len(sample),
        "words": words,
        "tokens": unknown.num_tokens,
        "tokens_per_word": round(unknown.num_tokens / words, 3) if words else 0.0,
        "unknown_tokens": unknown.num_unknown,
        "unknown_share": share(unknown.num_unknown, unknown.num_tokens),
        "unknown_words": [_unknown_word(word, times) for word, times in unknown.words],
        "costly_words": costly[:_TOP],
    }


def _unknown_word(word: str, times: int) -> dict[str, Any]:
    """Returns a word with the code points of what is no letter: many of these have no picture."""
    codes = [f"U+{ord(character):04X}" for character in dict.fromkeys(word) if not character.isalnum()]
    return {"word": shown(word), "times": times, "code_points": codes}
