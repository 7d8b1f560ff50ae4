"""What a response says of its sources, and of a written text beside them."""

from pydantic import BaseModel, Field


class Source(BaseModel):
    """A stored pair, or a passage of a document."""

    id: str = Field(description="For /v1/pairs/{id}.")
    score: float = Field(description="Cosine, -1 to 1.")
    rerank_score: float | None = Field(description="Score that a reranker ordered it by; null if it was not reranked.")
    in_prompt: bool = Field(description="Whether the generator read it.")
    question: str = Field(description="Empty for a passage.")
    answer: str = Field(description="The whole answer, or the passage.")
    source: str = Field(description="The collection, or the document's file.")
    focus: str
    title: str = Field(description="Title of the document; empty for a pair, as the next three.")
    section: str = Field(description="The headings above the passage.")
    page: str = Field(description="Number of its page, from 1; empty for a document without pages.")
    place: str = Field(description="Where the passage stands, to be cited: Asthma guide, Treatment, page 3.")
    columns: dict[str, str] = Field(description="What else the index keeps of it.")


class Suggestion(BaseModel):
    """A topic that may have been meant."""

    topic: str = Field(description="Topic of a near pair, or its question; of a passage, its heading.")
    question: str = Field(description="Its stored question or heading, which is always answerable.")


class WrittenSentence(BaseModel):
    """A sentence that the generator wrote, and what the sources say to it."""

    text: str = Field(description="The sentence with the blanks behind it, without citations of no source.")
    cited: list[int] = Field(description="Numbers of the sources that it cites, from 1.")
    unknown: list[int] = Field(description="Other numbers that it cited; no source has them.")
    sources: list[int] = Field(description="Numbers of the sources that support it; if none does, of the nearest one.")
    score: float = Field(description="Probability that the sources support it, 0 to 1.")
    supported: bool
    checkable: bool = Field(description="Whether it makes a statement that can be checked.")
    reason: str = Field(description="Why it is not supported; otherwise empty.")
