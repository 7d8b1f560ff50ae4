"""A reply of the assistant, complete or while it is written."""

import dataclasses
from typing import Any

from data_pipeline.prompts.chat_prompts import REFUSAL
from data_pipeline.settings import Settings, setting
from docproduct.answering import Answer
from docproduct.answering.draft import Draft
from docproduct.answering.query import NOT_ANSWERABLE
from docproduct.chatting.stops import Stops
from docproduct.generation.sampling import GenerationSettings
from docproduct.generation.session import Generation

FROM_MEMORY = "From the model's memory, without a source:"
_NEAREST = "The nearest stored answer is to the question: {question}\n\n{answer}"
_NEAREST_PASSAGE = "The nearest passage is from {place}:\n\n{answer}"
_NOTHING_SUPPORTED = "Nothing that the model wrote is in the sources. The nearest stored answer:\n\n{answer}"
_NOTHING = "The model wrote nothing."
_OF_ANSWER = (  # what a reply tells of its answer
    *("corrected", "answerable", "suggestions", "sources", "sentences", "support", "supported", "num_left_out"),
    *("question_shortened", "seconds", "emergency", "disclaimer"),
)


@dataclasses.dataclass(frozen=True)
class ReplySettings(Settings):
    """How a reply is made.

    Attributes:
      sampling: How it is written. None: greedily, at most as long as the generator was trained for.
      stop: Texts before which writing stops.
    """

    grounded: bool = setting(True, "Search for sources and answer from them; otherwise the model is asked alone.")
    from_memory: bool = setting(
        False, "Where no stored answer is near, let the model go on from memory; the reply says so."
    )
    only_supported: bool = setting(False, "Leave out written sentences that the sources do not support.")
    k: int | None = setting(None, "Number of sources; default: 5, or all answers of a smaller index.", least=1)
    sampling: GenerationSettings | None = None
    stop: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Reply:
    """A reply.

    Attributes:
      content: The message of the assistant: advice in an emergency, that nothing is near, and what was written.
      answer: What was found, and what was written with the check of its sentences.
      searched: Whether sources were searched for.
      from_memory: Whether the model wrote without sources.
      num_left_out: Earlier messages that had no room in the prompt.
      prompt_tokens: Tokens that the model read.
      completion_tokens: Tokens that it wrote.
      finished: Whether the reply is complete; otherwise it is still growing, or the token limit cut it.
    """

    content: str
    answer: Answer
    searched: bool = True
    from_memory: bool = False
    num_left_out: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finished: bool = True

    def as_json(self) -> dict[str, Any]:
        """Returns what scripts and the service tell beside the message."""
        answer = self.answer.as_json()
        told = {name: answer[name] for name in _OF_ANSWER}
        if not self.searched:
            told["answerable"] = None
        query = self.answer.question if self.searched else None
        return {"query": query, "from_memory": self.from_memory, "messages_left_out": self.num_left_out, **told}


class ReplyDraft:
    """A reply that is being written.

    Attributes:
      begun: The reply before anything is written; complete if nothing will be.
      prompt_ids: Token ids of the prompt; empty if nothing is to be written.
      sampling: How to write.
    """

    def __init__(self, begun: Reply, draft: Draft | None, sampling: GenerationSettings, stop: tuple[str, ...]):
        """Joins the parts; `draft` is None if nothing is to be written."""
        self.prompt_ids = draft.prompt_ids if draft else []
        self.sampling, self._draft, self._stops = sampling, draft, Stops(stop)
        self.begun = begun
        if draft:
            size, left_out = len(self.prompt_ids), draft.num_left_out
            self.begun = dataclasses.replace(begun, prompt_tokens=size, num_left_out=left_out, finished=False)

    def is_stopped(self, generation: Generation) -> bool:
        """Returns whether a growing text holds a stop, so that writing may end."""
        return self._stops.cut(generation).finished

    def growing(self, generation: Generation, seconds: float) -> Reply:
        """Returns the reply so far; its content is the beginning of the whole."""
        answer = self._draft.growing(self._stops.cut(generation), seconds)
        return self._with(answer, generation, answer.generated or "", finished=False)

    def complete(self, generation: Generation, seconds: float) -> Reply:
        """Returns the whole reply, every sentence checked."""
        answer = self._draft.complete(self._stops.cut(generation, is_last=True), seconds)
        return self._with(answer, generation, _whole(answer), answer.finished)

    def _with(self, answer: Answer, generation: Generation, written: str, finished: bool) -> Reply:
        content = "\n\n".join(filter(None, [self.begun.content, written]))
        num_tokens = len(generation.ids) + generation.finished  # and the end token
        return dataclasses.replace(
            self.begun, content=content, answer=answer, completion_tokens=num_tokens, finished=finished
        )


def opening(answer: Answer, searched: bool, from_memory: bool) -> str:
    """Returns what stands before anything that the model writes."""
    parts = [answer.emergency]
    if searched and not answer.answerable:
        topics = "; ".join(suggestion.topic for suggestion in answer.suggestions)
        parts.append(f"{NOT_ANSWERABLE} Did you mean: {topics}?" if topics else NOT_ANSWERABLE)
        parts.append(FROM_MEMORY if from_memory else None)
    return "\n\n".join(filter(None, parts))


def _whole(answer: Answer) -> str:
    """Returns the written text, and what helps a reader where the model refused or wrote nothing that counts."""
    hit = answer.hits[0] if answer.hits and answer.num_contexts else None
    if not answer.generated:
        return _NOTHING_SUPPORTED.format(answer=hit.answer) if hit and answer.num_left_out else _NOTHING
    if answer.generated == REFUSAL and hit:
        nearest = _NEAREST_PASSAGE if hit.place else _NEAREST
        return f"{REFUSAL} {nearest.format(question=hit.question, place=hit.place, answer=hit.answer)}"
    return answer.generated
