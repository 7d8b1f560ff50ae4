"""Runs a search that is a generator: it yields what it needs done, and is sent the result.

The terminal does each step at once; the service puts it into a queue.
"""

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
      result: What the search returned; None until it ends.
    """

    def __init__(self, search: Generator[Any, Any, Result]):
        """Begins a search."""
        self._search = search
        self.wanted: Any = None
        self.result: Result | None = None
        self.take(None)

    def take(self, done: Any) -> None:
        """Sends the result of the step in `wanted`, and moves on to the next step."""
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
