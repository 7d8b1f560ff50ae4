"""The row types that readers yield."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Pair:
    """A question with one answer to it, and what the corpus knows of them.

    Attributes:
      question: text.
      answer: text.
      source: the collection it comes from.
      focus: the topic that it is about; empty where the corpus does not say.
    """

    question: str
    answer: str
    source: str = ""
    focus: str = ""
