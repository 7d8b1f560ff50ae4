"""What the routes of conversations and completions do, in the queues of the service.

T tokens, K likeliest tokens
"""

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from data_pipeline.tokenizers import CausalTokenizer
from docproduct.answering import Answer
from docproduct.chatting import Chat, Conversation, Reply, ReplySettings
from docproduct.chatting.chat import Writing
from docproduct.chatting.steps import Steps
from docproduct.chatting.stops import Stops
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.scoring import Scores
from docproduct.generation.session import Generation, GenerationSession
from docproduct.web.queue import QueueLimits, WorkQueue
from docproduct.web.reloading import Reloadable
from docproduct.web.responses import request_errors
from docproduct.web.service import Service
from docproduct.web.settings import ServiceSettings
from docproduct.web.talk_schemas import ChatRequest, CompletionRequest

_NUM_EXAMPLES = 2
_MAX_TOKENS = 16  # of a completion, as OpenAI has it
_NOT_SCORED = (
    "This service cannot return logprobs: its generator is an export, which cannot score texts. Start it with "
    "--generator_dir naming a model's folder, an adapter or a GGUF file."
)


class Completion(NamedTuple):
    """What a model wrote behind a prompt.

    Attributes:
      prompt_ids: T ids of the prompt.
      ids: Ids that were written, without the end token.
      text: Their text, up to the first stop.
      finished: Whether the model ended it, or a stop did.
      num_tokens: Tokens that were written, with the end token.
      scores: Of prompt and text; None if they were not asked for.
    """

    prompt_ids: list[int]
    ids: list[int]
    text: str
    finished: bool
    num_tokens: int
    scores: Scores | None


class _ToScore(NamedTuple):
    generator: GenerationSession
    ids: list[int]
    num_top: int


def _score(items: Sequence[_ToScore]) -> Iterator[list[Scores]]:
    yield [item.generator.scorer(item.ids, item.num_top) for item in items]


class Talking:
    """Works on conversations and completions."""

    def __init__(self, service: Service, source: Reloadable, settings: ServiceSettings):
        """Takes the service, whose queues it uses.

        Raises:
          ValueError: The settings of conversations do not fit the generator.
        """
        self._service, self._source, self._settings = service, source, settings
        limits = QueueLimits(1, settings.writing_waiting)
        self._scores = WorkQueue(_score, service.writing_thread, limits)
        if self.is_possible:
            self._current_chat()  # flags that do not fit the generator end the start

    @property
    def is_possible(self) -> bool:
        """Whether the service answers questions and has a generator."""
        return bool(self._source.answerer and self._source.answerer.generator)

    @property
    def tokenizer(self) -> CausalTokenizer:
        """The generator's."""
        return self._source.answerer.generator.tokenizer

    def _current_chat(self) -> Chat:
        """Returns a chat with the answerer of now. It is not kept, as it would keep old models after a reload."""
        return Chat(self._source.answerer, self._settings.chat, self._source.examples[:_NUM_EXAMPLES])

    def deadline(self) -> float:
        """Returns the time, by `time.perf_counter`, when a request that begins now is given up."""
        return self._service.deadline()

    async def replies(self, request: ChatRequest) -> AsyncIterator[Reply]:
        """Yields the reply before anything is written, then while it grows, then complete."""
        with request_errors():
            conversation = Conversation.of([message.as_message() for message in request.messages])
            chat = self._current_chat()
            chat.check(conversation)
            settings = self._reply_settings(chat, request)
        found = await self._found(chat, conversation, settings)
        with request_errors():
            draft = await asyncio.to_thread(chat.draft, conversation, settings, found)
        if draft.prompt_ids:
            self._service.check_writing()
        yield draft.begun
        if not draft.prompt_ids:
            return
        start = time.perf_counter()
        written = self._service.write(chat.answerer.generator, draft.prompt_ids, draft.sampling)
        async with contextlib.aclosing(written) as generations:
            async for generation in generations:
                yield await asyncio.to_thread(draft.growing, generation, time.perf_counter() - start)
                if draft.is_stopped(generation):
                    break
        yield await asyncio.to_thread(draft.complete, generation, time.perf_counter() - start)

    def _reply_settings(self, chat: Chat, request: ChatRequest) -> ReplySettings:
        longest, given = chat.answerer.generator.prompt.answer_tokens, request.sampling()
        wanted = request.max_completion_tokens or given.get("max_tokens") or longest
        sampling = chat.answerer.sampling(**given | {"max_tokens": min(wanted, longest)})
        named = {name: getattr(request, name) for name in ("grounded", "from_memory", "only_supported", "k")}
        return ReplySettings(**named, sampling=sampling, stop=request.stops)

    async def _found(self, chat: Chat, conversation: Conversation, settings: ReplySettings) -> Answer | None:
        steps = Steps(chat.search(conversation, settings))
        while (wanted := steps.wanted) is not None:
            if isinstance(wanted, Writing):
                steps.take((await self._written(chat.answerer.generator, wanted.prompt_ids, wanted.sampling)).text)
            else:
                steps.take(await asyncio.gather(*(self._service.retrieved(chat.answerer, query) for query in wanted)))
        return steps.result

    async def _written(
        self, generator: GenerationSession, prompt_ids: list[int], sampling: GenerationSettings, stops: Stops = Stops()
    ) -> Generation:
        """Returns what is written behind a prompt, until a stop is in it."""
        async with contextlib.aclosing(self._service.write(generator, prompt_ids, sampling)) as generations:
            async for generation in generations:
                if stops.cut(generation).finished:
                    break
        return generation

    async def completions(self, request: CompletionRequest) -> list[Completion]:
        """Returns a completion of each prompt, one after the other."""
        generator = self._source.answerer.generator
        max_tokens = _MAX_TOKENS if request.max_tokens is None else request.max_tokens
        with request_errors():
            prompts = _prompt_ids(generator, request.prompt)
            if not (max_tokens or request.echo):
                raise ValueError("max_tokens is 0. Expected 1 or more, or 0 with echo.")
            if request.logprobs is not None and not generator.scorer:
                raise ValueError(_NOT_SCORED)
            generator.check(prompts, room=int(max_tokens > 0))  # a full window still has its scores
            sampling = {"no_repeat_ngram_size": 0, **request.sampling(), "max_tokens": max(1, max_tokens)}
            settings, stops = GenerationSettings(**sampling, biased=False), Stops(request.stops)
        return [await self._completed(generator, ids, settings, stops, request, max_tokens) for ids in prompts]

    async def _completed(
        self,
        generator: GenerationSession,
        prompt_ids: list[int],
        settings: GenerationSettings,
        stops: Stops,
        request: CompletionRequest,
        max_tokens: int,
    ) -> Completion:
        written = Generation((), "", False, 0)
        if max_tokens:
            # Prompts that share their settings are written together, and the longest must leave room to all.
            longest = min(max_tokens, generator.window - len(prompt_ids))
            settings = dataclasses.replace(settings, max_tokens=longest)
            written = await self._written(generator, prompt_ids, settings, stops)
        generation, scores = stops.cut(written, is_last=True), None
        ids = list(written.ids)
        if generation.text != written.text:  # the tokens that hold the text before the stop
            while len(generator.tokenizer.decode(ids[:-1])) >= len(generation.text) and ids:
                ids.pop()
        if request.logprobs is not None:
            scores = await self._scores.result(_ToScore(generator, [*prompt_ids, *ids], max(1, request.logprobs)))
        num_tokens = len(written.ids) + written.finished  # and the end token
        return Completion(prompt_ids, ids, generation.text, generation.finished, num_tokens, scores)


def _prompt_ids(generator: GenerationSession, prompt: str | list) -> list[list[int]]:
    """Returns the ids of each prompt; a text begins with what its tokenizer puts before every text."""
    if not prompt or prompt == [""]:
        raise ValueError("The prompt is empty. Expected a text, token ids, or a list of either.")
    if isinstance(prompt, str) or isinstance(prompt[0], str):
        opening = getattr(generator.tokenizer, "opening_ids", [])
        return [[*opening, *ids] for ids in generator.tokenizer.encode([prompt] if isinstance(prompt, str) else prompt)]
    return [prompt] if isinstance(prompt[0], int) else prompt
