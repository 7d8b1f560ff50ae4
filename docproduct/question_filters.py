"""Drops generated questions that their passage does not answer, and near duplicates in other words.

Two ways to tell that a passage answers a question. The check of sentences (answering/support.py) looks for the right
choices, or for each sentence of an open answer, in the passage. A retriever looks for the passage by the question, as
in the round trip of "Promptagator" (Dai et al. 2022, arXiv 2209.11755): it must be among the first of all passages.

    Q questions, P passages, D width
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from data_pipeline.generate_questions.filters import Candidate, Filter
from data_pipeline.rows import Passage
from docproduct.answering.support import SourceCheck, SupportChecker
from docproduct.systems.retriever import TrainedRetriever

NOT_SUPPORTED = "the passage does not say the answer"
NOT_FOUND = "the passage is not found by the question"
ALIKE = "an earlier question is alike (cosine)"
_CHUNK = 1_024  # questions whose scores are in memory together
_WORD = re.compile(r"\w+")
_LETTER = re.compile(r"(?<=\w )[A-Z]\b")  # vitamin C, hepatitis B: too short for the check of sentences


def unsupported() -> Filter:
    """Returns a filter of questions with a right choice, or a sentence of the answer, that the passage does not say."""
    checker = SupportChecker()

    def reasons(candidates: Sequence[Candidate]) -> list[str]:
        found = []
        for _, passage, item in candidates:
            check = checker.against([(passage.title, passage.text)])
            answers = [answer for step in item.steps for answer in step.right]
            found.append("" if all(_says(check, passage, answer) for answer in answers) else NOT_SUPPORTED)
        return found

    return reasons


def _says(check: SourceCheck, passage: Passage, answer: str) -> bool:
    """Returns whether a passage says an answer; the words of one that makes no statement, as "Two", must be there."""
    source = f"{passage.title} {passage.text}"
    if not set(_LETTER.findall(answer)) <= set(_LETTER.findall(source)):
        return False
    checkable = [sentence for sentence in check(answer) if sentence.checkable]
    if checkable:
        return all(sentence.supported for sentence in checkable)
    return set(_WORD.findall(answer.casefold())) <= set(_WORD.findall(source.casefold()))


def not_found(retriever: TrainedRetriever, passages: Mapping[str, Passage], max_rank: int) -> Filter:
    """Returns a filter of questions by which a retriever does not find their passage.

    Args:
      retriever: encodes questions and passages.
      passages: all passages by their ids.
      max_rank: the largest rank that a passage may have, from 1.
    """
    row_of = {passage_id: row for row, passage_id in enumerate(passages)}

    def reasons(candidates: Sequence[Candidate]) -> list[str]:
        texts = [f"{passage.title}\n{passage.text}".strip() for passage in passages.values()]
        answers = retriever.embed(texts, "answer", progress="passages").head  # [P, D]
        questions = retriever.embed([candidate.asked for candidate in candidates], "question", progress="questions")
        own = np.array([row_of[candidate.passage_id] for candidate in candidates])  # [Q]
        found: list[str] = []
        for start in range(0, len(candidates), _CHUNK):
            scores = questions.head[start : start + _CHUNK] @ answers.T  # [C, P]
            own_scores = np.take_along_axis(scores, own[start : start + _CHUNK, None], axis=1)
            ranks = 1 + (scores > own_scores).sum(axis=1)
            found += ["" if rank <= max_rank else NOT_FOUND for rank in ranks]
        return found

    return reasons


def alike(retriever: TrainedRetriever, max_cosine: float) -> Filter:
    """Returns a filter of questions whose vector, with their right choices, is near that of an earlier one.

    Args:
      retriever: encodes questions.
      max_cosine: the largest cosine similarity of two that are kept.
    """

    def reasons(candidates: Sequence[Candidate]) -> list[str]:
        vectors = retriever.embed([candidate.text for candidate in candidates], "question", progress="duplicates").head
        kept, num_kept, found = np.empty_like(vectors), 0, []  # [Q, D]
        for vector in vectors:
            is_alike = num_kept and (kept[:num_kept] @ vector).max() > max_cosine
            found.append(ALIKE if is_alike else "")
            if not is_alike:
                kept[num_kept] = vector
                num_kept += 1
        return found

    return reasons
