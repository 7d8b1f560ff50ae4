"""A search that says what it needs, one thing after the other, so that a thread or a queue can do it."""

from collections.abc import Callable, Generator
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class Steps(Generic[Result]):
    """A search under way.

        steps = Steps(chat.search(conversation, settings))
        while steps.wanted is not None:
            steps.take(do(steps.wanted))

    Attributes:
      wanted: What to do next; None: nothing is left to do.
      result: What was found, once nothing is left to do.
    """

    def __init__(self, search: Generator[Any, Any, Result]):
        """Begins a search."""
        self._search = search
        self.wanted: Any = None
        self.result: Result | None = None
        self.take(None)

    def take(self, done: Any) -> None:
        """Goes on with what was done."""
        try:
            self.wanted = self._search.send(done)
        except StopIteration as end:
            self.wanted, self.result = None, end.value


def run(search: Generator[Any, Any, Result], do: Callable[[Any], Any]) -> Result:
    """Returns the result of a search, of which `do` does each step."""
    steps = Steps(search)
    while steps.wanted is not None:
        steps.take(do(steps.wanted))
    return steps.result
