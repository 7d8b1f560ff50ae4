"""Asks a writer about passages: several calls at once, again after failures, within the budget."""

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence

from absl import logging
from tqdm import tqdm

from data_pipeline.generate_questions import journal
from data_pipeline.generate_questions.budget import Budget, BudgetSettings, Usage
from data_pipeline.generate_questions.journal import Journal
from data_pipeline.generate_questions.writers import RefusedError, Reply, StoppedError, TryAgainError, Writer
from data_pipeline.prompts.chat_template import Message
from data_pipeline.prompts.question_prompts import QuestionSettings, question_messages
from data_pipeline.rows import Passage
from data_pipeline.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class AskingSettings(Settings):
    """How calls are made."""

    concurrency: int = setting(8, "Calls at once.", least=1, changes_results=False)
    max_retries: int = setting(5, "How often a call is made again after a failure.", least=0, changes_results=False)
    backoff_seconds: float = setting(
        1.0,
        "Wait before the first retry; it doubles with each one, and a random part up to half is taken off. "
        "Retry-After counts where it is longer.",
        above=0,
        changes_results=False,
    )
    max_wait_seconds: float = setting(120.0, "Longest wait before a retry.", above=0, changes_results=False)
    max_failures: int = setting(
        10, "The run stops when so many passages in a row got no answer.", least=1, changes_results=False
    )


@dataclasses.dataclass
class Stop:
    """Why a run ended before all passages were answered.

    Attributes:
      message: what happened, and what to do.
      is_error: whether something is wrong; a used-up budget is not.
    """

    message: str
    is_error: bool


class Asker:
    """Asks about passages and writes everything into the journal.

    Attributes:
      stop: why no further passage is asked; None while nothing is wrong.
    """

    def __init__(
        self,
        writer: Writer,
        log: Journal,
        budget: BudgetSettings,
        settings: AskingSettings,
        questions: QuestionSettings,
        progress: bool = False,
    ):
        """Joins the parts.

        Args:
          writer: who is asked.
          log: the open journal.
          budget: what all runs may take.
          settings: how calls are made.
          questions: what is asked for.
          progress: show a progress bar.
        """
        self.stop: Stop | None = None
        self._writer, self._journal, self._settings, self._questions = writer, log, settings, questions
        self._prices, self._progress = budget, progress
        self._num_failed = 0  # passages in a row
        self._random = random.Random()

    def ask(self, passages: Mapping[str, Passage]) -> None:
        """Asks about passages, by their ids, until all are answered or `stop` says why not."""
        asyncio.run(self._ask_all(passages))

    async def _ask_all(self, passages: Mapping[str, Passage]) -> None:
        self._budget = Budget(self._prices, self._journal.spent)
        self._stopped = asyncio.Event()
        with tqdm(passages.items(), "passages", disable=not self._progress) as bar:
            waiting = iter(bar)
            try:
                await asyncio.gather(*(self._work(waiting) for _ in range(self._settings.concurrency)))
            finally:
                await self._writer.close()

    async def _work(self, waiting: Iterator[tuple[str, Passage]]) -> None:
        for passage_id, passage in waiting:  # shared by all workers
            await self._ask(passage_id, question_messages(passage, self._questions))
            if self.stop:
                return

    async def _ask(self, passage_id: str, messages: Sequence[Message]) -> None:
        """Asks about a passage until there is an answer, or no retry is left."""
        most = self._prices.usage(*self._writer.most_tokens(messages))
        reason = ""
        for attempt in range(self._settings.max_retries + 1):
            if self.stop or not await self._reserve(most):
                return
            try:
                await self._call(passage_id, messages, most)
                self._num_failed = 0
                return
            except TryAgainError as error:
                reason = error.reason
                if attempt < self._settings.max_retries:
                    await self._wait(attempt, error.wait_seconds)
            except RefusedError as error:
                reason = str(error)
                break
            except StoppedError as error:
                return self._end(str(error), is_error=True)
        self._num_failed += 1
        if self._num_failed >= self._settings.max_failures:
            self._end(
                f"{self._num_failed} passages in a row got no answer, the last because of: {reason}. Check endpoint "
                "and flags, and run the same command to go on; with --ask_faulty_again also about refused passages.",
                is_error=True,
            )

    async def _reserve(self, most: Usage) -> bool:
        fits = await self._budget.reserve(most)
        if not fits:
            self._end(
                "The budget is used up. To go on, run the same command with a larger --max_tokens_total or --max_cost.",
                is_error=False,
            )
        return fits

    async def _call(self, passage_id: str, messages: Sequence[Message], most: Usage) -> None:
        """Makes a call for which `most` is reserved."""
        call, used = self._journal.begin(passage_id, most), most

        def end(event: str, tokens: tuple[int, int] | None, **content: object) -> None:
            nonlocal used
            used = most if tokens is None else self._prices.usage(*tokens)
            self._journal.end(event, call, passage_id, used, assumed=tokens is None, **content)

        try:
            reply: Reply = await self._writer.write(messages)
            end(journal.ANSWER, reply.tokens, answer=reply.text, finished=reply.finished)
        except TryAgainError as error:
            end(journal.ERROR, None if error.is_billed else (0, 0), reason=error.reason)
            raise
        except StoppedError:
            end(journal.ERROR, (0, 0), reason="the run was stopped")
            raise
        except RefusedError as error:
            end(journal.REFUSED, (0, 0), reason=str(error))
            raise
        finally:
            await self._budget.settle(most, used)

    async def _wait(self, attempt: int, asked_seconds: float | None) -> None:
        """Waits before a retry, no longer than until the run stops."""
        seconds = self._settings.backoff_seconds * 2**attempt * self._random.uniform(0.5, 1)
        seconds = min(max(seconds, asked_seconds or 0.0), self._settings.max_wait_seconds)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def _end(self, message: str, is_error: bool) -> None:
        if not self.stop:
            self.stop = Stop(message, is_error)
            logging.warning("%s", message)
        self._stopped.set()
