"""An answer while the generator writes it: its prompt, and the check of what comes."""

import dataclasses
from typing import NamedTuple

from data_pipeline.prompts.chat_prompts import numbers_last
from docproduct.answering.query import Answer
from docproduct.answering.support import Sentence, SourceCheck
from docproduct.generation.session import Generation


class Draft(NamedTuple):
    """An answer that is being written.

    Attributes:
      answer: The answer with its sources, without the generator's text.
      prompt_ids: Token ids of the generator's prompt.
      check: Checks sentences against the sources in that prompt.
      only_supported: Whether to leave out the sentences that the sources do not support.
      num_left_out: Earlier messages of a conversation that had no room in the prompt.
    """

    answer: Answer
    prompt_ids: list[int]
    check: SourceCheck
    only_supported: bool
    num_left_out: int = 0

    def growing(self, generation: Generation, seconds: float) -> Answer:
        """Returns the answer with the text so far, not yet checked; with `only_supported`, its supported sentences."""
        text = numbers_last(generation.text, finished=False)
        if not self.only_supported:
            return self._with(generation, seconds, text, ())
        shown = self._shown(self.check(text, finished=False))
        return self._with(generation, seconds, _text(shown), shown)

    def complete(self, generation: Generation, seconds: float) -> Answer:
        """Returns the answer with the whole text, every sentence checked; citations of no source are taken out."""
        sentences = self.check(numbers_last(generation.text))
        shown = self._shown(sentences)
        answer = self._with(generation, seconds, _text(shown), shown)
        return dataclasses.replace(answer, num_left_out=len(sentences) - len(shown))

    def _shown(self, sentences: list[Sentence]) -> tuple[Sentence, ...]:
        return tuple(one for one in sentences if not self.only_supported or one.supported or not one.checkable)

    def _with(self, generation: Generation, seconds: float, text: str, sentences: tuple[Sentence, ...]) -> Answer:
        return dataclasses.replace(
            self.answer,
            generated=text.strip(),
            sentences=sentences,
            finished=generation.finished,
            seconds={**self.answer.seconds, "write": seconds},
        )


def _text(sentences: tuple[Sentence, ...]) -> str:
    return "".join(sentence.text for sentence in sentences)
