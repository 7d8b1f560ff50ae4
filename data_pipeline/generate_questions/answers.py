"""Reads what a model answered: JSON, checked against a schema. Each question is read or counted as faulty."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from data_pipeline import cleaning
from data_pipeline.prompts.question_prompts import OPEN, SERIES, SEVERAL, SINGLE

NO_JSON = "the answer holds no JSON of the form that was asked for"
CUT_OFF = "the answer ends in the middle: the maximum of tokens was reached"
NO_QUESTION = "the answer holds no question"
_TRIED = 100  # brackets at which JSON may begin
_BRACKET, _WORD = re.compile(r"[{\[]"), re.compile(r"\w")
# A choice of these would mean something else, or nothing, when choices are shuffled.
_OF_OTHERS = re.compile(
    r"(all|none|both|any|neither|either) of (the )?(above|these|others?|following|answers|choices)|all the above"
    r"|(both |either )?\(?[a-e]\)? (and|or|et|ou) \(?[a-e]\)?"
    r"|(toutes|aucune|les deux)\b.{0,20}\b(réponses|propositions|ci-dessus|précédentes)\b.*",
    re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Step:
    """A question of a series, or one alone.

    Attributes:
      question: text.
      right: the right choices; of an open question its answer alone.
      wrong: the wrong choices; none of an open question.
    """

    question: str
    right: tuple[str, ...]
    wrong: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Item:
    """A question, or a series of them about one case.

    Attributes:
      steps: the questions in their order; one, if it is no series.
      case: what they are about; empty if it is no series.
    """

    steps: tuple[Step, ...]
    case: str = ""


@dataclasses.dataclass(frozen=True)
class Fault:
    """A part of an answer that cannot be read.

    Attributes:
      reason: why; the same words for faults of one sort.
      part: what was read of it; None for a whole answer.
    """

    reason: str
    part: Any = None


def _visible(text: str) -> str:
    text = cleaning.clean(text)
    if not _WORD.search(text):
        raise PydanticCustomError("no_word", "the text holds no word")
    return text


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, AfterValidator(_visible)]
Texts = Annotated[tuple[Text, ...], Field(min_length=1), BeforeValidator(_listed)]


class _Base(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)  # choices often are numbers


class _Open(_Base):
    question: Text
    answer: Text

    @model_validator(mode="after")
    def _answer_says_more(self) -> "_Open":
        if cleaning.normal_form(self.question) == cleaning.normal_form(self.answer):
            raise PydanticCustomError("repeated", "the answer repeats the question")
        return self

    def step(self) -> Step:
        return Step(self.question, (self.answer,))


class _Several(_Base):
    question: Text
    right: Texts
    wrong: Texts

    @model_validator(mode="after")
    def _choices_differ(self) -> "_Several":
        choices = [*self.right, *self.wrong]
        if len(set(map(cleaning.normal_form, choices))) < len(choices):
            raise PydanticCustomError("equal", "two choices are equal")
        if any(_OF_OTHERS.fullmatch(choice.rstrip(" .")) for choice in choices):
            raise PydanticCustomError("of_others", "a choice speaks of other choices")
        return self

    def step(self) -> Step:
        return Step(self.question, self.right, self.wrong)


class _Single(_Several):
    @model_validator(mode="after")
    def _one_is_right(self) -> "_Single":
        if len(self.right) > 1:
            raise PydanticCustomError("several", "several choices are right")
        return self


class _Series(_Base):
    case: Text
    questions: Annotated[list[_Several], Field(min_length=1)]


_SCHEMAS: dict[str, type[BaseModel]] = {OPEN: _Open, SINGLE: _Single, SEVERAL: _Several, SERIES: _Series}


def parse(answer: str, kind: str, finished: bool = True) -> tuple[list[Item], list[Fault]]:
    """Returns the questions of an answer, and what of it cannot be read. One of the two is not empty.

    A Markdown fence, words around the JSON and thoughts before it are left aside. Of an answer that ends in the middle,
    the questions that are complete are read. A series with one faulty question is faulty as a whole: later questions
    build on earlier ones.

    Args:
      answer: what the model wrote.
      kind: the kind of questions that were asked for.
      finished: whether the model ended its answer; otherwise the maximum of tokens was reached.
    """
    content, parts = _content(answer)
    faults = [] if content else [Fault(NO_JSON if finished else CUT_OFF)]
    if kind == SERIES:
        parts = [content] if content else []
    elif content:
        parts = content["questions"]
    if content and not (isinstance(parts, list) and parts):
        return [], [Fault(NO_QUESTION)]
    items = []
    for part in parts:
        try:
            items.append(_item(_SCHEMAS[kind].model_validate(part)))
        except ValidationError as error:
            faults.append(Fault(_reason(error), part))
    return items, faults


def _item(read: Any) -> Item:
    if isinstance(read, _Series):
        return Item(tuple(question.step() for question in read.questions), read.case)
    return Item((read.step(),))


def _content(answer: str) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
    """Returns the first object with a field "questions", or None and the objects that are a question each.

    A list of objects counts as that field.
    """
    parts = []
    for value in _values(answer.rpartition("</think>")[2]):
        if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
            return {"questions": value}, []
        if isinstance(value, dict) and "questions" in value:
            return value, []
        if isinstance(value, dict) and "question" in value:
            parts.append(value)
    return None, parts


def _values(text: str) -> Iterator[Any]:
    decoder = json.JSONDecoder()
    for bracket, _ in zip(_BRACKET.finditer(text), range(_TRIED), strict=False):
        with contextlib.suppress(ValueError, RecursionError):
            yield decoder.raw_decode(text, bracket.start())[0]


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(part for part in first["loc"] if isinstance(part, str))
    return f"{field}: {first['msg']}" if field else first["msg"]


def shuffled(step: Step) -> tuple[list[str], list[int]]:
    """Returns the choices in an order that a hash of the texts decides, and the places of the right ones."""
    choices = sorted(
        (*step.right, *step.wrong), key=lambda choice: (cleaning.hash64(f"{step.question}\0{choice}"), choice)
    )
    return choices, sorted(map(choices.index, step.right))


def texts_of(item: Item) -> Sequence[str]:
    """Returns the case, if there is one, and the questions, each with its right choices, as documents hold them."""
    turns = [f"Question: {step.question}\nAnswer: {'; '.join(step.right)}" for step in item.steps]
    return [*filter(None, [item.case]), *turns]
