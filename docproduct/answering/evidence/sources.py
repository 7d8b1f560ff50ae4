"""A sentence beside the sources: one number for each sign of an error.

K signs
"""

import dataclasses
import functools
import heapq
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from data_pipeline.sentences import split_sentences
from docproduct.answering.evidence.gaps import Gaps
from docproduct.answering.evidence.word_weights import WordWeights
from docproduct.answering.evidence.wording import Number, Wording, is_function_word

# The signs are 0 for a sentence that stands word for word in a source, and larger the more speaks against it.
SIGNS = {
    "missing": "weight of its words that the nearest sentence and the question of its source lack, 0 to 1",
    "missing_in_source": "the same for the whole source",
    "names": "number of its names that the nearest sentence and the question lack, 2 at most",
    "names_in_source": "the same for the whole source",
    "other_title": "whether it has a word of another source's question that the nearest sentence lacks",
    "numbers": "number of its numbers that the nearest sentence and the question lack, 2 at most",
    "numbers_in_source": "the same for the whole source",
    "numbers_anywhere": "the same for all sources",
    "number_instead": "whether it has another number at the same place",
    "negation": "whether only one of the two sentences is negated at the same place",
    "opposite": "whether it has the opposite word at the same place",
    "replaced": "weight of the words that stand instead of others and that the nearest sentence lacks, 2 at most",
    "replaced_nearby": "weight of the words in short gaps that stand instead of others, 2 at most",
    "scattered": "share of it outside the longest run of words that it has in common with the nearest sentence",
}
_MOST = 2  # of a number of names, or of a weight: more of them say no more
_TELLING = 0.3  # weight of a word that is worth naming
_NEAREST = 2  # sentences of each source that are looked at closely
_FURTHER = 0.1  # share of a sentence's weight: what lacks more than this beyond the nearest one is no evidence
_GAIN = 0.7  # weight that two sentences together must cover beyond each alone
_QUESTION_WEIGHT = 0.7  # of words that only the question of a source has
# Words of questions that name no topic.
_ASKING_KEYS = Wording(
    "symptom treatment cause inherited affected outlook prevent genetic change related diagnosis people many risk type "
    "disease syndrome condition disorder medicine help helps cure"
).keys
_LIST_MARK = re.compile(r"^\s*(?:[-•*]\s+)?(?:\d{1,2}[.)]\s+)?")


class SourceSentence(NamedTuple):
    """One sentence of a source, or two that follow each other.

    Attributes:
      source: Place of the source, from 0.
      text: The sentence without its list mark.
      wording: Its words.
      keys: The keys of its words.
      parts: The two sentences that it joins, as places among all; empty for one sentence.
    """

    source: int
    text: str
    wording: Wording
    keys: frozenset[str]
    parts: tuple[int, ...] = ()


@dataclasses.dataclass
class Evidence:
    """A sentence beside the nearest sentence of a source.

    Attributes:
      nearest: The sentence of the source.
      signs: [K] float, the values of SIGNS.
      missing_numbers: The numbers that the source lacks here.
      missing_words: Words with weight that the nearest sentence lacks, as they are written, in their order.
      other_topic: The words that only the question of another source has; empty if there are none.
      contradictions: Pairs of words that stand at the same place, the source's first.
    """

    nearest: SourceSentence
    signs: np.ndarray
    missing_numbers: tuple[Number, ...]
    missing_words: tuple[str, ...]
    other_topic: str
    contradictions: tuple[tuple[str, str], ...]

    def sign(self, name: str) -> float:
        """Returns the value of one of SIGNS."""
        return float(self.signs[list(SIGNS).index(name)])


def without_list_mark(text: str) -> str:
    """Returns a sentence without the mark or number of a list item before it."""
    return _LIST_MARK.sub("", text.strip())


class SourceTexts:
    """The sources of a prompt, ready to be compared with sentences."""

    def __init__(self, sources: Sequence[tuple[str, str]], weights: WordWeights):
        """Takes question and answer of each source."""
        self._weights = weights
        self._questions = [Wording(question) for question, _ in sources]
        self._wholes = [Wording(f"{question}\n{answer}") for question, answer in sources]
        self._whole_keys = [frozenset(whole.keys) for whole in self._wholes]
        self._all_numbers = frozenset(number for whole in self._wholes for number in whole.numbers)
        self._topics = [self._topic_keys(place) for place in range(len(sources))]
        self._sentences: list[SourceSentence] = []
        for place, (_, answer) in enumerate(sources):
            self._add(place, map(without_list_mark, split_sentences(answer)))

    def _add(self, source: int, sentences: Iterator[str]) -> None:
        """Adds the sentences of a source but its questions, alone and each with the next."""
        before = None
        for text in sentences:
            if not text or text.endswith(("?", "？")):
                before = None
                continue
            single = len(self._sentences)
            self._sentences.append(_source_sentence(source, text))
            if before is not None:
                both = f"{self._sentences[before].text} {text}"
                self._sentences.append(_source_sentence(source, both, (before, single)))
            before = single

    def _topic_keys(self, place: int) -> frozenset[str]:
        """Returns the keys of the words that tell a source's question from the questions of the others."""
        shared = [keys for other, keys in enumerate(self._question_keys) if other != place]
        words = self._question_keys[place].difference(_ASKING_KEYS, *shared)
        return frozenset(key for key in words if not is_function_word(key))

    @functools.cached_property
    def _question_keys(self) -> list[frozenset[str]]:
        return [frozenset(question.keys) for question in self._questions]

    def title(self, place: int) -> str:
        """Returns the words of a source's question that name its topic."""
        question = self._questions[place]
        naming = [i for i, key in enumerate(question.keys) if self._weights(key) and key not in _ASKING_KEYS]
        return " ".join(question.words[naming[0] : naming[-1] + 1]) if naming else ""

    def evidence(self, sentence: Wording) -> list[Evidence]:
        """Returns the sentence beside the nearest sentences of each source.

        A sentence that lacks many more of its words than another is left out: a wrong number is found only beside the
        sentence that has the right one.
        """
        found = [self._beside(sentence, nearest) for nearest in self._nearest(sentence)]
        least = min((one.sign("missing") for one in found), default=0.0)
        return [one for one in found if one.sign("missing") <= least + _FURTHER]

    def _nearest(self, sentence: Wording) -> list[SourceSentence]:
        """Returns the sentences of each source that cover most of a sentence's words."""
        weights = {key: self._weights(key) for key in sentence.keys}
        cover = [self._cover(weights, candidate) for candidate in self._sentences]
        of_source: list[list[tuple[float, int, str, int]]] = [[] for _ in self._questions]
        for place, candidate in enumerate(self._sentences):
            if candidate.parts and cover[place] < max(cover[part] for part in candidate.parts) + _GAIN:
                continue
            # Among equal ones the shortest comes first, so that a copied sentence meets itself.
            of_source[candidate.source].append((cover[place], -len(candidate.keys), candidate.text, place))
        best = (heapq.nlargest(_NEAREST, candidates) for candidates in of_source)
        return [self._sentences[place] for chosen in best for *_, place in chosen]

    def _cover(self, weights: Mapping[str, float], candidate: SourceSentence) -> float:
        asked = self._question_keys[candidate.source]
        return sum(
            weight * (1 if key in candidate.keys else _QUESTION_WEIGHT if key in asked else 0)
            for key, weight in weights.items()
        )

    def _beside(self, sentence: Wording, nearest: SourceSentence) -> Evidence:
        source, weights = nearest.source, self._weights
        here = nearest.keys | self._question_keys[source]
        whole = self._whole_keys[source]
        numbers_here = {*nearest.wording.numbers, *self._questions[source].numbers}
        others = frozenset().union(*(title for i, title in enumerate(self._topics) if i != source)) - here
        names = {key for i, key in enumerate(sentence.keys) if weights.is_name(sentence.words[i], key, is_first=not i)}
        total = weights.of(sentence.keys) or 1.0
        gaps = Gaps(sentence, nearest.wording, self._question_keys[source], weights)
        missing_numbers = _missing(sentence, numbers_here)
        signs = {
            "missing": weights.of([key for key in sentence.keys if key not in here]) / total,
            "missing_in_source": weights.of([key for key in sentence.keys if key not in whole]) / total,
            "names": min(_MOST, len(names - here)),
            "names_in_source": min(_MOST, len(names - whole)),
            "other_title": float(not others.isdisjoint(sentence.keys)),
            "numbers": min(_MOST, len(missing_numbers)),
            "numbers_in_source": min(_MOST, len(_missing(sentence, self._wholes[source].numbers))),
            "numbers_anywhere": min(_MOST, len(_missing(sentence, self._all_numbers))),
            **{name: min(_MOST, value) for name, value in gaps.signs().items()},
        }
        words = list(zip(sentence.words, sentence.keys, strict=True))
        return Evidence(
            nearest,
            np.array([signs[name] for name in SIGNS], float),
            tuple(missing_numbers),
            tuple(dict.fromkeys(word for word, key in words if key not in here and weights(key) > _TELLING)),
            " ".join(word for word, key in words if key in others),
            tuple(gaps.contradictions),
        )


def _source_sentence(source: int, text: str, parts: tuple[int, ...] = ()) -> SourceSentence:
    wording = Wording(text)
    return SourceSentence(source, text, wording, frozenset(wording.keys), parts)


def _missing(sentence: Wording, numbers: Collection[Number]) -> list[Number]:
    return [number for number in sentence.claims if not number.is_in(numbers)]
