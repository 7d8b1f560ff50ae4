"""Follow-up questions: "And in children?" after a question about asthma becomes "In children? (asthma)".

A turn needs the turns before it in four cases:

    it names nothing but an aspect         What are the symptoms?   And in children?
    it points back before it names a thing Is it contagious?        How are these different from a heart attack?
    nothing is near to it alone            Does diet play a role?
    what is near to it alone has topics that it does not name      Can surgery help?

It then gets the topic of the nearest stored answer to the last turn that names one: "it" becomes the topic, or the
topic is added. The last two cases are known only after a search. In the third, the topic counts if the turn points back
or one of its own words stands in what was found; otherwise it is about something that the index does not hold. In the
fourth, the topic counts if all own words stand in the sources on it; otherwise the turn changes the topic.
"""

import dataclasses
import re
from collections.abc import Generator, Sequence

from data_pipeline import cleaning
from data_pipeline.paraphrases import STOP_WORDS
from docproduct.answering import Answer, Query
from docproduct.search.shared_words import alike

# What may be asked about any disease, and words around it. Other words name a topic.
_ASPECTS = frozenset(
    re.findall(
        r"\w+",
        """
    about adult adults after again age aged all also always am any anybody anyone available avoid babies baby bad
    because been before being best better boy boys but called care cause caused causes chance chances child children
    common complications contagious course cure cured dangerous daughter deadly diagnose diagnosed diagnosis different
    do doctor doctors does done dose drugs during effect effects elderly else even ever everyone exactly example
    examples expect explain family far fast father feel find first forms further get gets getting girl girls give
    given go got happen happens harmful harmless he help helps her hers herself him himself his home hospital house
    human husband if im infectious inherited into just kid kids kind kinds know last lasts lead leads leave less let
    like likely long longer made main man many may me mean means medication medications medicine medicines men might
    mine more most mother much must myself need needed never new no nor normal not nothing now often ok okay old older
    once one ones option options other others our out outlook over passed patients people please possible pregnancy
    pregnant prevent prevented prevention prognosis quickly quite rare really reason reasons recognize recover
    recovery remedies remedy risk risks run say see serious she should side sign signs since some someone something
    son soon sort spread stages start still stop sure symptom symptoms take talk test tested tests than thank thanks
    them then therapies therapy these they thing things those though through time too treat treated treatment
    treatments type types us use used uses usual usually vaccine very want way ways well were while whom wife without
    woman women work works worse worst would yes you young younger your
    """,
    )
)
_POINTERS = frozenset(re.findall(r"\w+", "he her him his it its one ones she that their them these they this those"))
_POSSESSIVE = ("its", "their")
_OWNERS = ("her", "his", "their")
_PRONOUN = re.compile(r"\b(it|its|they|them|their|(this|that|these|those)(?=\s*([?.!,]|$)))\b", re.IGNORECASE)
_CONTINUES = re.compile(r"\A(and|but|or|so|then|what about|how about|what if)\b[\s,]*", re.IGNORECASE)
# "that" before a clause joins it: "How do I know that I have gout?"
_JOINS = re.compile(
    r"\bthat(?=\s+(i|you|he|she|it|we|they|my|your|his|her|our|their|a|an|the|some\w*)\b)", re.IGNORECASE
)
_FIRST_HITS = 3  # sources whose topics are compared with a turn
_MOST_TURNS = 4  # earlier turns that are searched for, to find the topic
_WORD = re.compile(r"\w+(?:['\u2019]\w+)*")


Search = Generator[list[Query], Sequence[Answer], Answer]


def search(turns: Sequence[str], k: int | None = None, only_supported: bool = False) -> Search:
    """Yields queries, takes their answers, and returns the answer to reply with; steps.py runs it.

    Args:
      turns: The user's turns, oldest first, the question last.
      k: Number of sources. None: as many as `Query` has by default.
      only_supported: Whether to leave out sentences that the sources do not support.
    """

    def queries(*texts: str) -> list[Query]:
        return [Query(text, k, only_supported=only_supported) for text in texts]

    *earlier, turn = turns
    alone = not earlier or not names_no_topic(turn)
    before = [text for text in reversed(earlier) if not names_no_topic(text)][:_MOST_TURNS]
    answers = yield queries(*([turn] if alone else []), *before)
    own = answers[0] if alone else None
    if own and (not earlier or (own.answerable and _names_its_topic(turn, own))):
        return own
    known = zip(before, answers[alone:], strict=True)
    about = next(((text, answer) for text, answer in known if answer.answerable), None)
    if about:
        text, answer = about
        topic = answer.hits[0].focus
        (joined,) = yield queries(with_topic(turn, topic) if topic else f"{turn} {text}")
        joined = _with_topic_first(joined, f"{turn} {topic}") if topic else joined
        if not own or (_sources_have_words(turn, topic, joined) if own.answerable else _goes_on(turn, joined)):
            return joined
    if own:
        return own
    (answer,) = yield queries(turn)
    return answer


def with_topic(turn: str, topic: str) -> str:
    """Returns a turn that can be understood alone: "How is it treated?" and "gout" give "How is gout treated?"."""
    whole, count = _PRONOUN.subn(lambda match: topic + ("'s" if match[0].casefold() in _POSSESSIVE else ""), turn, 1)
    if count:
        return whole
    rest = _CONTINUES.sub("", turn, 1)
    return f"{rest[:1].upper()}{rest[1:]} ({topic})"


def _with_topic_first(answer: Answer, known: str) -> Answer:
    """Puts sources first whose topic has no other words: Turner syndrome before Parsonage Turner syndrome."""
    words = _words(known) | STOP_WORDS
    hits = tuple(sorted(answer.hits, key=lambda hit: not _words(hit.focus) <= words))
    return dataclasses.replace(answer, hits=hits, answer=hits[0].answer if answer.answerable else answer.answer)


def _names_its_topic(turn: str, answer: Answer) -> bool:
    """Returns whether a turn has a word of the topics of most first hits; a table may know no topics.

    One hit is not enough: "Can surgery help?" finds a page on surgery, and those on operations of all kinds.
    """
    own = frozenset(filter(_is_topical, _words(turn)))
    topics = [frozenset(filter(_is_topical, _words(hit.focus))) for hit in answer.hits[:_FIRST_HITS]]
    named = [not topic or any(alike(word, topic) for word in own) for topic in topics]
    return 2 * sum(named) > len(named)


def _sources_have_words(turn: str, topic: str, answer: Answer) -> bool:
    """Returns whether all own words of a turn stand in those sources of an answer that are on a topic."""
    hits = [hit for hit in answer.hits if cleaning.normal_form(hit.focus) == cleaning.normal_form(topic)]
    source_words = frozenset(_words(" ".join(f"{hit.question} {hit.answer}" for hit in hits)))
    return answer.answerable and all(alike(word, source_words) for word in filter(_is_topical, _words(turn)))


def _goes_on(turn: str, answer: Answer) -> bool:
    """Returns whether a turn points back, goes on with "and", or has a word of its own that stands in the sources."""
    words = list(map(str.casefold, _WORD.findall(turn)))
    if not _POINTERS.isdisjoint(words) or _CONTINUES.match(turn):
        return True
    own = set(filter(_is_topical, words))
    return any(not own.isdisjoint(_words(f"{hit.heading} {hit.answer}")) for hit in answer.hits)


def names_no_topic(turn: str) -> bool:
    """Returns whether a turn names nothing but an aspect, or points back before it names anything."""
    words = list(map(str.casefold, _WORD.findall(_JOINS.sub(" ", turn))))
    for place, word in enumerate(words):
        if word in _OWNERS and any(map(_is_topical, words[place + 1 :])):
            continue  # "their gout" names a topic
        if word in _POINTERS:
            return True
        if _is_topical(word):
            return False
    return True


def _is_topical(word: str) -> bool:
    return len(word) > 1 and word not in STOP_WORDS and word not in _ASPECTS


def _words(text: str) -> set[str]:
    return {word.casefold() for word in _WORD.findall(cleaning.clean(text))}
