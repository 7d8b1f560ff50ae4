"""Which pairs a request searches."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Text = Annotated[str, StringConstraints(max_length=2_000)]


class Range(BaseModel):
    """Texts between two, as dates such as 2024-01-31 are ordered."""

    model_config = ConfigDict(extra="forbid")

    least: Text | None = None
    most: Text | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> "Range":
        if self.least is None and self.most is None:
            raise ValueError("a range needs least, most, or both")
        return self


class Filtered(BaseModel):
    """A request with a filter."""

    filter: dict[str, Text | Annotated[list[Text], Field(min_length=1, max_length=100)] | Range] = Field(
        {},
        max_length=10,
        description="What pairs must fulfil to be found, by column: a text, several texts, or a range of texts.",
        examples=[{"source": ["NHS", "CDC"]}],
    )

    def conditions(self) -> tuple[str, ...]:
        """Returns the filter as conditions; see search/filters.py."""
        conditions: list[str] = []
        for column, wanted in self.filter.items():
            if isinstance(wanted, Range):
                bounds = ((">=", wanted.least), ("<=", wanted.most))
                conditions += [f"{column}{operator}{text}" for operator, text in bounds if text is not None]
            else:
                conditions += [f"{column}={text}" for text in ([wanted] if isinstance(wanted, str) else wanted)]
        return tuple(conditions)
