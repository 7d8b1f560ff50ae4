"""How much a word says, and which words are names."""

import math
from collections.abc import Iterable, Mapping

from docproduct.answering.evidence.wording import is_function_word


class WordWeights:
    """How much the words of a text say."""

    def __init__(self, common: Mapping[str, float]):
        """Takes the weights of common words by their keys, 0 to 1; other words weigh 1, function words nothing."""
        self._common = common

    def __call__(self, key: str) -> float:
        """Returns the weight of a word by its key."""
        return 0.0 if is_function_word(key) else self._common.get(key, 1.0)

    def of(self, keys: Iterable[str]) -> float:
        """Returns the weight of several words together, the same in any order."""
        return math.fsum(map(self, keys))

    def is_name(self, word: str, key: str, is_first: bool) -> bool:
        """Returns whether a word is a name: of letters and figures, or capitalized inside a sentence and not common."""
        if is_function_word(key) or key in self._common or word.isdigit():
            return False
        letters_and_figures = any(map(str.isdigit, word)) or sum(map(str.isupper, word)) > 1
        return letters_and_figures or (word[0].isupper() and not is_first)
