"""A question with its settings, and its answer."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from data_pipeline import cleaning
from data_pipeline.schemas import SIDES
from data_pipeline.settings import REQUIRED, Settings, setting
from docproduct.answering.support import Sentence, support_share
from docproduct.generation.sampling import GenerationSettings
from docproduct.index import Hit
from docproduct.systems.retriever import Side

DEFAULT_K = 5
DISCLAIMER = "Research software: this is not medical advice. Ask a doctor about your health."
NOT_ANSWERABLE = "No stored answer is close enough to this question."
LEAST_SUPPORT = 0.5  # share of a text's sentences; a text with less is folded


_MOST_SUGGESTIONS = 3
_SHOWN = ("question", "answer", "source", "focus", "title", "section", "page", "place")  # of a hit


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """A topic that may have been meant.

    Attributes:
      topic: The topic of a hit, or its question if it has none; of a passage, its document and section.
      question: The stored question of the hit, or that heading: both are always answerable.
    """

    topic: str
    question: str


def suggestions(hits: Iterable[Hit]) -> tuple[Suggestion, ...]:
    """Returns the first different topics of hits, three or fewer."""
    first: dict[str, Suggestion] = {}
    for hit in hits:
        suggestion = Suggestion(hit.focus or hit.heading, hit.heading)
        first.setdefault(cleaning.normal_form(suggestion.topic), suggestion)
    return tuple(first.values())[:_MOST_SUGGESTIONS]


@dataclasses.dataclass(frozen=True)
class Query(Settings):
    """A question, and how to answer it.

    Attributes:
      sampling: How an answer is written. None: greedily, at most as long as the generator was trained for.
    """

    question: str = setting(REQUIRED, "Question; the encoder and the generator read as much of it as they take.")
    k: int | None = setting(
        None, f"Number of sources to return; default: {DEFAULT_K}, or all answers of a smaller index.", least=1
    )
    search_by: Side = setting("answer", "Which side to compare the question with.", choices=SIDES)
    filter: tuple[str, ...] = setting(
        (), "What pairs must fulfil to be found, such as source=NHS or date>=2024-01-01, by the columns of the index."
    )
    generate: bool = setting(True, "Write an answer from the sources, if there is a generator.")
    only_supported: bool = setting(False, "Leave out written sentences that the sources do not support.")
    threshold: float | None = setting(
        None, "Minimum cosine similarity for a question to count as answerable; default: as the answerer decides."
    )
    correct: bool = setting(
        True, "Correct misspelt words by the words of the index; the answer says what was searched for."
    )
    sampling: GenerationSettings | None = None


@dataclasses.dataclass(frozen=True)
class Answer:
    """The answer to a question.

    Attributes:
      question: The question as it was asked.
      answer: The answer of the best hit, quoted; NOT_ANSWERABLE if the question is not answerable.
      hits: The sources, the best first.
      answerable: Whether an answer of the index is close enough to the question, or the question is stored.
      generated: The text that the generator wrote; None without a generator, or if the question is not answerable.
      sentences: Its sentences, each checked against the sources; empty while the text grows.
      num_left_out: Number of sentences that were left out since the sources do not support them.
      suggestions: Topics that may have been meant, if the question is not answerable; none if all are too far.
      corrected: The question that was searched for, if misspelt words of the asked one were corrected.
      num_contexts: Number of hits, from the first, that stood in the generator's prompt.
      seconds: Seconds that each step took. Steps that several questions took together count whole for each.
      emergency: Advice to seek help at once, if the question speaks of an emergency; shown before all else.
      disclaimer: Shown with every answer.
      finished: Whether the generator ended its text; otherwise it is still growing, or the token limit cut it.
      shortened: Whether the question was too long for the generator, which did not read its end.
    """

    question: str
    answer: str
    hits: tuple[Hit, ...]
    answerable: bool
    generated: str | None
    num_contexts: int
    seconds: dict[str, float]
    emergency: str | None = None
    disclaimer: str = DISCLAIMER
    finished: bool = False
    shortened: bool = False
    sentences: tuple[Sentence, ...] = ()
    num_left_out: int = 0
    suggestions: tuple[Suggestion, ...] = ()
    corrected: str | None = None

    @property
    def support(self) -> float | None:
        """The share of the text's statements that the sources support; None if nothing was checked."""
        return support_share(self.sentences)

    @property
    def is_supported(self) -> bool | None:
        """Whether that share is large enough for the text to be shown; None if nothing was checked."""
        return None if self.support is None else self.support >= LEAST_SUPPORT

    def as_json(self) -> dict[str, Any]:
        """Returns the form that scripts and the service print."""
        sources = [
            {
                "id": str(hit.pair_id),
                "score": round(hit.score, 4),
                "rerank_score": None if hit.rerank_score is None else round(hit.rerank_score, 4),
                "in_prompt": number < self.num_contexts,
                **{name: getattr(hit, name) for name in _SHOWN},
                "columns": dict(hit.columns),
            }
            for number, hit in enumerate(self.hits)
        ]
        return {
            "question": self.question,
            "corrected": self.corrected,
            "answer": self.answer,
            "generated": self.generated,
            "sentences": [dataclasses.asdict(sentence) for sentence in self.sentences],
            "support": self.support,
            "supported": self.is_supported,
            "num_left_out": self.num_left_out,
            "finished": self.finished,
            "question_shortened": self.shortened,
            "answerable": self.answerable,
            "suggestions": [dataclasses.asdict(suggestion) for suggestion in self.suggestions],
            "sources": sources,
            "seconds": {step: round(seconds, 4) for step, seconds in self.seconds.items()},
            "emergency": self.emergency,
            "disclaimer": self.disclaimer,
        }
