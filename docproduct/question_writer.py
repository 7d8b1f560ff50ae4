"""Writes questions about passages with a language model of this machine, several at once."""

import concurrent.futures
from collections.abc import Generator, Sequence

from data_pipeline.generate_questions.writers import RefusedError, Reply
from data_pipeline.prompts.chat_prompts import conversation_ids
from data_pipeline.prompts.chat_template import Message
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation, GenerationSession
from docproduct.web.queue import QueueLimits, WorkQueue

_LEAST_ANSWER = 16  # tokens of room; with less, no question fits


class LocalWriter:
    """A `data_pipeline.generate_questions.writers.Writer`: those who ask at once are answered in one batch."""

    def __init__(self, session: GenerationSession, sampling: GenerationSettings, max_batch: int, opening: str = ""):
        """Takes a model.

        Args:
          session: writes with the model. Without a chat template, the prompt is the plain text of the messages.
          sampling: how answers are written.
          max_batch: answers that are written together.
          opening: how every answer begins; the model goes on from there.
        """
        self._session, self._sampling, self._opening = session, sampling, opening
        self._thread = concurrent.futures.ThreadPoolExecutor(1)
        limits = QueueLimits(max_batch, max_waiting=max_batch, max_wait_ms=50.0)
        # The longest prompt decides where all answers of a batch end: those without full room are written apart.
        self._queue = WorkQueue[list[int], Generation](self._write, self._thread, limits, key=self._missing_room)

    def _missing_room(self, ids: list[int]) -> int:
        """Returns how many tokens the longest answer would be beyond the window."""
        return max(0, len(ids) + self._sampling.max_tokens - self._session.window)

    def most_tokens(self, messages: Sequence[Message]) -> tuple[int, int]:
        """Returns the largest numbers of tokens of prompt and answer."""
        try:
            return len(self._ids(messages)), self._sampling.max_tokens
        except RefusedError:  # `write` says so
            return 0, 0

    async def write(self, messages: Sequence[Message]) -> Reply:
        """Returns an answer; see `Writer`."""
        ids = self._ids(messages)
        generation = await self._queue.result(ids)
        text = self._opening + generation.text
        return Reply(text, generation.finished, (len(ids), len(generation.ids) + generation.finished))

    async def close(self) -> None:
        """Ends the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _write(self, prompts: Sequence[list[int]]) -> Generator[list[Generation], None, None]:
        yield [answer for (answer,) in self._session.write(prompts, self._sampling)]

    def _ids(self, messages: Sequence[Message]) -> list[int]:
        """Returns the ids of the prompt.

        Raises:
          RefusedError: it leaves no room for an answer, or the chat template cannot be used with it.
        """
        tokenizer = self._session.tokenizer
        if tokenizer.chat_template:
            try:
                ids = conversation_ids(tokenizer, messages)
            except ValueError as error:
                raise RefusedError(str(error)) from error
        else:
            (ids,) = tokenizer.encode(["\n\n".join([*(message["content"] for message in messages), ""])])
            ids = [*getattr(tokenizer, "opening_ids", ()), *ids]
        ids = [*ids, *(tokenizer.encode([self._opening])[0] if self._opening else ())]
        if len(ids) + _LEAST_ANSWER > self._session.window:
            raise RefusedError(
                f"The prompt has {len(ids)} tokens, and the model's window {self._session.window}: there is no room "
                "for an answer. Give a smaller --passage_size."
            )
        return ids
