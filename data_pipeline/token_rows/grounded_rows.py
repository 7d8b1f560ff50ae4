"""Makes rows that teach a chat model to answer from numbered sources, and from nothing else.

    own           the sources hold the pair's answer, which is to be copied, with its number
    joined        two questions at once: the answers of two sources, each with its number
    unanswerable  no source holds the answer: the target is `REFUSAL`

A target holds only what stands in the prompt: sentences that the prompt has no room for are not learned.
"""

import random
from collections.abc import Sequence

from data_pipeline.paraphrases import paraphrased
from data_pipeline.prompts.answer_prompts import Prompt, PromptSettings, answer_prompt, target
from data_pipeline.prompts.chat_prompts import REFUSAL, TextPair, cited
from data_pipeline.prompts.room import first_sentences
from data_pipeline.tokenizers import DecoderTokenizer

KINDS = OWN, JOINED, UNANSWERABLE = ("own", "joined", "unanswerable")
_FIRST_SHARE = (
    0.6  # of own rows have their own pair first, where retrieval mostly puts it; in the others it is anywhere
)
CITATION_TOKENS = 8  # tokens of room for the number of a source and the end
_JOINS = ("{a} {b}", "{a} Also: {b}", "{b} {a}", "{a} And {b}")

Row = tuple[list[int], list[int]]  # ids of prompt and target


class GroundedRows:
    """Makes rows of pairs and of what was retrieved for them. Equal arguments give equal rows."""

    def __init__(self, tokenizer: DecoderTokenizer, settings: PromptSettings, paraphrase_share: float):
        """Takes how rows are made.

        Args:
          tokenizer: of a model with a chat template.
          settings: size of the prompts.
          paraphrase_share: share of rows whose question is in other words than the pair's.
        """
        self._tokenizer, self._settings, self._paraphrase_share = tokenizer, settings, paraphrase_share

    def own(self, pair: TextPair, others: Sequence[TextPair], draw: random.Random, question: str | None = None) -> Row:
        """Returns a row whose sources are the pair and others; the target is the pair's answer.

        Args:
          pair: as it stands among the sources.
          others: further sources.
          draw: decides what is left to chance.
          question: is asked instead of the pair's own, as it is; by default, the pair's own is asked, in other words in
            `paraphrase_share` of the rows.
        """
        place = (
            0 if draw.random() < _FIRST_SHARE else draw.randrange(len(others[: self._settings.num_contexts - 1]) + 1)
        )
        sources = [*others[:place], pair, *others[place : self._settings.num_contexts - 1]]
        asked = question if question and question != pair[0] else self._asked(pair[0], draw)
        prompt = self._prompt(asked, sources)
        return prompt.ids, self._target(prompt, [place])

    def joined(self, pair: TextPair, partner: TextPair, others: Sequence[TextPair], draw: random.Random) -> Row:
        """Returns a row that asks a pair's question and its partner's at once; the target holds both answers."""
        sources = [pair, partner, *others[: self._settings.num_contexts - 2]]
        order = list(range(len(sources)))
        draw.shuffle(order)
        asked = draw.choice(_JOINS).format(a=self._asked(pair[0], draw), b=self._asked(partner[0], draw))
        prompt = self._prompt(asked, [sources[i] for i in order])
        return prompt.ids, self._target(prompt, sorted(order.index(i) for i in (0, 1)))

    def unanswerable(self, question: str, others: Sequence[TextPair], draw: random.Random) -> Row:
        """Returns a row whose sources do not answer the question; the target says so."""
        prompt = self._prompt(self._asked(question, draw), others)
        return prompt.ids, self._target(prompt, [])

    def _asked(self, question: str, draw: random.Random) -> str:
        return paraphrased(question, draw) if draw.random() < self._paraphrase_share else question

    def _prompt(self, question: str, sources: Sequence[TextPair]) -> Prompt:
        return answer_prompt(self._tokenizer, self._settings, question, sources)

    def _target(self, prompt: Prompt, places: Sequence[int]) -> list[int]:
        """Returns the answers of the sources at some places, each with its number, in as many sentences as fit."""
        places = [place for place in places if place < len(prompt.sources)]
        room = self._settings.answer_tokens
        parts = [
            cited(i + 1, first_sentences(self._tokenizer, prompt.sources[i][1], room // len(places) - CITATION_TOKENS))
            for i in places
        ]
        return target(self._tokenizer, "\n".join(parts) or REFUSAL, room)
