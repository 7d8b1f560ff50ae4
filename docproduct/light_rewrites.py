"""Sentences that say what a source says in slightly other words: what a check of support must let pass.

Each function takes a sentence with its surroundings and returns the rewritten sentence, or None where its rule finds
nothing to do. The rules keep the meaning in all but a few sentences; they are no paraphrases of a writer.
"""

import random
import re
from collections.abc import Callable
from typing import NamedTuple


class Place(NamedTuple):
    """A sentence of an answer with its surroundings.

    Attributes:
      sentence: The sentence, without blanks around it.
      next_sentence: The sentence behind it; empty if there is none.
      other_sentence: A sentence of another source; empty if there is none.
      question: The question that the answer belongs to.
      focus: The disease or other topic of the pair.
    """

    sentence: str
    next_sentence: str
    other_sentence: str
    question: str
    focus: str


# Pairs of words that may stand for each other; the first one of a pair is looked for.
_SYNONYMS = """
    individuals/people|approximately/about|physician/doctor|physicians/doctors|such as/like|may/can|however,/but
    usually/generally|often/frequently|typically/usually|affected individuals/patients|begin/start|begins/starts
    numerous/many|children/kids|occurs/happens|occur/happen|caused by/due to|is characterized by/is marked by
    results in/leads to|result in/lead to|additional/further|disorder/condition|disease/disorder|illness/disease
    symptoms/signs|medications/medicines|medicines/drugs|a variety of/several|in order to/to|helps/supports
    important/essential|located/found|severe/serious|abnormality/defect|abnormalities/defects|increased/higher
    diagnosed/identified|develop/get|develops/gets|regarding/about|tumor/growth|prior to/before|difficulty/trouble
"""
_CLAUSE = re.compile(r", (?:which|who|where|because|although|while|including|such as|especially|and sometimes) .*$")
_VERB = re.compile(
    r"\b(?:is|are|was|were|can|may|has|have|will|should|must|does|do|cause|affect|include|occur|result)s?\b"
)
_BRACKETS = re.compile(r" \([^()]*\)")
_PRONOUN = re.compile(
    r"(?:It|This (?:condition|disorder|disease|syndrome)|The (?:condition|disorder|disease|syndrome)) (?=\w)"
)
_ITEM = r"(?:[\w-]+ ){0,3}[\w-]+"
_LIST = re.compile(rf"(?P<start>(?:such as|including|include) )(?P<items>{_ITEM}(?:, {_ITEM})+,? and {_ITEM})(?=[.,;])")
_LIST_BREAK = re.compile(r",? (?:and|or) (?=[^,]+$)|, ")
_LEAD_IN = re.compile(r"(?:include|includes|including|such as):? (?:- )?(?P<rest>(?!how\b)\w.{20,})$")
_ASKED = re.compile(r"What (?:are|causes) (?P<asked>(?:the )?(?P<noun>\w+) .+?)[ ?]*$")
_NAME = r"((?:[A-Z]|the |an? )?(?:[\w-]+ ){0,4}[\w-]+)"
_MORE = r"((?:[\w-]+,? ){1,14}[\w-]+)"
_TURNS = (
    (re.compile(rf"^{_NAME} (?:is|are) caused by {_MORE}\.$"), r"\2 cause \1."),
    (re.compile(rf"^{_NAME} (?:is|are) treated with {_MORE}\.$"), r"\2 are used to treat \1."),
    (re.compile(rf"^Mutations in the (\w+) gene cause {_MORE}\.$"), r"\2 is caused by mutations in the \1 gene."),
    (re.compile(rf"^{_NAME} causes? {_MORE}\.$"), r"\2 is caused by \1."),
    (re.compile(rf"^{_NAME} affects? {_MORE}\.$"), r"\2 is affected by \1."),
    (re.compile(rf"^{_NAME} can be (\w+ed) by {_MORE}\.$"), r"\3 can \2 \1."),
    (re.compile(rf"^{_NAME} is inherited in an? ([\w -]+) (?:pattern|manner)\b.*$"), r"The inheritance of \1 is \2."),
    (re.compile(rf"^The (\w+) of (?:the )?{_NAME} is {_MORE}\.$"), r"\3 is the \1 of \2."),
    (
        re.compile(rf"^(?:People|Patients|Individuals) with {_NAME} (?:often |usually )?have {_MORE}\.$"),
        r"\2 is found in people with \1.",
    ),
    (re.compile(rf"^There (?:is|are) no {_MORE} for {_NAME}\.$"), r"\2 has no \1."),
    (re.compile(rf"^{_NAME} is characterized by {_MORE}\.$"), r"The features of \1 are \2."),
)
_NO_NAME = re.compile(
    r"\b(?:is|are|was|were|may|can|that|which|not|of$|estimated|this|these|it|they|however)\b", re.IGNORECASE
)
_FRAMES = ("In short, {}", "According to the sources, {}", "This means that {}", "{}, as the source says.", "Yes, {}")
_PADDING = tuple(
    phrase.strip()
    for line in """
        also|for example,|in general|it is important to note that|various|certain|significantly|overall|in some cases
        as well as others|known as such|specific|proper|particular|actually|comprehensive|a range of|different kinds of
        further|issues with|related|potentially|in many ways|essentially|especially|in particular|which is important
        main|common|in your body|over the course of time|regardless of that|additionally|individual|managing|several
        various types of|effectively|possible|relevant|experience|in addition to that|typically|likely|as a result
        healthcare|being|appropriate|when it comes to this|among others|generally speaking|and so on
    """.strip().splitlines()
    for phrase in line.split("|")
)
_MAY_GO = re.compile(r"(?!not$|no$|never$|without$|than$|nor$|neither$|cannot$|only$|before$|after$|un)[a-z]+")


def copy(place: Place, rng: random.Random) -> str | None:
    """Returns the sentence as it is."""
    return place.sentence


def without_clause(place: Place, rng: random.Random) -> str | None:
    """Leaves out a clause at the end, and what stands in brackets."""
    shorter = _BRACKETS.sub("", _CLAUSE.sub(".", place.sentence, count=1))
    complete = len(shorter.split()) >= 7 and _VERB.search(shorter)
    return shorter if complete and shorter != place.sentence else None


def joined(place: Place, rng: random.Random) -> str | None:
    """Joins the sentence and the next one."""
    return _joined(place.sentence, place.next_sentence, rng)


def joined_sources(place: Place, rng: random.Random) -> str | None:
    """Joins the sentence and one of another source."""
    return _joined(place.sentence, place.other_sentence, rng)


def _joined(sentence: str, other: str, rng: random.Random) -> str | None:
    if len(other.split()) < 4 or not sentence.endswith("."):
        return None
    return f"{sentence[:-1]}{rng.choice((', and ', '; ', ' and '))}{other[0].lower()}{other[1:]}"


def with_focus(place: Place, rng: random.Random) -> str | None:
    """Writes the name of the topic where the sentence begins with a pronoun."""
    return (
        _PRONOUN.sub(f"{place.focus} ".replace("\\", ""), place.sentence, count=1)
        if _PRONOUN.match(place.sentence)
        else None
    )


def reworded(place: Place, rng: random.Random) -> str | None:
    """Replaces up to three words or phrases by others of like meaning."""
    pairs = [pair.split("/") for line in _SYNONYMS.strip().splitlines() for pair in line.strip().split("|")]
    rng.shuffle(pairs)
    text, count = place.sentence, 0
    for word, other in pairs:
        replaced = re.sub(rf"\b{word}(?!\w)", other, text, count=1)
        count += replaced != text
        text = replaced
        if count == 3:
            break
    return text if count else None


def turned(place: Place, rng: random.Random) -> str | None:
    """Turns an active sentence passive, or the other way."""
    for pattern, replacement in _TURNS:
        if (match := pattern.match(place.sentence)) and not any(map(_NO_NAME.search, match.groups()[:-1])):
            turned = match.expand(replacement)
            return turned[0].upper() + turned[1:]
    return None


def led_in(place: Place, rng: random.Random) -> str | None:
    """Puts the words of the question before a list: `The symptoms of asthma include` and the list."""
    match, asked = _LEAD_IN.search(place.sentence), _ASKED.match(place.question)
    if not (match and asked and asked["noun"][:5].lower() in place.sentence.lower()):
        return None
    return f"{asked['asked'][0].upper()}{asked['asked'][1:]} include {match['rest']}"


def reordered(place: Place, rng: random.Random) -> str | None:
    """Writes the items of a list in another order."""
    match = _LIST.search(place.sentence)
    if not match:
        return None
    items = _LIST_BREAK.split(match["items"])
    items = items[1:] + items[:1]
    text = f"{match['start']}{', '.join(items[:-1])} and {items[-1]}"
    return place.sentence[: match.start()] + text + place.sentence[match.end() :]


def framed(place: Place, rng: random.Random) -> str | None:
    """Puts the sentence into a phrase that adds nothing."""
    frame = rng.choice(_FRAMES)
    text = place.sentence if frame.startswith("{") else place.sentence[0].lower() + place.sentence[1:]
    return frame.format(text.removesuffix("."))


def padded(place: Place, rng: random.Random) -> str | None:
    """Puts two or three words and phrases that add little between the words."""
    words = place.sentence.split()
    for _ in range(rng.randint(2, 3)):
        words.insert(rng.randint(1, len(words) - 1), rng.choice(_PADDING))
    return " ".join(words)


def thinned(place: Place, rng: random.Random) -> str | None:
    """Leaves out a quarter of the words, but no negation, number or name."""
    words = place.sentence.split()
    kept = [word for i, word in enumerate(words) if i < 2 or rng.random() > 0.3 or not _MAY_GO.fullmatch(word)]
    return " ".join(kept) if len(words) > len(kept) >= 6 else None


def rewritten(place: Place, rng: random.Random) -> str | None:
    """Rewrites the sentence in three ways, one after the other."""
    text, count = place.sentence, 0
    for rewrite in rng.sample((without_clause, with_focus, reworded, turned, reordered, padded, thinned, framed), 5):
        changed = rewrite(place._replace(sentence=text), rng) if count < 3 else None
        if changed:
            text, count = changed, count + 1
    return text if count > 1 else None


REWRITES: dict[str, Callable[[Place, random.Random], str | None]] = {
    "copy": copy,
    "without a clause": without_clause,
    "two joined": joined,
    "two sources joined": joined_sources,
    "name for a pronoun": with_focus,
    "synonyms": reworded,
    "active and passive": turned,
    "question and list": led_in,
    "list reordered": reordered,
    "framed": framed,
    "padded": padded,
    "thinned": thinned,
    "several rewrites": rewritten,
}
