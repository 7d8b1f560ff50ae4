"""The bodies of requests and answers, as the service's OpenAPI page shows them."""

import dataclasses
import typing
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, field_validator
from pydantic_core import PydanticCustomError

from data_pipeline.settings import Description, descriptions
from docproduct.answering import Query
from docproduct.generation.sampling import GenerationSettings
from docproduct.web import pair_schemas
from docproduct.web.feedback import FeedbackRequest
from docproduct.web.filter_schemas import Filtered
from docproduct.web.settings import RequestLimits
from docproduct.web.source_schemas import Source, Suggestion, WrittenSentence

MAX_K = 50
MODEL_ID = "docproduct"
_EXAMPLE = "What helps against a cough?"
_NO_TEXTS = (
    "The input is token ids of another model's tokenizer; expected a text or a list of texts. In LangChain, set "
    "check_embedding_ctx_length=False of OpenAIEmbeddings."
)
_QUERY = descriptions(Query)
# A request may ask for less than a script: it comes from anyone, and ends in tensors of int32.
_BOUNDS: dict[str, dict[str, float]] = {
    "max_tokens": {"most": 4_096},
    "temperature": {"most": 2.0},
    "top_k": {"most": 100_000},
    "repetition_penalty": {"least": 0.1, "most": 10.0},
    "seed": {"most": 2**31 - 1},
}


def field(described: Description, default: Any, **bounds: float) -> Any:
    """Returns a field with the help and the bounds of a setting, some of them narrower."""
    described = dataclasses.replace(described, **bounds)
    return Field(
        default,
        ge=described.least,
        le=described.most,
        gt=described.above,
        lt=described.below,
        description=described.help,
    )


def _sampling_fields() -> dict[str, tuple[Any, Any]]:
    """Returns type and field of each sampling setting; without max_tokens, the generator decides."""
    kinds, defaults = typing.get_type_hints(GenerationSettings), GenerationSettings()
    fields = {
        name: (kinds[name], field(described, getattr(defaults, name), **_BOUNDS.get(name, {})))
        for name, described in descriptions(GenerationSettings).items()
        if name != "num_samples"
    }
    longest = field(descriptions(GenerationSettings)["max_tokens"], None, **_BOUNDS["max_tokens"])
    return fields | {"max_tokens": (int | None, longest)}


class RetrieveRequest(Filtered):
    """A question."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    question: str = Field(min_length=1, examples=[_EXAMPLE])
    k: int | None = field(_QUERY["k"], None, most=MAX_K)
    search_by: Literal["answer", "question"] = field(_QUERY["search_by"], "answer")
    correct: bool = field(_QUERY["correct"], True)


SAMPLING = _sampling_fields()


class AnswerRequest(create_model("_Sampling", __base__=RetrieveRequest, **SAMPLING)):
    """A question, and how its answer is written."""

    generate: bool = field(_QUERY["generate"], True)
    only_supported: bool = field(_QUERY["only_supported"], False)
    stream: bool = Field(False, description="Send server-sent events: answer, text ..., done; or error.")

    def sampling(self) -> dict[str, Any]:
        """Returns the sampling settings; max_tokens only if it is given."""
        return {name: value for name in SAMPLING if (value := getattr(self, name)) is not None}


class EmbeddingsRequest(BaseModel):
    """Texts, as OpenAI's clients send them; other fields that they send are ignored."""

    model_config = ConfigDict(allow_inf_nan=False)

    input: str | list[str]
    model: str | None = Field(None, max_length=200, description="Returned with the vectors; there is only one model.")
    side: Literal["question", "answer"] = Field("question", description="Whether the texts are questions or answers.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64 encodes little-endian float32.")
    dimensions: int | None = Field(None, ge=1, description="First components to keep, as unit vectors.")

    @field_validator("input", mode="before")
    @classmethod
    def _no_token_ids(cls, value: Any) -> Any:
        if isinstance(value, list) and value and (_are_ids(value) or all(map(_are_ids, value))):
            raise PydanticCustomError("token_ids", _NO_TEXTS)
        return value


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


class TriageRequest(BaseModel):
    """What a patient wrote."""

    model_config = ConfigDict(extra="forbid")

    text: str = Field(min_length=1, examples=["My chest hurts when I climb stairs."])
    reply: bool = Field(False, description="Draft a reply, if the model can.")


class ChoicesRequest(BaseModel):
    """A question with its choices."""

    model_config = ConfigDict(extra="forbid")

    question: str = Field(min_length=1, examples=["Which vitamin is made in the skin?"])
    choices: list[str] = Field(min_length=2, examples=[["Vitamin C", "Vitamin D"]], description="Different texts.")
    context: str = Field("", description="What is read before the question; a context that is too long is cut.")
    several: bool = Field(False, description="Whether several choices may be right; for trained models only.")


class Requests(NamedTuple):
    """The bodies of the requests, with their limits.

    Attributes:
      answer: For /v1/answer.
      retrieve: For /v1/retrieve.
      embeddings: For /v1/embeddings.
      triage: For /v1/triage.
      choices: For /v1/choices.
      feedback: For /v1/feedback.
    """

    answer: type[AnswerRequest]
    retrieve: type[RetrieveRequest]
    embeddings: type[EmbeddingsRequest]
    triage: type[TriageRequest]
    choices: type[ChoicesRequest]
    feedback: type[FeedbackRequest]


def requests(limits: RequestLimits) -> Requests:
    """Returns the bodies of the requests, which refuse more than these limits."""
    length = StringConstraints(min_length=1, max_length=limits.question_chars)
    question = (Annotated[str, length], Field(examples=[_EXAMPLE]))
    text = Annotated[str, StringConstraints(min_length=1, max_length=limits.text_chars)]
    texts = Annotated[list[text], Field(min_length=1, max_length=limits.texts)]
    choices = Annotated[list[Annotated[str, length]], Field(min_length=2, max_length=limits.choices)]
    of_choices = ChoicesRequest.model_fields
    return Requests(
        _limited(AnswerRequest, question=question),
        _limited(RetrieveRequest, question=question),
        _limited(EmbeddingsRequest, input=(text | texts, ...)),
        _limited(TriageRequest, text=(Annotated[str, length], ...)),
        _limited(
            ChoicesRequest,
            question=(Annotated[str, length], of_choices["question"]),
            choices=(choices, of_choices["choices"]),
            context=(Annotated[str, StringConstraints(max_length=limits.text_chars)], of_choices["context"]),
        ),
        _limited(FeedbackRequest, question=question),
    )


def _limited(base: type[BaseModel], **fields: Any) -> type[Any]:
    """Returns a body with other types of some fields, under the name and with the docstring of the given one."""
    return create_model(base.__name__, __base__=base, __doc__=base.__doc__, **fields)


class Model(BaseModel):
    """A model, as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the service started, in seconds since 1970.")
    owned_by: str = MODEL_ID


class Models(BaseModel):
    """The models of the service."""

    object: Literal["list"] = "list"
    data: list[Model]


class RetrieveResponse(BaseModel):
    """The sources of a question."""

    question: str
    corrected: str | None = Field(
        description="The question that was searched for, if misspelt words of the asked one were corrected; else null."
    )
    answerable: bool = Field(description="Whether a stored answer is close enough to the question.")
    suggestions: list[Suggestion] = Field(
        description="If the question is not answerable, up to three topics that may have been meant."
    )
    sources: list[Source]
    seconds: dict[str, float]
    emergency: str | None = Field(description="Advice to seek help at once, if the question speaks of an emergency.")
    disclaimer: str


class AnswerResponse(RetrieveResponse):
    """The sources of a question, and the answer."""

    answer: str = Field(description="The best stored answer, quoted; or that none is close enough.")
    generated: str | None = Field(description="The text of the generator.")
    sentences: list[WrittenSentence] = Field(description="That text, sentence by sentence; empty while it grows.")
    support: float | None = Field(description="Share of its statements that the sources support, 0 to 1.")
    supported: bool | None = Field(description="Whether that share is large enough to show the text unasked.")
    num_left_out: int = Field(description="Number of unsupported sentences that only_supported left out.")
    finished: bool = Field(description="Whether the generator ended its text; false if the token limit cut it.")
    question_shortened: bool = Field(description="Whether the generator did not read the end of the question.")


class Embedding(BaseModel):
    """The vector of a text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Number of tokens that were encoded."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """Vectors, as OpenAI's clients read them."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Department(BaseModel):
    """A department with its probability."""

    label: str
    prob: float = Field(description="Calibrated probability, 0 to 1.")


class TriageResponse(BaseModel):
    """The likeliest departments of a text."""

    text: str = Field(description="The text as it was read.")
    departments: list[Department] = Field(description="The likeliest, the first one first.")
    sure: bool = Field(description="Whether the first is likely enough, and the text of a known kind.")
    note: str | None = Field(description="What to do if the model is not sure.")
    advice: str | None = Field(description="What to do at once, if the text speaks of an emergency.")
    reply: str | None = Field(description="A draft of a reply, which nobody has checked.")
    disclaimer: str


class Choice(BaseModel):
    """A choice with its probability."""

    choice: str
    probability: float = Field(description="0 to 1; where only one choice may be right, they add up to 1.")
    chosen: bool


class ChoicesResponse(BaseModel):
    """What a model chooses."""

    question: str = Field(description="The question as it was read.")
    choices: list[Choice] = Field(description="In the order of the request.")
    chosen: list[str] = Field(description="The chosen ones.")
    trained: bool = Field(description="Whether the model was trained to choose; else how likely the words are decides.")
    context_shortened: bool = Field(description="Whether the end of the context was not read: too many tokens.")
    question_shortened: bool = Field(description="Whether the beginning of the question was not read: too many tokens.")
    emergency: str | None = Field(description="Advice to seek help at once, if the texts speak of an emergency.")
    seconds: dict[str, float]
    disclaimer: str


class Info(BaseModel):
    """Facts that a page shows."""

    num_answers: int = Field(description="0 if the service answers no questions.")
    num_documents: int = Field(description="Documents whose passages are among the answers.")
    search_by: list[Literal["answer", "question"]] = Field(description="Sides that can be searched.")
    generator: bool
    triage: bool = Field(description="Whether /v1/triage can be asked.")
    triage_reply: bool = Field(description="Whether it can draft a reply.")
    choices: bool = Field(description="Whether /v1/choices can be asked.")
    choices_several: bool = Field(description="Whether it can be told that several choices may be right.")
    max_k: int
    max_question_chars: int
    max_texts: int
    max_text_chars: int
    max_choices: int
    max_body_bytes: int
    max_tokens: int | None
    examples: list[str]
    sources: list[str] = Field(description="Sources of the pairs, at most 50; for filters.")
    columns: list[str] = Field(description="Columns that pairs can be filtered by.")
    feedback: bool = Field(description="Whether the service keeps ratings, and questions without an answer.")
    live: pair_schemas.LiveState | None = Field(description="Changes of the pairs; null if they cannot be changed.")
    disclaimer: str


class Error(BaseModel):
    """An error in words."""

    message: str
    type: str


class ErrorResponse(BaseModel):
    """The body of every response with status 400 or more."""

    error: Error


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI description of these errors."""
    return {status: {"model": ErrorResponse} for status in statuses}
