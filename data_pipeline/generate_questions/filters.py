"""Drops questions that can be read but are of no use: filters that need no model. docproduct adds others."""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from data_pipeline import cleaning
from data_pipeline.generate_questions.answers import Item
from data_pipeline.prepare.duplicates import NearDuplicates, signatures
from data_pipeline.rows import Passage

SPEAKS_OF_PASSAGE = "it speaks of the passage, which nobody sees"
EQUAL, NEAR = "an earlier question is equal", "an earlier question is nearly equal"
_TEXTS = r"(?:passage|text|excerpt|article|paragraph|document|author)s?"
_TEXTES = r"(?:passage|texte|extrait|article|paragraphe|document)"
_OF_PASSAGE = re.compile(
    rf"\b(?:according to|in|from|by|on) (?:the|this) (?:above |given |following )?{_TEXTS}\b(?! of\b)"
    rf"|\b(?:the|this) {_TEXTS} (?:about|says?|states?|mentions?|describes?|discuss(?:es)?|suggests?|explains?)\b"
    rf"|\bof (?:the|this) {_TEXTS}\s*(?:[?.!]|$)"
    r"|\b(?:this|the present) (?:study|paper|research|investigation|trial|report)\b"
    r"|\bthe current (?:study|paper|investigation|trial|report)\b"
    r"|\bthe (?:study|paper|authors|current research)\b(?! (?:of|on|that|which|who)\b)"
    rf"|\b(?:d['’]après|selon|dans) (?:le |ce |cet |l['’]){_TEXTES}\b(?! (?:de|du|des|d['’])\b)"
    r"|\b(?:cette étude|les auteurs)\b",
    re.IGNORECASE,
)


class Candidate(NamedTuple):
    """A question or series, and the passage that it was made from.

    Attributes:
      passage_id: the passage's id.
      passage: the passage.
      item: the question or series.
    """

    passage_id: str
    passage: Passage
    item: Item

    @property
    def asked(self) -> str:
        """The case and the questions."""
        return "\n".join([self.item.case, *(step.question for step in self.item.steps)]).strip()

    @property
    def text(self) -> str:
        """The case, and the questions with their right choices: what makes it another one than others."""
        return "\n".join([self.asked, *(choice for step in self.item.steps for choice in step.right)])


# Candidates in their order -> for each why it is dropped, empty if it is kept.
Filter = Callable[[Sequence[Candidate]], list[str]]


def speaking_of_passage(candidates: Sequence[Candidate]) -> list[str]:
    """A `Filter` of questions such as "What does the text say?"."""
    return [SPEAKS_OF_PASSAGE if _OF_PASSAGE.search(candidate.asked) else "" for candidate in candidates]


def repeated(threshold: float) -> Filter:
    """Returns a filter of questions that an earlier one repeats, with the same right choices.

    Args:
      threshold: Jaccard similarity of the word triples from which two are nearly equal.
    """

    def reasons(candidates: Sequence[Candidate]) -> list[str]:
        near, seen, found = NearDuplicates(threshold), set[str](), []
        texts = ["\n".join(map(cleaning.normal_form, candidate.text.splitlines())) for candidate in candidates]
        for number, (text, signature) in enumerate(zip(texts, signatures(texts), strict=True)):
            is_new = text not in seen
            found.append("" if is_new and near.add(number, signature) else NEAR if is_new else EQUAL)
            seen.add(text)
        return found

    return reasons


def select(
    candidates: Sequence[Candidate], filters: Sequence[Filter]
) -> tuple[list[Candidate], list[tuple[Candidate, str]]]:
    """Returns the candidates that pass all filters, and the others with the reason of the first that they fail."""
    kept, dropped = list(candidates), []
    for reasons_of in filters:
        judged = list(zip(kept, reasons_of(kept), strict=True)) if kept else []
        dropped += [(candidate, reason) for candidate, reason in judged if reason]
        kept = [candidate for candidate, reason in judged if not reason]
    return kept, dropped
