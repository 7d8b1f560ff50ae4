"""READ FIRST: the path of one turn.

messages -> Conversation: roles and texts checked -> small talk? a fixed line
         -> what to search for: the turn, with its topic if it names none, or a question that the model writes
         -> Answerer.retrieve -> near enough? -> prompt: system, earlier turns, sources, question
         -> the generator's session -> each sentence checked -> Reply

The service (docproduct/web/talking.py) takes the same steps in its queues.
"""

import dataclasses
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

from data_pipeline import cleaning
from data_pipeline.prompts.chat_prompts import check_system
from data_pipeline.settings import Settings, setting
from docproduct.answering import Answer, Answerer, Query
from docproduct.chatting import follow_ups, small_talk, written_queries
from docproduct.chatting.conversation import Conversation
from docproduct.chatting.reply import Reply, ReplyDraft, ReplySettings, opening
from docproduct.chatting.steps import run
from docproduct.generation.sampling import GenerationSettings


@dataclasses.dataclass(frozen=True)
class ChatSettings(Settings):
    """How conversations are held."""

    history: str = setting(
        "auto",
        "Whether earlier turns stand in the generator's prompt; auto: if it learned from conversations. Otherwise it "
        "is asked a question that is complete in itself.",
        choices=("auto", "on", "off"),
    )
    write_queries: bool = setting(
        False,
        "Let the generator write what is searched for, from the conversation; default: a turn without a topic gets "
        "that of the turns before.",
    )


class Writing(NamedTuple):
    """What the generator is to write before the search.

    Attributes:
      prompt_ids: Token ids of its prompt.
      sampling: How to write.
    """

    prompt_ids: list[int]
    sampling: GenerationSettings


class Chat:
    """Holds conversations about the answers of an index. It remembers nothing: each call gets the whole conversation.

    Attributes:
      answerer: Finds the sources, and has the generator.
      takes_history: Whether earlier turns stand in the prompt.
    """

    def __init__(self, answerer: Answerer, settings: ChatSettings = ChatSettings(), examples: Sequence[str] = ()):
        """Takes the parts.

        Args:
          answerer: Has a generator.
          settings: How conversations are held.
          examples: Stored questions that a greeting may name.

        Raises:
          ValueError: There is no generator, or it has no chat template and the settings ask for one.
        """
        if answerer.generator is None:
            raise ValueError("A chat needs a generator. Give one with --generator_dir.")
        self.answerer, self._settings, self._examples = answerer, settings, examples
        self._has_template = bool(answerer.generator.chat_template)
        if not self._has_template and (settings.history == "on" or settings.write_queries):
            flag = "--history=on" if settings.history == "on" else "--write_queries"
            raise ValueError(f"This generator has no chat template, and {flag} needs one. Leave it out.")
        learned = answerer.generator.prompt.history
        self.takes_history = learned if settings.history == "auto" else settings.history == "on"

    def stream(self, conversation: Conversation, settings: ReplySettings = ReplySettings()) -> Iterator[Reply]:
        """Yields the reply before anything is written, then while it grows, then complete.

        Raises:
          ValueError: The model's template refuses the conversation, the system prompt is too long, or a setting does
            not fit the index.
        """
        self.check(conversation)
        draft = self.draft(conversation, settings, self.found(conversation, settings))
        yield draft.begun
        if not draft.prompt_ids:
            return
        start = time.perf_counter()
        for generation in self.answerer.generator.stream(draft.prompt_ids, draft.sampling):
            yield draft.growing(generation, time.perf_counter() - start)
            if draft.is_stopped(generation):
                break
        yield draft.complete(generation, time.perf_counter() - start)

    def reply(self, conversation: Conversation, settings: ReplySettings = ReplySettings()) -> Reply:
        """Returns the complete reply; see `stream`."""
        *_, last = self.stream(conversation, settings)
        return last

    def check(self, conversation: Conversation) -> None:
        """Raises a ValueError if the model takes no system prompt, or a shorter one."""
        generator = self.answerer.generator
        if conversation.system and not self._has_template:
            raise ValueError("This generator has no chat template, and takes no system prompt. Leave it out.")
        check_system(generator.tokenizer, conversation.system, generator.prompt.prompt_tokens)

    def found(self, conversation: Conversation, settings: ReplySettings = ReplySettings()) -> Answer | None:
        """Returns what was found for the last turn; None if nothing is to be searched for."""
        return run(self.search(conversation, settings), self._do)

    def _do(self, wanted: "Writing | Sequence[Query]") -> str | list[Answer]:
        if not isinstance(wanted, Writing):
            return self.answerer.retrieve(wanted)
        ((generation,),) = self.answerer.generator.write([wanted.prompt_ids], wanted.sampling)
        return generation.text

    def search(self, conversation: Conversation, settings: ReplySettings) -> Generator[Any, Any, Answer | None]:
        """Yields what to do, takes the result, and returns what was found; None if nothing is to be searched for.

        A `Writing` asks for the text that the generator writes, and a list of queries for their answers.
        """
        if not settings.grounded or self._small_talk(conversation):
            return None
        query = ""
        if self._settings.write_queries and conversation.earlier:
            generator = self.answerer.generator
            ids = written_queries.prompt_ids(generator.tokenizer, conversation, generator.prompt.prompt_tokens)
            query = written_queries.query_in((yield Writing(ids, written_queries.SAMPLING)))
        turns = [query] if query else conversation.user_turns
        return (yield from follow_ups.search(turns, settings.k, settings.only_supported))

    def draft(self, conversation: Conversation, settings: ReplySettings, answer: Answer | None) -> ReplyDraft:
        """Returns what the generator needs to write the reply.

        Args:
          conversation: The conversation.
          settings: How the reply is made.
          answer: What was found; None for small talk, and if the model is asked alone.

        Raises:
          ValueError: As in `stream`.
        """
        question, sampling = cleaning.clean(conversation.question), settings.sampling or self.answerer.sampling()
        searched = answer is not None
        answer = answer or Answer(question, "", (), False, None, 0, {})
        answer = dataclasses.replace(answer, emergency=self.answerer.advice(question) or answer.emergency)
        if settings.grounded and (line := self._small_talk(conversation)):
            return ReplyDraft(Reply(line, answer, searched=False), None, sampling, settings.stop)
        from_memory = not answer.answerable and (settings.from_memory or not settings.grounded)
        reply = Reply(opening(answer, searched, from_memory), answer, searched, from_memory)
        if not (answer.answerable or from_memory):
            return ReplyDraft(reply, None, sampling, settings.stop)
        takes_history = self.takes_history or (from_memory and self._has_template and self._settings.history != "off")
        earlier = conversation.earlier if takes_history else ()
        asked = question if takes_history or from_memory else ""
        query = Query(answer.question, only_supported=settings.only_supported and not from_memory)
        shown = dataclasses.replace(answer, hits=()) if from_memory else answer
        draft = self.answerer.draft(query, shown, conversation.system, earlier, asked)
        draft = draft._replace(answer=dataclasses.replace(draft.answer, hits=answer.hits))
        # The bias of refusals is for prompts with sources.
        sampling = dataclasses.replace(sampling, num_samples=1, biased=draft.answer.num_contexts > 0)
        return ReplyDraft(reply, draft, sampling, settings.stop)

    def _small_talk(self, conversation: Conversation) -> str | None:
        return small_talk.reply_to(conversation.question, self.answerer.index.num_answers, self._examples)
