"""Which topics of a database a text names: whole words, in any case, the longest name first."""

import re
from collections.abc import Iterable

from data_pipeline import cleaning

_IN_BRACKETS = re.compile(r"\s*\([^()]*\)\Z")


class Topics:
    """The names of a database's topics, such as its diseases.

    A name that stands inside a longer one does not count beside it: who names "ectopic pregnancy" does not name
    "pregnancy". Brackets at the end of a name may be left out: "Otitis externa (swimmer's ear)".
    """

    def __init__(self, names: Iterable[str]):
        """Takes the names; equal ones count once.

        Raises:
          ValueError: There are none.
        """
        exact = {name: name for name in map(_normal, names) if name}
        self._name_of = {_IN_BRACKETS.sub("", name): name for name in exact} | exact
        self._name_of.pop("", None)
        if not self._name_of:
            raise ValueError("The index has no topics. Expected one that was built with --rows=facts.")
        longest_first = sorted(self._name_of, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")

    def named(self, text: str) -> list[str]:
        """Returns the topics that a text names, in lower case, in their order in the text, each once."""
        return list(dict.fromkeys(self._name_of[form] for form in self._pattern.findall(_normal(text))))


def _normal(text: str) -> str:
    return " ".join(cleaning.clean(text).casefold().split())
