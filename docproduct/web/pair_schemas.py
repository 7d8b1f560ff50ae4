"""The bodies of requests that change pairs, and of their answers."""

from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, create_model

from docproduct.web.settings import RequestLimits

TAGS = _ONE, _SEVERAL = "<one>", "<several>"  # in the places of errors; no field is named so
Id = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class PairTexts(BaseModel):
    """A question with its answer. Other fields are texts of further columns that the index keeps, such as url."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, str]

    question: str = Field(min_length=1, examples=["What helps against a cough?"])
    answer: str = Field(min_length=1, examples=["Drink enough, and rest."])
    source: str = Field("", description="The collection that it comes from.")
    focus: str = Field("", description="Its topic.")

    def texts(self) -> dict[str, str]:
        """Returns the texts by column."""
        return {name: text for name, text in self.model_dump().items() if name != "id"}


class PairRequest(PairTexts):
    """A pair to add, or to put in the place of the one with its id."""

    id: Id | None = Field(
        None, description="A number of 64 bits, or any other name; default: a number that its texts decide."
    )


class Requests(NamedTuple):
    """The bodies of the requests, with their limits.

    Attributes:
      post: A pair, or several.
      put: The texts of a pair.
    """

    post: Any
    put: type[PairTexts]


def requests(limits: RequestLimits) -> Requests:
    """Returns the bodies of the requests, which refuse more than these limits."""
    question = Annotated[str, StringConstraints(min_length=1, max_length=limits.question_chars)]
    answer = Annotated[str, StringConstraints(min_length=1, max_length=limits.text_chars)]
    label = Annotated[str, StringConstraints(max_length=limits.question_chars)]

    def limited(base: type[PairTexts]) -> type[PairTexts]:
        fields = base.model_fields
        kinds = {"question": question, "answer": answer, "source": label, "focus": label}
        body = create_model(
            base.__name__,
            __base__=base,
            __doc__=base.__doc__,
            **{name: (kind, fields[name]) for name, kind in kinds.items()},
        )
        return body

    one = limited(PairRequest)
    several = create_model(
        "PairsRequest",
        __doc__="Several pairs, which are all stored or none.",
        __config__=ConfigDict(extra="forbid"),
        pairs=(list[one], Field(min_length=1, max_length=limits.pairs)),
    )
    kind = Discriminator(lambda body: _SEVERAL if isinstance(body, several) or _has_pairs(body) else _ONE)
    return Requests(Annotated[Annotated[one, Tag(_ONE)] | Annotated[several, Tag(_SEVERAL)], kind], limited(PairTexts))


def _has_pairs(body: Any) -> bool:
    return isinstance(body, dict) and "pairs" in body


class ChangedPair(BaseModel):
    """What happened to a pair."""

    id: str
    status: Literal["added", "replaced", "unchanged", "removed"]


class ChangeResponse(BaseModel):
    """What happened to the pairs of a request; it is on the disk, and searches see it."""

    pairs: list[ChangedPair]
    num_answers: int = Field(description="Number of different answers in the index.")


class StoredPair(PairTexts):
    """A pair of the index, with the further columns that the index keeps."""

    id: str


class LiveState(BaseModel):
    """What was changed since the index folder was written and its calibration was made."""

    changes: int = Field(description="Number of changed pairs.")
    changed_share: float = Field(description="The same by the number of pairs.")
    compacting: bool = Field(description="Whether the folder is being written anew, with a new calibration.")
