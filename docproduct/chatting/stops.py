"""Texts at which writing stops: `stop` of OpenAI's routes."""

import dataclasses
from collections.abc import Sequence

from docproduct.generation.session import Generation


class Stops:
    """Cuts what a model writes before the first stop."""

    def __init__(self, texts: Sequence[str] = ()):
        """Takes the stops.

        Raises:
          ValueError: One of them is empty.
        """
        if "" in texts:
            raise ValueError("stop holds an empty text. Expected texts of one character or more.")
        self._texts = tuple(texts)

    def cut(self, generation: Generation, is_last: bool = False) -> Generation:
        """Returns the text before the first stop, finished if there is one.

        While a text grows, an end that may begin a stop is held back; not if it `is_last`.
        """
        text = generation.text
        places = [place for stop in self._texts if (place := text.find(stop)) >= 0]
        if places:
            return dataclasses.replace(generation, text=text[: min(places)], finished=True)
        if generation.finished or is_last:
            return generation
        return dataclasses.replace(generation, text=text[: len(text) - self._begun(text)])

    def _begun(self, text: str) -> int:
        """Returns the number of characters at the end of a text that may begin a stop."""
        ends = [n for stop in self._texts for n in range(1, min(len(stop), len(text) + 1)) if text.endswith(stop[:n])]
        return max(ends, default=0)
