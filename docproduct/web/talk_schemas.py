"""The bodies of OpenAI's routes for conversations and completions; other fields that its clients send are ignored."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from data_pipeline.settings import descriptions
from docproduct.chatting import ReplySettings
from docproduct.web import schemas
from docproduct.web.settings import RequestLimits

MODEL_ID = "docproduct-chat"
_MOST_LOGPROBS = 5
_LARGEST = 1_000_000
_MAX_TOKENS_HELP = "Maximum tokens of the reply; never more than the generator was trained for."
_MOST_STOPS = {"chat": 4, "completions": 16}  # evaluation harnesses send more than OpenAI takes
_REPLY = descriptions(ReplySettings)
_SAMPLING = {name: (kind | None, field) for name, (kind, field) in schemas.SAMPLING.items()}


class _Written(create_model("_Sampled", __base__=BaseModel, **_SAMPLING)):
    """What both routes take: how a text is written."""

    model_config = ConfigDict(allow_inf_nan=False)

    model: str | None = Field(None, max_length=200, description="Returned as it is; there is only one model.")
    n: Literal[1] | None = Field(None, description="Number of texts: one.")
    stop: str | list[str] | None = Field(None, description="Texts before which writing stops.")

    def sampling(self) -> dict[str, Any]:
        """Returns the sampling settings that are given."""
        given = self.model_fields_set
        return {name: value for name in _SAMPLING if name in given and (value := getattr(self, name)) is not None}

    @property
    def stops(self) -> tuple[str, ...]:
        """The stops, none or several."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class TextPart(BaseModel):
    """A part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """A message of a conversation."""

    role: str = Field(description="system, user or assistant.", examples=["user"])
    content: str | list[TextPart] | None = Field(None, examples=["What helps against a cough?"])

    def as_message(self) -> dict[str, str | None]:
        """Returns role and text."""
        parts = self.content
        return {"role": self.role, "content": "".join(p.text for p in parts) if isinstance(parts, list) else parts}


class StreamOptions(BaseModel):
    """What a stream holds."""

    include_usage: bool | None = Field(None, description="End with a chunk of the numbers of tokens.")


class ChatRequest(_Written):
    """A conversation, and how the reply to its last message is made."""

    messages: list[ChatMessage]
    stream: bool | None = Field(None, description="Send the reply in chunks while it is written.")
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(None, ge=1, le=_LARGEST, description=_MAX_TOKENS_HELP)
    max_completion_tokens: int | None = Field(None, ge=1, le=_LARGEST, description="The same; it goes first.")
    grounded: bool = schemas.field(_REPLY["grounded"], True)
    from_memory: bool = schemas.field(_REPLY["from_memory"], False)
    only_supported: bool = schemas.field(_REPLY["only_supported"], False)
    k: int | None = schemas.field(_REPLY["k"], None, most=schemas.MAX_K)


class CompletionRequest(_Written):
    """A text or its token ids, and how the model goes on."""

    prompt: str | list[int] | list[str] | list[list[int]]
    echo: bool | None = Field(None, description="Return the prompt before what is written.")
    logprobs: int | None = Field(None, ge=0, le=_MOST_LOGPROBS, description="Number of likeliest tokens to return.")
    max_tokens: int | None = Field(None, ge=0, le=4_096, description="Maximum tokens to write; default: 16.")
    best_of: Literal[1] | None = Field(None, description="Number of texts to choose from: one.")
    stream: Literal[False] | None = Field(None, description="Completions are sent whole.")


class Requests(NamedTuple):
    """The bodies of the requests, with their limits.

    Attributes:
      chat: For /v1/chat/completions.
      completion: For /v1/completions.
    """

    chat: type[ChatRequest]
    completion: type[CompletionRequest]


def requests(limits: RequestLimits) -> Requests:
    """Returns the bodies of the requests, which refuse more than these limits."""
    text = Annotated[str, StringConstraints(max_length=limits.text_chars)]
    part = create_model("TextPart", __base__=TextPart, text=(text, ...))
    content = (text | Annotated[list[part], Field(max_length=limits.texts)] | None, ChatMessage.model_fields["content"])
    message = create_model("ChatMessage", __base__=ChatMessage, content=content)
    messages = (Annotated[list[message], Field(min_length=1, max_length=limits.texts)], ...)
    ids = Annotated[list[int], Field(max_length=limits.text_chars)]
    several = (Annotated[list[kind], Field(min_length=1, max_length=limits.texts)] for kind in (text, ids))
    prompt = text | ids
    for kind in several:
        prompt |= kind
    stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]

    def stops(route: str) -> tuple[Any, Any]:
        return (stop | Annotated[list[stop], Field(max_length=_MOST_STOPS[route])] | None, None)

    return Requests(
        create_model(
            "ChatRequest", __base__=ChatRequest, __doc__=ChatRequest.__doc__, messages=messages, stop=stops("chat")
        ),
        create_model(
            "CompletionRequest",
            __base__=CompletionRequest,
            __doc__=CompletionRequest.__doc__,
            prompt=(prompt, ...),
            stop=stops("completions"),
        ),
    )


class Usage(BaseModel):
    """Numbers of tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AssistantMessage(BaseModel):
    """The reply."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """The reply, and why it ends."""

    index: int
    message: AssistantMessage
    logprobs: None = None
    finish_reason: Literal["stop", "length"]


class ChatResponse(BaseModel):
    """A reply in OpenAI's form, with its sources beside it."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    query: str | None = Field(description="What was searched for; null if nothing was.")
    from_memory: bool = Field(description="Whether the model wrote without sources.")
    messages_left_out: int = Field(description="Earlier messages that had no room in the prompt.")
    corrected: str | None = Field(description="The query that was searched for, if its words were corrected.")
    answerable: bool | None = Field(description="Whether a stored answer is near enough; null without a search.")
    suggestions: list[schemas.Suggestion]
    sources: list[schemas.Source]
    sentences: list[schemas.WrittenSentence]
    support: float | None
    supported: bool | None
    num_left_out: int
    question_shortened: bool
    seconds: dict[str, float]
    emergency: str | None
    disclaimer: str


class Logprobs(BaseModel):
    """Log-probabilities of tokens."""

    tokens: list[str]
    token_logprobs: list[float | None] = Field(description="The first token of a prompt has none.")
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class CompletionChoice(BaseModel):
    """What was written behind a prompt."""

    text: str
    index: int
    logprobs: Logprobs | None
    finish_reason: Literal["stop", "length"]


class CompletionResponse(BaseModel):
    """Completions in OpenAI's form."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage
    disclaimer: str
