"""Which sentences make a statement that sources can support."""

import re

from docproduct.answering.evidence.word_weights import WordWeights
from docproduct.answering.evidence.wording import Wording

_LEAST_WEIGHT = 0.5  # of the words of a statement: `Symptoms include:` has less
_LONGEST_REFUSAL = 20  # words: a longer sentence says something beside the refusal
_NOT = r"\b(?:not|no|nothing|cannot|\w+n't)\b"
_SOURCES = r"\bthe (?:given |provided |retrieved )?(?:sources?|texts?|documents?|context)\b(?! of\b)"
_REFUSAL = re.compile(
    rf"{_SOURCES}[^,;]{{0,40}}{_NOT}|{_NOT}[^,;]{{0,40}}{_SOURCES}|\bno (?:\w+ ){{0,2}}information\b"
    r"|\bI (?:do not|don't|cannot|can't) (?:know|say|answer)\b"
    r"|\bQuellen\b.{0,40}\b(?:nicht|nichts|keine?)\b|\blas fuentes no\b|\bles sources ne\b"
    r"|(?:资料|来源|文中).{0,8}(?:没有|未)|无法回答",
    re.IGNORECASE,
)
_ADVICE = re.compile(
    r"(?:please |always |you should |it is best to )*(?:talk|speak|consult|contact|ask|see|check)\b.{0,40}"
    r"\b(?:doctor|physician|pharmacist|health ?care (?:provider|professional)|medical professional)\b.{0,60}",
    re.IGNORECASE,
)


def is_checkable(sentence: str, wording: Wording, weights: WordWeights) -> bool:
    """Returns whether a sentence makes a statement.

    Refusals, questions, the advice to see a doctor, and sentences of hardly any content, such as headings, do not.

    Args:
      sentence: The sentence without citations and list mark.
      wording: Its words.
      weights: How much its words say.
    """
    if sentence.endswith(("?", "？")):
        return False
    if wording.claims:
        return True
    is_short = len(wording.words) <= _LONGEST_REFUSAL
    if is_short and (_REFUSAL.search(sentence) or _ADVICE.fullmatch(sentence)):
        return False
    return weights.of(set(wording.keys)) >= _LEAST_WEIGHT
