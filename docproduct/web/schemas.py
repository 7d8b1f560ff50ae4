"""What the service is asked, and what it answers, as its OpenAPI page shows it."""

import dataclasses
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, field_validator
from pydantic_core import PydanticCustomError

MAX_K = 50
MODEL_ID = "docproduct"
_LARGEST_SEED = 2**31 - 1
_BYTES_OF_CHAR = 12  # of an emoji in ASCII JSON: two escapes
_BODY_FRAME = 1024  # bytes for the other fields
_NO_TEXTS = (
    "The input is token ids of another model's tokenizer; expected a text or a list of texts. In LangChain, set "
    "check_embedding_ctx_length=False of OpenAIEmbeddings."
)


@dataclasses.dataclass(frozen=True)
class RequestLimits:
    """How much a request may hold.

    Attributes:
      question_chars: characters of a question.
      texts: texts to encode.
      text_chars: characters of each.
    """

    question_chars: int = 2_000
    texts: int = 256
    text_chars: int = 20_000

    @property
    def body_bytes(self) -> int:
        """Bytes of a body, in whole KiB, that holds the longest question or text, whichever its characters are."""
        return -(-(_BYTES_OF_CHAR * max(self.question_chars, self.text_chars) + _BODY_FRAME) // 1024) * 1024

    def __post_init__(self) -> None:
        """Raises a ValueError for a limit below 1."""
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} is {value}; expected 1 or more.")


class RetrieveRequest(BaseModel):
    """A question."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    question: str = Field(min_length=1, examples=["What helps against a cough?"])
    k: int | None = Field(None, ge=1, le=MAX_K, description="Number of sources; default: 5, or all of a smaller index.")
    search_by: Literal["answer", "question"] = Field("answer", description="What the question is compared with.")


class AnswerRequest(RetrieveRequest):
    """A question, and how its answer is written."""

    generate: bool = Field(True, description="Whether an answer is written; else the nearest one is quoted only.")
    max_tokens: int | None = Field(None, ge=1, le=4_096, description="Longest written answer.")
    temperature: float = Field(0.0, ge=0.0, le=2.0, description="0: always the likeliest token.")
    top_k: int = Field(0, ge=0, le=100_000, description="Only the k likeliest tokens; 0: all.")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="Only the likeliest tokens of this probability together.")
    repetition_penalty: float = Field(1.0, ge=0.1, le=10.0, description="Above 1, met tokens are less likely.")
    no_repeat_ngram_size: int = Field(8, ge=0, le=64, description="No run of so many tokens twice; 0: any may.")
    seed: int = Field(0, ge=0, le=_LARGEST_SEED, description="Of the draws.")
    stream: bool = Field(False, description="Server-sent events: answer, text ..., done; or error.")


class EmbeddingsRequest(BaseModel):
    """Texts, as OpenAI's clients send them; what else they send is ignored."""

    model_config = ConfigDict(allow_inf_nan=False)

    input: str | list[str]
    model: str | None = Field(None, max_length=200, description="Is given back; there is one model.")
    side: Literal["question", "answer"] = Field("question", description="Whose head the texts pass.")
    encoding_format: Literal["float", "base64"] = Field("float", description="base64: of little-endian float32.")
    dimensions: int | None = Field(None, ge=1, description="First components only, as unit vectors.")

    @field_validator("input", mode="before")
    @classmethod
    def _no_token_ids(cls, value: Any) -> Any:
        if isinstance(value, list) and value and (_are_ids(value) or all(map(_are_ids, value))):
            raise PydanticCustomError("token_ids", _NO_TEXTS)
        return value


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int for item in value)


class Requests(NamedTuple):
    """The bodies of the routes, with their limits.

    Attributes:
      answer: of /v1/answer.
      retrieve: of /v1/retrieve.
      embeddings: of /v1/embeddings.
    """

    answer: type[AnswerRequest]
    retrieve: type[RetrieveRequest]
    embeddings: type[EmbeddingsRequest]


def requests(limits: RequestLimits) -> Requests:
    """Returns the bodies of the routes, which refuse more than these limits."""
    length = StringConstraints(min_length=1, max_length=limits.question_chars)
    question = (Annotated[str, length], Field(examples=["What helps against a cough?"]))
    text = Annotated[str, StringConstraints(min_length=1, max_length=limits.text_chars)]
    texts = Annotated[list[text], Field(min_length=1, max_length=limits.texts)]
    return Requests(
        create_model("AnswerRequest", __base__=AnswerRequest, __doc__=AnswerRequest.__doc__, question=question),
        create_model("RetrieveRequest", __base__=RetrieveRequest, __doc__=RetrieveRequest.__doc__, question=question),
        create_model(
            "EmbeddingsRequest",
            __base__=EmbeddingsRequest,
            __doc__=EmbeddingsRequest.__doc__,
            input=(text | texts, ...),
        ),
    )


class Model(BaseModel):
    """A model that encodes texts, as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="When the service started, in seconds since 1970.")
    owned_by: str = MODEL_ID


class Models(BaseModel):
    """The models that there are."""

    object: Literal["list"] = "list"
    data: list[Model]


class Source(BaseModel):
    """A stored pair that was found."""

    score: float = Field(description="Cosine, -1 to 1.")
    in_prompt: bool = Field(description="Whether the written answer was written from it.")
    question: str
    answer: str
    source: str
    focus: str


class RetrieveResponse(BaseModel):
    """What was found."""

    question: str
    near: bool = Field(description="Whether something is near enough to answer the question.")
    sources: list[Source]
    seconds: dict[str, float]
    emergency: str | None = Field(description="What to do at once, if the question speaks of an emergency.")
    disclaimer: str


class AnswerResponse(RetrieveResponse):
    """What was found, and what was written from it."""

    answer: str = Field(description="The nearest stored answer, quoted; or that none is near enough.")
    generated: str | None = Field(description="What the generator wrote.")
    finished: bool = Field(description="Whether the generator ended its answer; else the limit of tokens cut it.")
    question_shortened: bool = Field(description="Whether the generator read the question without its end.")


class Embedding(BaseModel):
    """The vector of a text."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Tokens that were encoded."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(BaseModel):
    """Vectors, as OpenAI's clients read them."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage


class Info(BaseModel):
    """What a page needs to know."""

    num_answers: int
    generator: bool
    max_k: int
    max_question_chars: int
    max_texts: int
    max_text_chars: int
    max_body_bytes: int
    max_tokens: int | None
    examples: list[str]
    disclaimer: str


class Error(BaseModel):
    """What went wrong, in words."""

    message: str
    type: str


class ErrorResponse(BaseModel):
    """The body of every answer with status 400 or more."""

    error: Error


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns how the OpenAPI page describes these errors."""
    return {status: {"model": ErrorResponse} for status in statuses}
