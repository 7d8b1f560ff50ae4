"""Plants errors into sentences of answers, to fit and to judge the check of support (docproduct/answering/support.py).

Each planted sentence comes with the sources that stood in the prompt: an excerpt of the answer that the sentence is
from, an excerpt of another answer about the same topic where there is one, and excerpts about other topics. The
same seed gives the same sentences.
"""

import dataclasses
import random
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data_pipeline import cleaning
from data_pipeline.rows import Pair
from data_pipeline.sentences import split_sentences
from docproduct.light_rewrites import REWRITES, Place

_EXCERPT_WORDS = 200
_SHORTEST, _LONGEST = 6, 45  # words of a sentence that is used
_NUMBER = re.compile(
    r"(?<![\w.,-])\d+(?:,\d{3})*(?:\.\d+)?(?![\w,.-]*\w)|\b(?:two|three|four|five|six|seven|eight|nine|ten)\b"
)
_LETTERS = re.compile(r"\w+")
_NUMBER_WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_UNITS = (
    ("mg", "g"), ("mcg", "mg"), ("days", "years"), ("day", "year"), ("weeks", "months"), ("week", "month"),
    ("hours", "days"), ("minutes", "hours"), ("years", "months"), ("year", "month"), ("months", "days"),
    ("inches", "feet"), ("pounds", "grams"), ("cm", "mm"), ("inches", "cm"),
)  # fmt: skip
_AUXILIARY = re.compile(r"\b(is|are|was|were|can|may|should|will|could|must|would|has been|have been)\b(?! not)")
_NEGATED = (
    (re.compile(r"\b(is|are|was|were|should|will|could|must|may|would) not\b"), r"\1"),
    (re.compile(r"\bcannot\b"), "can"),
    (re.compile(r"\b(?:does|do|did) not (?=\w)"), ""),
    (re.compile(r"\b(does|do|did|is|are|was|were|would|should|could)n't\b"), r"\1"),
    (re.compile(r"\bnever\b"), "always"),
    (re.compile(r"\bwithout\b"), "with"),
    (re.compile(r"\bno (?=\w)"), "a "),
)
# Of these the check knows the first list; the second shows how it fares with words it does not know.
_OPPOSITES = """increases/decreases increase/decrease increased/decreased more/less higher/lower high/low common/rare
    rarely/often recessive/dominant dominant/recessive before/after early/late severe/mild mild/severe males/females
    women/men men/women most/few large/small benign/malignant positive/negative upper/lower slow/rapid"""
_OTHER_OPPOSITES = """affected/spared healthy/sick outside/within birth/death winter/summer dry/moist causes/relieves
    tall/stocky lungs/kidneys brain/liver muscles/bones skin/heart blood/urine eyes/ears hands/knees bacteria/viruses
    mother/uncle permanent/temporary damage/repair loss/growth surgery/hypnosis weakness/strength pain/pleasure
    infants/retirees slowly/suddenly enlarged/shrunken widened/narrowed fatal/harmless inherited/acquired
    tumors/allergies"""
_GENE = re.compile(r"\b[A-Z][A-Z0-9]*\d[A-Z0-9]*\b|\b[A-Z]{3,7}\b(?= gene)")
_DRUG = re.compile(
    r"\b[A-Za-z][a-z]{2,}(?:cillin|mycin|statin|mab|nib|pril|olol|azole|sone|lone|vir|platin|bicin|taxel|cycline|floxacin"
    r"|dipine|sartan|azepam|triptan|gliptin|parin|profen|metformin|trexate|phosphamide|zepam|idone|oxetine|traline)\b"
)


class Context(NamedTuple):
    """What the planting functions draw on.

    Attributes:
      place: The sentence and its surroundings.
      focuses: The topic of each other source.
      other_focuses: Topics of the corpus.
      genes: Gene symbols of the corpus.
      drugs: Drug names of the corpus.
    """

    place: Place
    focuses: Sequence[str]
    other_focuses: Sequence[str]
    genes: Sequence[str]
    drugs: Sequence[str]


@dataclasses.dataclass(frozen=True)
class Planted:
    """A sentence and the sources of its prompt.

    Attributes:
      text: The sentence.
      sources: Question and answer of each source.
      supported: Whether the sources support it.
      kind: What was done to it, a key of REWRITES or ERRORS, or OTHER_ANSWER or SAME_TOPIC.
    """

    text: str
    sources: tuple[tuple[str, str], ...]
    supported: bool
    kind: str


def number(context: Context, rng: random.Random) -> str | None:
    """Changes a number."""
    matches = list(_NUMBER.finditer(context.place.sentence))
    if not matches:
        return None
    match = rng.choice(matches)
    if match[0] in _NUMBER_WORDS:
        other = rng.choice([word for word in _NUMBER_WORDS if word != match[0]])
    else:
        value = float(match[0].replace(",", ""))
        changed = rng.choice((2 * value, value + rng.randint(1, 9), 10 * value, 3 * value + 1))
        other = f"{changed:,.10g}" if "," in match[0] else f"{changed:.10g}"
    return _with(context.place.sentence, match, other)


def unit(context: Context, rng: random.Random) -> str | None:
    """Changes the unit of a number."""
    pairs = [pair for pair in _UNITS for pair in (pair, pair[::-1])]
    found = [
        (match, other)
        for one, other in pairs
        for match in re.finditer(
            rf"(?<=\d )\b{one}\b|(?<=\d){one}\b|(?<=(?:two|ree|our|ive|six|ven|ght|ine|ten) ){one}\b",
            context.place.sentence,
        )
    ]
    return _with(context.place.sentence, *rng.choice(found)) if found else None


def negation(context: Context, rng: random.Random) -> str | None:
    """Takes a negation out, or puts one in."""
    sentence = context.place.sentence
    for pattern, replacement in _NEGATED:
        if pattern.search(sentence):
            return pattern.sub(replacement, sentence, count=1)
    return _AUXILIARY.sub(r"\1 not", sentence, count=1) if _AUXILIARY.search(sentence) else None


def focus_of_source(context: Context, rng: random.Random) -> str | None:
    """Writes the topic of another source instead of the sentence's own."""
    return _other_focus(context, context.focuses, rng)


def focus_from_elsewhere(context: Context, rng: random.Random) -> str | None:
    """Writes a topic that no source has instead of the sentence's own."""
    return _other_focus(context, context.other_focuses, rng)


def name(context: Context, rng: random.Random) -> str | None:
    """Writes another gene or drug."""
    for pattern, names in ((_GENE, context.genes), (_DRUG, context.drugs)):
        match = pattern.search(context.place.sentence)
        others = [other for other in names if match and other.lower() != match[0].lower()]
        if others:
            return context.place.sentence.replace(match[0], rng.choice(others))
    return None


def opposite(context: Context, rng: random.Random) -> str | None:
    """Writes the opposite of a word, of those that the check knows."""
    return _swapped(context.place.sentence, _OPPOSITES, rng)


def other_word(context: Context, rng: random.Random) -> str | None:
    """Writes another word of the same sort, of those that the check does not know as opposites."""
    return _swapped(context.place.sentence, _OTHER_OPPOSITES, rng)


ERRORS: dict[str, Callable[[Context, random.Random], str | None]] = {
    "number": number,
    "unit": unit,
    "negation": negation,
    "topic of another source": focus_of_source,
    "topic from elsewhere": focus_from_elsewhere,
    "gene or drug": name,
    "opposite": opposite,
    "other word": other_word,
}
OTHER_ANSWER, SAME_TOPIC = "other answer", "same topic, other answer"


class Planter:
    """Plants errors into the answers of a corpus."""

    def __init__(self, pairs: Sequence[Pair], seed: int = 0):
        """Takes pairs with a focus; others are left out.

        Raises:
          ValueError: there are fewer than three topics.
        """
        self._pairs = [pair for pair in pairs if pair.focus.strip()]
        self._of_focus: dict[str, list[Pair]] = defaultdict(list)
        self._of_form: dict[str, list[Pair]] = defaultdict(list)
        for pair in self._pairs:
            self._of_focus[pair.focus].append(pair)
            self._of_form[_form(pair)].append(pair)
        if len(self._of_focus) < 3:
            raise ValueError(f"The pairs have {len(self._of_focus)} topics; expected three or more, in a column focus.")
        text = "\n".join(pair.answer for pair in self._pairs)
        self._genes, self._drugs = (sorted(set(pattern.findall(text))) for pattern in (_GENE, _DRUG))
        self._seed = seed

    def __call__(self, num_places: int) -> list[Planted]:
        """Returns the planted sentences of `num_places` sentences, each rewritten and spoiled in all ways that fit."""
        rng, planted = random.Random(self._seed), []
        for _ in range(num_places):
            planted += self._at(rng.choice(self._pairs), rng)
        return planted

    def _at(self, pair: Pair, rng: random.Random) -> list[Planted]:
        sentences = [sentence.strip() for sentence in split_sentences(pair.answer)]
        usable = [i for i, sentence in enumerate(sentences) if _usable(sentence)]
        if not usable:
            return []
        chosen = rng.choice(usable)
        following = sentences[chosen + 1] if chosen + 1 < len(sentences) else ""
        others = self._other_sources(pair, rng)
        sources = [(pair.question, _excerpt(sentences, chosen)), *((p.question, _excerpt_of(p, rng)) for p in others)]
        other = [sentence for sentence in map(str.strip, split_sentences(sources[-1][1])) if _usable(sentence)]
        place = Place(sentences[chosen], following, rng.choice(other) if other else "", pair.question, pair.focus)
        rng.shuffle(sources)
        context = Context(
            place,
            [p.focus for p in others if p.focus != pair.focus],
            rng.sample(sorted(self._of_focus), 3),
            self._genes,
            self._drugs,
        )
        made = [(kind, rewrite(place, rng), True) for kind, rewrite in REWRITES.items()]
        made += [(kind, spoil(context, rng), False) for kind, spoil in ERRORS.items()]
        foreign = {OTHER_ANSWER: self._other_answer(pair, others, rng), SAME_TOPIC: self._same_topic(pair, others, rng)}
        made += [(kind, text, False) for kind, text in foreign.items() if text and not _resembles(text, sources)]
        return [
            Planted(text, tuple(sources), supported, kind)
            for kind, text, supported in made
            if text and (supported or not _stands_in(text, sources))
        ]

    def _other_sources(self, pair: Pair, rng: random.Random) -> list[Pair]:
        """Returns a pair of the same topic, if there is one, and one or two of other topics, of the same form first."""
        same = [other for other in self._of_focus[pair.focus] if other.answer != pair.answer]
        chosen = [rng.choice(same)] if same else []
        alike = [other for other in self._of_form[_form(pair)] if other.focus != pair.focus] or self._pairs
        while len(chosen) < 3 and len({p.focus for p in chosen} - {pair.focus}) < 2:
            other = rng.choice(alike)
            if other.focus == pair.focus or other in chosen:
                other = rng.choice(self._pairs)
            if other.focus != pair.focus and other not in chosen:
                chosen.append(other)
        return chosen

    def _other_answer(self, pair: Pair, sources: Sequence[Pair], rng: random.Random) -> str | None:
        """Returns a sentence about a topic that no source has."""
        other = rng.choice(self._pairs)
        return None if other.focus in {pair.focus, *(p.focus for p in sources)} else _sentence(other, rng)

    def _same_topic(self, pair: Pair, sources: Sequence[Pair], rng: random.Random) -> str | None:
        """Returns a sentence of an answer about the same topic that is no source."""
        others = [other for other in self._of_focus[pair.focus] if other not in (pair, *sources)]
        return _sentence(rng.choice(others), rng) if others else None


def _usable(sentence: str) -> bool:
    return sentence.endswith((".", "。")) and _SHORTEST <= len(sentence.split()) <= _LONGEST


def _sentence(pair: Pair, rng: random.Random) -> str | None:
    sentences = [sentence for sentence in map(str.strip, split_sentences(pair.answer)) if _usable(sentence)]
    return rng.choice(sentences) if sentences else None


def _form(pair: Pair) -> str:
    """Returns the question without its topic."""
    return pair.question.casefold().replace(pair.focus.casefold(), "")


def _excerpt(sentences: Sequence[str], chosen: int) -> str:
    """Returns the sentences around one of them, and as many as an excerpt holds."""
    first = last = chosen
    num_words = len(sentences[chosen].split())
    while num_words < _EXCERPT_WORDS and (first > 0 or last + 1 < len(sentences)):
        if last + 1 < len(sentences):
            last += 1
            num_words += len(sentences[last].split())
        if first > 0 and num_words < _EXCERPT_WORDS:
            first -= 1
            num_words += len(sentences[first].split())
    return "\n".join(sentences[first : last + 1])


def _excerpt_of(pair: Pair, rng: random.Random) -> str:
    sentences = [sentence.strip() for sentence in split_sentences(pair.answer)]
    return _excerpt(sentences, rng.randrange(len(sentences)))


def _stands_in(text: str, sources: Sequence[tuple[str, str]]) -> bool:
    return any(cleaning.normal_form(text) in cleaning.normal_form(answer) for _, answer in sources)


def _resembles(text: str, sources: Sequence[tuple[str, str]]) -> bool:
    """Returns whether one sentence of a source, with its question, has four in five of the words."""
    words = set(_LETTERS.findall(text.casefold()))
    return any(
        len(words & set(_LETTERS.findall(f"{question} {sentence}".casefold()))) >= 0.8 * len(words)
        for question, answer in sources
        for sentence in split_sentences(answer)
    )


def _other_focus(context: Context, focuses: Sequence[str], rng: random.Random) -> str | None:
    own = context.place.focus
    others = [
        focus for focus in focuses if focus.casefold() not in own.casefold() and own.casefold() not in focus.casefold()
    ]
    match = re.search(rf"\b{re.escape(own)}\b", context.place.sentence, re.IGNORECASE)
    if not (match and others):
        return None
    return re.sub(re.escape(own), lambda _: rng.choice(others), context.place.sentence, flags=re.IGNORECASE)


def _swapped(sentence: str, pairs: str, rng: random.Random) -> str | None:
    found = [
        (match, other)
        for one, other in (pair.split("/") for pair in pairs.split())
        for match in re.finditer(rf"\b{one}\b", sentence)
    ]
    return _with(sentence, *rng.choice(found)) if found else None


def _with(sentence: str, match: re.Match[str], other: str) -> str:
    """Returns a sentence with something else where the match stands."""
    return sentence[: match.start()] + other + sentence[match.end() :]
