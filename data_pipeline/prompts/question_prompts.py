"""Prompts that ask a language model for questions about a passage, in JSON.

    system    what a good question is
    user      Title: the passage's title
              Passage:
              its text

              what to write, and the form of the answer

Right and wrong choices are asked for apart: models miscount places, and put the right choice where they like. The
reader of the answers shuffles them.
"""

import dataclasses
from typing import Any

from data_pipeline.prompts.chat_template import Message
from data_pipeline.rows import Passage
from data_pipeline.settings import Settings, setting

OPEN, SINGLE, SEVERAL, SERIES = KINDS = ("open", "single", "several", "series")
_WHAT = {
    OPEN: "{n} with the answer to each: one to three sentences that say what the passage says",
    SINGLE: "{n} with choices, each with exactly one right choice and {wrong} wrong ones",
    SEVERAL: "{n} with choices, each with {choices} of them, of which two or more are right and the others wrong",
    SERIES: (
        "a short case, such as that of a patient, and {n} with choices about it, each with one right choice and "
        "{wrong} wrong ones. The questions follow the case step by step: each may use the right choices of those before"
    ),
}
_FORMS = {
    OPEN: '{"questions": [{"question": "...", "answer": "..."}, ...]}',
    SINGLE: '{"questions": [{"question": "...", "right": ["..."], "wrong": ["...", ...]}, ...]}',
    SEVERAL: '{"questions": [{"question": "...", "right": ["...", ...], "wrong": ["...", ...]}, ...]}',
    SERIES: '{"case": "...", "questions": [{"question": "...", "right": ["..."], "wrong": ["...", ...]}, ...]}',
}
_CHOICES = " Wrong choices are plausible, and wrong beyond doubt. No choice speaks of other choices."
# With which an answer begins; a model of this machine gets it, as small ones seldom begin with JSON.
OPENINGS = {kind: form[: form.index("...")] for kind, form in _FORMS.items()}
# Characters; small models seldom end a text by themselves.
_LONGEST_TEXT = 400  # a question or a choice
_LONGEST_SENTENCES = 1_000  # an answer to an open question, or a case


@dataclasses.dataclass(frozen=True)
class QuestionSettings(Settings):
    """What is asked for."""

    kind: str = setting(
        SINGLE,
        "Kind of questions: open (with an answer), single or several right choices, or a series about one case.",
        choices=KINDS,
    )
    num_questions: int = setting(3, "Questions to ask for from each passage.", least=1)
    num_choices: int = setting(4, "Choices to ask for in each question.", least=2)
    language: str | None = setting(None, "Language of the questions, such as French; default: that of the passage.")

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of its bounds, or for too few choices."""
        super().__post_init__()
        if self.kind == SEVERAL and self.num_choices < 3:
            raise ValueError(f"num_choices is {self.num_choices}; expected 3 or more: two are right, and one is wrong.")


def question_messages(passage: Passage, settings: QuestionSettings) -> list[Message]:
    """Returns the conversation that asks for questions about a passage."""
    number = "1 question" if settings.num_questions == 1 else f"{settings.num_questions} questions"
    what = _WHAT[settings.kind].format(n=number, choices=settings.num_choices, wrong=settings.num_choices - 1)
    language = settings.language or "the language of the passage"
    system = (
        f"You write exam questions about a passage. Ask only what the passage answers.{_choice_rules(settings)} "
        "A reader will not see the passage: name what each question is about, and do not mention the passage or the "
        "text."
    )
    asked = (
        f"From this passage, write {what}. Write in {language}. Answer with JSON alone, in this form: "
        f"{_FORMS[settings.kind]}"
    )
    title = f"Title: {passage.title}\n" if passage.title else ""
    return [
        {"role": "system", "content": system},
        {"role": "user", "content": f"{title}Passage:\n{passage.text}\n\n{asked}"},
    ]


def _choice_rules(settings: QuestionSettings) -> str:
    return "" if settings.kind == OPEN else _CHOICES


def json_schema(settings: QuestionSettings) -> dict[str, Any]:
    """Returns the JSON Schema of an answer. It bounds the numbers of questions and choices and the length of each text.

    A model that is kept to it cannot write on forever. With several right choices, the number of right ones and that of
    wrong ones are bounded, but not their sum.
    """
    text, sentences = _text(_LONGEST_TEXT), _text(_LONGEST_SENTENCES)
    num_right = (2, settings.num_choices - 1) if settings.kind == SEVERAL else (1, 1)
    num_wrong = (1, settings.num_choices - 2) if settings.kind == SEVERAL else (settings.num_choices - 1,) * 2
    choices = {"right": _array(text, *num_right), "wrong": _array(text, *num_wrong)}
    question = _object({"question": text} | ({"answer": sentences} if settings.kind == OPEN else choices))
    case = {"case": sentences} if settings.kind == SERIES else {}
    return _object(case | {"questions": _array(question, 1, settings.num_questions)})


def _text(longest: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": longest}


def _object(fields: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": fields, "required": list(fields), "additionalProperties": False}


def _array(items: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}
