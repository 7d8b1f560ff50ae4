"""The path of one patient's text: emergencies first, then departments with probabilities, and a draft of a reply.

N texts, L labels
"""

import dataclasses
import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from data_pipeline import cleaning
from data_pipeline.folders import files
from docproduct import sample
from docproduct.answering.emergency import Emergency
from docproduct.answering.query import DISCLAIMER
from docproduct.generation.sampling import GenerationSettings
from docproduct.model_folder import CONFIG_FILE
from docproduct.systems.triage import TrainedTriage
from docproduct.systems.triage.folder import KIND
from docproduct.systems.triage.session import TriageSession

NOT_SURE = "Not sure: ask a person which department is right."
_SHOWN = 3  # departments


class Model(Protocol):
    """A triage model: `TrainedTriage` or `TriageSession`."""

    labels: tuple[str, ...]
    has_replies: bool

    def assess(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the calibrated probability of each label, [N, L], and of which texts the model is sure, [N] bool."""

    def replies(self, texts: Sequence[str], sampling: GenerationSettings | None = None) -> list[str]:
        """Writes a draft reply to each text."""


@dataclasses.dataclass(frozen=True)
class Department:
    """A label with its probability.

    Attributes:
      label: its name.
      prob: calibrated probability, 0 to 1.
    """

    label: str
    prob: float


@dataclasses.dataclass(frozen=True)
class Triage:
    """What is said about a text.

    Attributes:
      text: the text as it was read.
      departments: the likeliest, the first one first.
      sure: whether the first is likely enough, and the text like those that the model was trained on; if not, a person
        should be asked.
      advice: what to do at once, if the text speaks of an emergency.
      reply: a draft of a reply, which nobody has checked; None: none was asked for, or the model cannot write one.
    """

    text: str
    departments: tuple[Department, ...]
    sure: bool
    advice: str | None = None
    reply: str | None = None

    def as_json(self) -> dict[str, Any]:
        """Returns it for JSON, with a note where the model is not sure, and the disclaimer."""
        note = NOT_SURE if self.departments and not self.sure else None
        return dataclasses.asdict(self) | {"note": note, "disclaimer": DISCLAIMER}


class Triager:
    """Says which department a text belongs to."""

    def __init__(self, model: Model, emergency: Emergency):
        """Takes the model, and what recognizes emergencies."""
        self.model, self._emergency = model, emergency

    @classmethod
    def load(cls, folder: str, emergency_file: str = sample.EMERGENCY_LIST) -> "Triager":
        """Loads a trained model's folder, or an export of one.

        Raises:
          ValueError: the folder holds neither.
        """
        stored = files.read_json(os.path.join(folder, CONFIG_FILE)) if os.path.isdir(folder) else None
        trained = bool(stored) and stored.get("kind") == KIND
        model = TrainedTriage.load(folder) if trained else TriageSession.load(folder)
        return cls(model, Emergency.load(emergency_file))

    def triage(self, text: str, reply: bool = False) -> Triage:
        """Returns the likeliest departments of a text, and a draft of a reply if it is asked for.

        Args:
          text: what a patient wrote.
          reply: whether to draft a reply, if the model can.

        Raises:
          ValueError: the text is empty.
        """
        clean = cleaning.clean(text)
        if not clean:
            raise ValueError("The text is empty. Expected what a patient wrote.")
        departments: tuple[Department, ...] = ()
        sure = False
        if self.model.labels:
            (probs,), (is_sure,) = self.model.assess([clean])
            first = np.argsort(-probs, kind="stable")[:_SHOWN].tolist()
            departments = tuple(Department(self.model.labels[place], float(probs[place])) for place in first)
            sure = bool(is_sure)
        draft = self.draft(clean) if reply else None
        return Triage(clean, departments, sure, self._emergency.advice(clean), draft)

    def draft(self, text: str) -> str | None:
        """Returns a draft of a reply to a text, which nobody has checked; None if the model cannot write one."""
        return self.model.replies([cleaning.clean(text)])[0] if self.model.has_replies else None
