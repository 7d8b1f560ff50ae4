"""Row types: the rows that readers yield, each with its schema; schemas.py says what a schema is."""

import dataclasses

from data_pipeline.schemas import (
    ANSWER,
    ENCODER,
    LABEL,
    LABELS,
    NUMBER,
    NUMBERS,
    QUESTION,
    SOURCE,
    TEXT,
    TEXTS,
    Field,
    Schema,
)

USER, ASSISTANT = SPEAKERS = ("user", "assistant")  # the roles of a dialogue's turns


@dataclasses.dataclass(frozen=True)
class Pair:
    """A question with one answer to it.

    Attributes:
      question: text.
      answer: text.
      source: the collection that it comes from.
      focus: its topic; empty where the corpus does not name one.
      url: address of the page that it was taken from, or empty, like the following ones.
      synonyms: other names of the focus, with `|` between them.
      cui: UMLS concepts of the focus, with `|` between them.
      semantic_type: UMLS semantic types of the focus, with `|` between them.
      semantic_group: UMLS semantic group of the focus, such as Disorders.
    """

    question: str
    answer: str
    source: str = ""
    focus: str = ""
    url: str = ""
    synonyms: str = ""
    cui: str = ""
    semantic_type: str = ""
    semantic_group: str = ""


_ORIGIN = (Field(SOURCE, LABEL), Field("focus", LABEL))
ANNOTATIONS = ("url", "synonyms", "cui", "semantic_type", "semantic_group")  # labels that a pair may have besides

PAIR = Schema(
    Pair,
    (
        Field("question", TEXT, "question_ids", ENCODER, grouped=True, side=QUESTION),
        Field("answer", TEXT, "answer_ids", ENCODER, grouped=True, side=ANSWER),
        *_ORIGIN,
        *(Field(name, LABEL) for name in ANNOTATIONS),
    ),
    key="question",
)


@dataclasses.dataclass(frozen=True)
class Dialogue:
    """A conversation.

    Attributes:
      turns: the messages, oldest first. The first is a user's, the last an assistant's.
      roles: whose message each is, `USER` or `ASSISTANT`.
      system: what the assistant was told before; empty if nothing.
      source: the collection that it comes from.
      focus: its topic; empty where the corpus does not name one.
    """

    turns: tuple[str, ...]
    roles: tuple[str, ...]
    system: str = ""
    source: str = ""
    focus: str = ""


# The system's text is apart: the first turn tells equal dialogues, and many have the same system's text.
DIALOGUE = Schema(
    Dialogue,
    (
        Field("turns", TEXTS, grouped=True, any_word=True, paragraphs=True),
        Field("roles", LABELS),
        Field("system", optional=True, paragraphs=True),
        *_ORIGIN,
    ),
    key="turns",
)


@dataclasses.dataclass(frozen=True)
class Choices:
    """A question with answers to choose from, alone or in a series about one case.

    Attributes:
      question: text.
      choices: the answers to choose from.
      correct: places of the right ones among them, from 0.
      several: 1 if several may be right, else 0.
      context: what is read before the question, such as a passage or a case; empty if there is none.
      series: the text that tells its series from others: context, questions and choices; of a question alone, itself.
      step: its place in the series, from 0.
      source: the collection that it comes from.
      focus: its subject; empty where the corpus does not name one.
    """

    question: str
    choices: tuple[str, ...]
    correct: tuple[int, ...]
    several: int
    context: str
    series: str
    step: int = 0
    source: str = ""
    focus: str = ""


CHOICES = Schema(
    Choices,
    (
        Field("question", side=QUESTION),
        Field("choices", TEXTS, any_word=True),
        Field("correct", NUMBERS),
        Field("several", NUMBER),
        Field("context", optional=True),
        Field("series", grouped=True),
        Field("step", NUMBER),
        *_ORIGIN,
    ),
    key="series",
)


@dataclasses.dataclass(frozen=True)
class Passage:
    """A part of a document.

    Attributes:
      text: the passage.
      title: what the document is called.
      source: the collection that it comes from.
      focus: its topic; empty where the corpus does not name one.
      section: the headings above it, with ` > ` between them; empty if there is none.
      page: number of its page, from 1; empty for a document without pages.
    """

    text: str
    title: str = ""
    source: str = ""
    focus: str = ""
    section: str = ""
    page: str = ""


PASSAGE = Schema(
    Passage,
    (
        Field("text", TEXT, "passage_ids", ENCODER, grouped=True, side=ANSWER),
        Field("title", LABEL),
        *_ORIGIN,
        Field("section", LABEL),
        Field("page", LABEL),
    ),
    key="text",
)


@dataclasses.dataclass(frozen=True)
class Triage:
    """A patient's description with the department that it belongs to, the doctor's reply, or both.

    Attributes:
      text: the description.
      label: the department; empty where it is not known.
      reply: what the doctor wrote; empty where it is not known.
      source: the collection that it comes from.
    """

    text: str
    label: str = ""
    reply: str = ""
    source: str = ""


# Nothing is tokenized: training uses the tokenizers of the encoder and of the decoder.
TRIAGE = Schema(
    Triage,
    (
        Field("text", grouped=True),
        Field("label", LABEL),
        Field("reply", side=ANSWER, optional=True),
        Field(SOURCE, LABEL),
    ),
    key="text",
    stratify="label",
    either=("label", "reply"),
)
