"""READ FIRST: the path of one question.

question -> misspelt words corrected -> tokenizer [1, T] -> retriever, question side [1, D], unit norm
         -> index.search_many, k hits
         -> reranker, if there is one: the first hits in its order, and whether the question is answerable
         -> answerable? -> prompt of the first hits and the question -> generator's session
         -> check of each sentence against the sources -> answer

The service (docproduct/web) takes the same steps, with the questions of several clients together.

    Q queries, D width, T tokens
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data_pipeline import cleaning
from data_pipeline.prompts.answer_prompts import answer_prompt
from data_pipeline.prompts.chat_template import Message
from data_pipeline.settings import Settings, setting
from docproduct.answering.draft import Draft
from docproduct.answering.emergency import Emergency
from docproduct.answering.query import DEFAULT_K, NOT_ANSWERABLE, Answer, Query, suggestions
from docproduct.answering.support import SupportChecker
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import GenerationSession
from docproduct.index import Index, SearchResult
from docproduct.index.live import COMPACT_CHANGES, LiveFolder
from docproduct.index.reranking import DEPTH, HitReranker
from docproduct.index.store_index import open_index
from docproduct.layers.precision import PRECISIONS
from docproduct.search.store import is_address
from docproduct.systems.generator import open_session
from docproduct.systems.retriever import Side, TrainedRetriever


@dataclasses.dataclass(frozen=True)
class Folders(Settings):
    """What an Answerer and a service load."""

    model_dir: str | None = setting(
        None, "Trained retriever, or a bare encoder folder; needed, with its index, to answer questions."
    )
    index_dir: str | None = setting(
        None, "Index that was built with it: a folder, or the address to which docproduct.upload_index uploaded it."
    )
    generator_dir: str | None = setting(
        None,
        "Generator: what docproduct.export wrote, which starts fastest, a model's folder, an adapter, or a GGUF file; "
        "default: none, sources are quoted only.",
    )
    base_dir: str | None = setting(None, "With an adapter as generator_dir: the model that it was trained on.")
    live: bool = setting(
        False,
        "Join the changes that a service made to the index, and let no other process change it. With --port, pairs are "
        "added, replaced and removed through /v1/pairs; needs a token for changes.",
    )
    compact_changes: int = setting(
        COMPACT_CHANGES,
        "With --live: changed pairs after which the folder is written anew; a quarter of all is enough. 0: never.",
        least=0,
    )
    index_device: str = setting("auto", "Where FAISS searches.", choices=("auto", "cpu", "gpu"))
    threshold: float | None = setting(
        None,
        "Minimum cosine similarity for a question to count as answerable; default: the index's calibration decides.",
    )
    emergency_list: str | None = setting(
        None,
        "File with the terms of emergencies: a question that holds them gets a line to seek help at once, before any "
        "answer; default: none. docproduct/sample/emergency.txt is a medical list.",
    )
    reranker_dir: str | None = setting(
        None,
        "Reranker, trained with train_embeddings.py --task=reranker, that orders the first hits. It has a say in what "
        "is answerable if docproduct.index was given it, too. Default: none.",
    )
    rerank_depth: int = setting(DEPTH, "Number of first hits that the reranker orders.", least=2)
    rerank_ms: float | None = setting(
        None,
        "Maximum milliseconds to rerank the questions that are answered together: fewer hits of each are reranked if "
        "the longest answers of the index take longer, measured at the start; default: no limit.",
        above=0,
    )
    rerank_precision: str = setting(
        "auto", "Precision of the reranker's encoder; auto: bfloat16 where it is fast.", choices=PRECISIONS
    )
    triage_dir: str | None = setting(
        None, "With --port: triage model, a folder or an export, that names departments; default: none."
    )
    choices_dir: str | None = setting(
        None,
        "With --port: multiple-choice model, a folder or an export, or any language model, that chooses among answers; "
        "default: none.",
    )

    @property
    def answers(self) -> bool:
        """Whether questions are to be answered from an index; otherwise a service has other systems only."""
        of_answers = (self.model_dir, self.index_dir, self.generator_dir, self.reranker_dir)
        return any(of_answers) or not (self.triage_dir or self.choices_dir)


class Answerer:
    """Answers questions from an index, and writes answers if there is a generator.

    Attributes:
      retriever: Encodes the questions.
      index: Holds the answers.
      generator: Writes an answer from the first hits. Without one, the best hit is only quoted.
      rerank: Orders the first hits, and may decide what is answerable. Without it, the index does both.
      live: The index folder, if its pairs can be changed.
    """

    def __init__(
        self,
        retriever: TrainedRetriever,
        index: Index,
        generator: GenerationSession | None = None,
        emergency: Emergency | None = None,
        threshold: float | None = None,
        rerank: HitReranker | None = None,
    ):
        """Joins the parts.

        Args:
          retriever: The encoder that the index was opened for.
          index: Where to search.
          generator: Writes answers.
          emergency: Recognizes questions that speak of an emergency; None: no question gets advice.
          threshold: Minimum cosine similarity of the question and any answer of the index for the question to count as
            answerable, whichever side is searched. By default the index's calibration decides. A stored question that
            is asked word for word is always answerable.
          rerank: Orders the first hits, and may decide what is answerable.

        Raises:
          ValueError: the generator was not trained to answer.
        """
        if generator and not generator.prompt:
            raise ValueError(
                "This generator was not trained to answer. Train it with train_gpt2.py --task=context_answer, and "
                "export it again."
            )
        self.retriever, self.index, self.generator, self._emergency = retriever, index, generator, emergency
        self.rerank, self._threshold = rerank, threshold
        self.live: LiveFolder | None = None
        self._check_support = SupportChecker()

    @classmethod
    def load(cls, folders: Folders, live: LiveFolder | None = None) -> "Answerer":
        """Loads the folders.

        Args:
          folders: What to load.
          live: The index folder, if this process has it open already.

        Raises:
          ValueError: one of them is missing, damaged, unfinished, or does not fit the others.
          OSError: a file cannot be read, or another process may change the index.
        """
        if not folders.model_dir or not folders.index_dir:
            missing = [f"--{name}" for name in ("model_dir", "index_dir") if not getattr(folders, name)]
            raise ValueError(
                f"Missing: {' and '.join(missing)}. Questions are answered with a trained retriever and the index that "
                "was built with it."
            )
        if folders.live and is_address(folders.index_dir):
            raise ValueError(
                "--live changes an index folder; the pairs of a store cannot be changed. Change the folder, and upload "
                "it again with --overwrite of docproduct.upload_index."
            )
        retriever = TrainedRetriever.load(folders.model_dir)
        if not folders.live:
            return cls._join(folders, retriever, open_index(folders.index_dir, retriever, folders.index_device))
        if live:
            live.reopen(retriever)
            return cls._join_live(folders, retriever, live)
        live = LiveFolder(folders.index_dir, retriever, folders.index_device, folders.compact_changes)
        try:
            return cls._join_live(folders, retriever, live)
        except BaseException:
            live.close()
            raise

    @classmethod
    def _join_live(cls, folders: Folders, retriever: TrainedRetriever, live: LiveFolder) -> "Answerer":
        answerer = cls._join(folders, retriever, live.index)
        answerer.live = live

        def exchange(index: Index) -> None:
            answerer.index = index

        live.on_exchange = exchange
        return answerer

    @classmethod
    def _join(cls, folders: Folders, retriever: TrainedRetriever, index: Index) -> "Answerer":
        generator = open_session(folders.generator_dir, folders.base_dir) if folders.generator_dir else None
        emergency = Emergency.load(folders.emergency_list) if folders.emergency_list else None
        rerank = None
        if folders.reranker_dir:
            settings = (folders.rerank_depth, folders.rerank_ms, folders.rerank_precision)
            rerank = HitReranker.load(folders.reranker_dir, index, retriever, *settings)
            if folders.threshold is None:  # which would decide in place of both calibrations
                rerank.warn_if_silent(folders.reranker_dir, index)
        return cls(retriever, index, generator, emergency, folders.threshold, rerank)

    def answer(self, query: Query) -> Answer:
        """Answers one question.

        Raises:
          ValueError: the question is blank, the index has fewer than k answers, or not the side to search by.
        """
        (answer,) = self.retrieve([query])
        if not self.writes(query, answer):
            return answer
        start = time.perf_counter()
        draft = self.draft(query, answer)
        ((generation,),) = self.generator.write([draft.prompt_ids], self._sampling(query))
        return draft.complete(generation, time.perf_counter() - start)

    def stream(self, query: Query) -> Iterator[Answer]:
        """Yields the answer with its sources, then with the generator's text while it grows, then complete and checked.

        Raises:
          ValueError: as in `answer`, which is a little faster.
        """
        (answer,) = self.retrieve([query])
        if not self.writes(query, answer):
            yield answer
            return
        start = time.perf_counter()
        draft = self.draft(query, answer)
        yield draft.answer
        for generation in self.generator.stream(draft.prompt_ids, self._sampling(query)):
            yield draft.growing(generation, time.perf_counter() - start)
        yield draft.complete(generation, time.perf_counter() - start)

    def retrieve(self, queries: Sequence[Query]) -> list[Answer]:
        """Finds the sources of each query and quotes the best; writes nothing. The queries are encoded together.

        Raises:
          ValueError: as in `answer`.
        """
        for query in queries:
            self.check(query)
        start = time.perf_counter()
        corrected = [self._corrected(query) for query in queries]
        asked = (cleaning.clean(query.question) for query in queries)
        questions = [new or question for new, question in zip(corrected, asked, strict=True)]
        vectors = self.retriever.embed_few(questions, "question")  # [Q, D]
        encoded = time.perf_counter()
        results = self._search(queries, questions, vectors)
        searched = time.perf_counter()
        seconds = {"encode": encoded - start, "search": searched - encoded}
        if self.rerank:
            results = self.rerank(questions, results)
            seconds["rerank"] = time.perf_counter() - searched
        return [self._quote(*each, seconds) for each in zip(queries, corrected, results, strict=True)]

    def _corrected(self, query: Query) -> str | None:
        """Returns the question with misspelt words corrected; None if none was, or none should be."""
        question = cleaning.clean(query.question)
        corrected = self.index.correct(question) if query.correct else question
        return None if corrected == question else corrected

    def _search(self, queries: Sequence[Query], questions: Sequence[str], vectors: np.ndarray) -> list[SearchResult]:
        """Searches queries of equal settings together; each finds what it would find alone.

        A reranker gets more hits than will be shown.
        """
        depth = min(self.rerank.depth, self.index.num_answers) if self.rerank else 0
        rows_of: dict[tuple[int, Side, tuple[str, ...]], list[int]] = {}
        for row, query in enumerate(queries):
            rows_of.setdefault((max(self._k(query), depth), query.search_by, query.filter), []).append(row)
        results: dict[int, SearchResult] = {}
        for (k, search_by, conditions), rows in rows_of.items():
            texts = [questions[row] for row in rows]
            results |= zip(rows, self.index.search_many(vectors[rows], k, search_by, texts, conditions), strict=True)
        return [results[row] for row in range(len(queries))]

    def _quote(self, query: Query, corrected: str | None, result: SearchResult, seconds: dict[str, float]) -> Answer:
        answerable = result.is_answerable(self._threshold if query.threshold is None else query.threshold)
        hits = tuple(result.hits[: self._k(query)])
        shown = hits[0].answer if answerable else NOT_ANSWERABLE
        advice = self.advice(query.question) or self.advice(corrected or "")
        answer = Answer(query.question, shown, hits, answerable, None, 0, seconds, advice, corrected=corrected)
        if answerable or not result.decision.near:
            return answer
        return dataclasses.replace(answer, suggestions=suggestions(hits))

    def advice(self, text: str) -> str | None:
        """Returns advice to seek help at once, if a text speaks of an emergency and there is a list of terms."""
        return self._emergency.advice(text) if self._emergency else None

    def check(self, query: Query) -> None:
        """Raises a ValueError if this index cannot be asked this."""
        if not cleaning.clean(query.question):
            raise ValueError("The question is empty. Expected a text, for example: What helps against a cough?")
        self.index.check(self._k(query), query.search_by, query.filter)

    def _k(self, query: Query) -> int:
        return min(DEFAULT_K, max(1, self.index.num_answers)) if query.k is None else query.k

    def writes(self, query: Query, answer: Answer) -> bool:
        """Returns whether the generator writes an answer to this query."""
        return self.generator is not None and query.generate and answer.answerable

    def draft(
        self, query: Query, answer: Answer, system: str = "", earlier: Sequence[Message] = (), question: str = ""
    ) -> Draft:
        """Returns what the generator needs to write an answer from the hits.

        Args:
          query: What was searched for.
          answer: Its answer so far.
          system: A system prompt, for a model with a chat template.
          earlier: Earlier turns of the conversation, for a model that learned from conversations.
          question: What to ask the generator. Defaults to the question of the query.

        Raises:
          ValueError: The model's template refuses the conversation, or the system prompt is too long.
        """
        contexts = [(hit.question, hit.answer) for hit in answer.hits]
        question = question or answer.corrected or cleaning.clean(answer.question)
        prompt = answer_prompt(self.generator.tokenizer, self.generator.prompt, question, contexts, system, earlier)
        answer = dataclasses.replace(answer, num_contexts=len(prompt.sources), shortened=prompt.shortened)
        # A passage is read without its heading, which models copy; its sentences are about what the heading names.
        named = zip(prompt.sources, answer.hits[: len(prompt.sources)], strict=True)
        check = self._check_support.against([(question or hit.heading, text) for (question, text), hit in named])
        return Draft(answer, prompt.ids, check, query.only_supported, prompt.num_left_out)

    def sampling(self, **given: Any) -> GenerationSettings:
        """Returns settings for the generator; its text is at most as long as it was trained for, unless given.

        Raises:
          ValueError: a setting is out of range.
        """
        return GenerationSettings(**{"max_tokens": self.generator.prompt.answer_tokens, **given})

    def _sampling(self, query: Query) -> GenerationSettings:
        return dataclasses.replace(query.sampling or self.sampling(), num_samples=1)
