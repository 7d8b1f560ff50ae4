"""The answerer of the service, which can be replaced while it answers."""

import contextlib
import threading

import numpy as np
from absl import logging

from docproduct import sample
from docproduct.answering import Answerer, Folders, Query
from docproduct.answering.choices import ChoiceAnswerer
from docproduct.answering.triage import Triager
from docproduct.index import Index
from docproduct.systems.generator.open import is_adapter

_NUM_EXAMPLES = 6
_LONGEST_EXAMPLE = 80  # characters


class Reloadable:
    """An answerer that is loaded from folders, and again when they have changed.

    Attributes:
      answerer: The one that answers now; None if the service has other systems only.
      examples: Stored questions to try.
      triager: Names the departments of a text; None if there is no triage model.
      chooser: Chooses among the answers of a question; None if there is no model that chooses.
    """

    def __init__(self, folders: Folders):
        """Loads the folders; see `Answerer.load`."""
        self._folders, self._reloading = folders, threading.Lock()
        self.answerer: Answerer | None = None
        self._load()

    def _load(self) -> None:
        answerer: Answerer | None = None
        examples: list[str] = []
        if self._folders.answers:
            answerer = Answerer.load(self._folders, self.answerer and self.answerer.live)
            examples = example_questions(answerer.index)
            # The first question takes longer, so no client should be the one to ask it.
            answerer.answer(Query(examples[0] if examples else "a", k=1, threshold=-1.0))
        triager, chooser = self._load_triager(), self._load_chooser()
        self.answerer, self.examples, self.triager, self.chooser = answerer, examples, triager, chooser

    def _load_triager(self) -> Triager | None:
        if not self._folders.triage_dir:
            return None
        triager = Triager.load(self._folders.triage_dir, self._folders.emergency_list or sample.EMERGENCY_LIST)
        triager.triage("a")  # the first text takes longer
        return triager

    def _load_chooser(self) -> ChoiceAnswerer | None:
        folders = self._folders
        if not folders.choices_dir:
            return None
        # An adapter is added to the same base model as the generator's.
        base_dir = folders.base_dir if is_adapter(folders.choices_dir) else None
        chooser = ChoiceAnswerer.load(folders.choices_dir, folders.emergency_list or sample.EMERGENCY_LIST, base_dir)
        chooser.ask("a", ["b", "c"])  # the first question takes longer
        return chooser

    def reload(self) -> bool:
        """Loads the folders again. The old answerer answers until the new one is ready, and stays if loading fails.

        A reload that is asked for during another begins after it, as files may have changed since that began.

        Returns:
          Whether a new answerer answers.
        """
        with self._reloading:
            live = self.answerer and self.answerer.live
            try:
                with live.reloading() if live else contextlib.nullcontext():
                    self._load()
            except Exception as error:
                logging.error("Loading again failed; the old models and index stay: %s", error)
                return False
            logging.warning("Models and index were loaded again.")
            return True


def example_questions(index: Index) -> list[str]:
    """Returns some short stored questions, spread over the index."""
    questions = list(dict.fromkeys(q for q in index.questions() if len(q) <= _LONGEST_EXAMPLE))
    places = np.linspace(0, len(questions) - 1, min(_NUM_EXAMPLES, len(questions))).astype(int)
    return [questions[place] for place in places]
