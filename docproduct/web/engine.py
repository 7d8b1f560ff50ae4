"""What answers: retriever, index and generator, loaded together and exchanged together."""

import dataclasses
import threading
from collections.abc import Sequence

import numpy as np
from absl import logging

from docproduct.answering import answerer as answering
from docproduct.answering.answerer import Answer, Query
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.index import Index
from docproduct.systems.retriever import Side, TrainedRetriever

_NUM_EXAMPLES = 6
_LONGEST_EXAMPLE = 80  # characters


@dataclasses.dataclass(frozen=True)
class Folders:
    """Where they come from.

    Attributes:
      model_dir: the retriever.
      index_dir: its index.
      generator_dir: the exported generator, if answers are to be written.
      index_device: where FAISS searches: cpu, gpu or auto.
      threshold: cosine from which a hit is near enough; None: the index's.
    """

    model_dir: str
    index_dir: str
    generator_dir: str | None = None
    index_device: str = "auto"
    threshold: float | None = None


class Engine:
    """Answers questions.

    Attributes:
      index: where answers are found.
      writer: writes answers, if there is one.
      examples: stored questions, to be tried.
    """

    def __init__(
        self,
        retriever: TrainedRetriever,
        index: Index,
        writer: GenerationSession | None = None,
        threshold: float | None = None,
    ):
        """Joins them, and answers a question once: the first one takes longer.

        Raises:
          ValueError: the generator was not trained to answer.
        """
        if writer:
            answering.check_writer(writer)
        self._retriever, self.index, self.writer, self._threshold = retriever, index, writer, threshold
        self.examples = examples(index)
        for _ in answering.stream(
            self.examples[0] if self.examples else "a", retriever, index, 1, writer=writer, threshold=-1.0
        ):
            pass

    @classmethod
    def load(cls, folders: Folders) -> "Engine":
        """Loads the folders.

        Raises:
          ValueError: one of them is damaged, unfinished, or does not fit the others.
          OSError: a file cannot be read.
        """
        retriever = TrainedRetriever.load(folders.model_dir)
        index = Index(folders.index_dir, retriever, folders.index_device)
        writer = GenerationSession.load(folders.generator_dir) if folders.generator_dir else None
        return cls(retriever, index, writer, folders.threshold)

    def retrieve(self, queries: Sequence[Query]) -> list[Answer]:
        """Finds the nearest answers of each query; fewer than k where the index has not so many."""
        # They may have been checked with another index, before a reload.
        most = self.index.num_answers
        queries = [dataclasses.replace(query, k=min(query.k, most)) for query in queries]
        return answering.retrieve(queries, self._retriever, self.index, self._threshold)

    def embed(self, texts: Sequence[str], side: Side) -> tuple[np.ndarray, int]:
        """Returns vectors of N texts, [N, D] float32, unit norm; and how many tokens were encoded."""
        ids = self._retriever.token_ids(texts, side)
        return self._retriever.embed_ids(ids, side).head, int(ids.row_lengths().numpy().sum())

    def writing_settings(self, max_tokens: int | None, **how: float) -> GenerationSettings:
        """Returns how to write: at most as long as prompts leave room for.

        Raises:
          ValueError: a setting is out of range.
        """
        longest = self.writer.prompt.answer_tokens
        if max_tokens is not None and max_tokens > longest:
            raise ValueError(
                f"max_tokens is {max_tokens}; expected 1 to {longest}, what this generator was trained for."
            )
        return GenerationSettings(max_tokens=max_tokens or longest, **how)


def examples(index: Index) -> list[str]:
    """Returns some of the stored questions, spread over them."""
    questions = list(dict.fromkeys(q for q in index.questions() if len(q) <= _LONGEST_EXAMPLE))
    places = np.linspace(0, len(questions) - 1, min(_NUM_EXAMPLES, len(questions))).astype(int)
    return [questions[place] for place in places]


class Reloadable:
    """An engine that can be replaced while it works.

    Attributes:
      engine: the one that answers now.
    """

    def __init__(self, folders: Folders):
        """Loads it."""
        self._folders, self._reloading = folders, threading.Lock()
        self.engine = Engine.load(folders)

    def reload(self) -> bool:
        """Loads the folders again; the old engine answers until the new one can, and stays if it cannot.

        One that is asked for while another is under way begins after it, as files may have changed since that began.

        Returns:
          Whether a new one answers.
        """
        with self._reloading:
            try:
                self.engine = Engine.load(self._folders)
            except Exception as error:
                logging.error("Not reloaded, the old models and index go on: %s", error)
                return False
            logging.warning("Models and index were loaded anew.")
            return True
