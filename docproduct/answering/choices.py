"""The path of one multiple-choice question: emergencies first, then the probability of each choice."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from data_pipeline import cleaning
from data_pipeline.rows import Choices
from docproduct import sample
from docproduct.answering.emergency import Emergency
from docproduct.answering.query import DISCLAIMER
from docproduct.systems.multiple_choice.likelihood import Likelihood
from docproduct.systems.multiple_choice.metrics import choose
from docproduct.systems.multiple_choice.open import open_model
from docproduct.systems.multiple_choice.questions import Asked, Encoded

MOST_TOKENS = 1_024  # of a row, if the model was not trained on shorter ones: memory grows with the square


class Model(Protocol):
    """What chooses: `TrainedChooser`, `ChooserSession` or `Likelihood`.

    Attributes:
      threshold: where several choices may be right, those with at least this probability are chosen. None for a model
        that was not trained to choose: it chooses one.
    """

    threshold: float | None

    def encode(self, questions: Sequence[Asked]) -> list[Encoded]:
        """Tokenizes questions; raises a ValueError if the choices of one are too long."""

    def probabilities_of(self, encoded: Sequence[Encoded], questions: Sequence[Asked]) -> list[np.ndarray]:
        """Returns the probability of each choice of each question."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A choice, and what the model makes of it.

    Attributes:
      choice: its text.
      probability: 0 to 1. Where only one choice may be right, they add up to 1.
      chosen: whether the model chooses it.
    """

    choice: str
    probability: float
    chosen: bool


@dataclasses.dataclass(frozen=True)
class ChoiceAnswer:
    """What is said of a question.

    Attributes:
      question: the question as it was read.
      choices: in the order in which they were given.
      trained: whether the model was trained to choose; the probabilities of another one are those of `acc_norm`.
      context_shortened: whether the end of the context was not read, as there were too many tokens.
      question_shortened: whether the beginning of the question was not read.
      emergency: advice to seek help at once, if question or context speak of an emergency; shown before all else.
      seconds: seconds that each step took.
    """

    question: str
    choices: tuple[Choice, ...]
    trained: bool
    context_shortened: bool
    question_shortened: bool
    emergency: str | None
    seconds: dict[str, float]

    @property
    def chosen(self) -> list[str]:
        """The chosen texts."""
        return [choice.choice for choice in self.choices if choice.chosen]

    def as_json(self) -> dict[str, Any]:
        """Returns the form that scripts and the service print."""
        fields = dataclasses.asdict(self)
        first = {name: fields.pop(name) for name in ("question", "choices")} | {"chosen": self.chosen}
        seconds = {step: round(seconds, 4) for step, seconds in self.seconds.items()}
        return first | fields | {"seconds": seconds, "disclaimer": DISCLAIMER}


@dataclasses.dataclass(frozen=True)
class ReadQuestion:
    """A question that was checked and tokenized."""

    asked: Asked
    encoded: Encoded


class ChoiceAnswerer:
    """Chooses among the answers of a question."""

    def __init__(self, model: Model, emergency: Emergency):
        """Takes the model, and what recognizes emergencies."""
        self.model, self._emergency = model, emergency

    @classmethod
    def load(
        cls,
        folder: str,
        emergency_file: str = sample.EMERGENCY_LIST,
        base_dir: str | None = None,
        max_tokens: int | None = None,
    ) -> "ChoiceAnswerer":
        """Loads a model; see `open_model`.

        Args:
          folder: a multiple-choice model, its export, or a language model.
          emergency_file: the terms of emergencies.
          base_dir: of an adapter, the model that it was trained on.
          max_tokens: of context, question and choices; default: as in training, else the window, at most `MOST_TOKENS`.

        Raises:
          ValueError: there is no such model, it is damaged, its window is smaller, or `base_dir` is not needed.
        """
        model = open_model(folder, base_dir, max_tokens)
        if isinstance(model, Likelihood) and max_tokens is None:
            model.max_tokens = min(model.max_tokens, MOST_TOKENS)
        return cls(model, Emergency.load(emergency_file))

    @property
    def takes_several(self) -> bool:
        """Whether it can be asked for several choices."""
        return self.model.threshold is not None

    def ask(self, question: str, choices: Sequence[str], context: str = "", several: bool = False) -> ChoiceAnswer:
        """Answers a question; see `read`."""
        return self.answer(self.read(question, choices, context, several))

    def read(self, question: str, choices: Sequence[str], context: str = "", several: bool = False) -> ReadQuestion:
        """Checks and tokenizes a question.

        Args:
          question: the question.
          choices: the answers to choose from.
          context: what is read before the question.
          several: whether several answers may be right.

        Raises:
          ValueError: the question is empty; there are fewer than two choices, an empty one, two equal ones, or they are
            too long; or several may be right, and the model was not trained to choose.
        """
        if several and not self.takes_several:
            raise ValueError("several needs a model that was trained to choose: without it, there is no threshold.")
        question, context, *choices = map(cleaning.clean, (question, context, *choices))
        if not question:
            raise ValueError("The question is empty. Expected a text.")
        if len(choices) < 2 or not all(choices) or len(set(choices)) < len(choices):
            received = ", ".join(map(repr, choices)) or "missing"
            raise ValueError(f"The choices are {received}; expected two or more different texts.")
        asked = Asked(Choices(question, tuple(choices), (), int(several), context, question))
        return ReadQuestion(asked, *self.model.encode([asked]))

    def answer(self, read: ReadQuestion) -> ChoiceAnswer:
        """Answers a question that `read` returned."""
        start, row = time.perf_counter(), read.asked.row
        probs = self.model.probabilities_of([read.encoded], [read.asked])
        (chosen,) = choose(probs, [read.asked], self.model.threshold if self.takes_several else np.inf)
        choices = zip(row.choices, probs[0].tolist(), strict=True)
        return ChoiceAnswer(
            row.question,
            tuple(Choice(text, prob, place in chosen) for place, (text, prob) in enumerate(choices)),
            self.takes_several,
            bool(row.context) and read.encoded.is_cut,
            read.encoded.is_question_cut,
            self._emergency.advice(f"{row.context}\n{row.question}"),
            {"choose": time.perf_counter() - start},
        )
