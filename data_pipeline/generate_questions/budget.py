"""A budget in tokens and money, which calls in flight cannot exceed.

Before a call, the most that it can cost is reserved; afterwards, what it did cost is spent.
"""

import asyncio
import dataclasses
import math

from data_pipeline.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class Usage:
    """What calls take.

    Attributes:
      input_tokens: tokens of prompts.
      output_tokens: tokens of answers.
      cost: money, in the currency of the prices.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens, self.cost + other.cost
        )

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens - other.input_tokens, self.output_tokens - other.output_tokens, self.cost - other.cost
        )

    @property
    def tokens(self) -> int:
        """Tokens of prompts and answers."""
        return self.input_tokens + self.output_tokens


@dataclasses.dataclass(frozen=True)
class BudgetSettings(Settings):
    """What a run may take, with all earlier runs into the same folder."""

    max_tokens_total: int | None = setting(
        None, "Maximum tokens of all prompts and answers together; default: no limit.", least=1, changes_results=False
    )
    max_cost: float | None = setting(
        None, "Maximum cost, in the currency of the prices; default: no limit.", above=0, changes_results=False
    )
    input_price: float | None = setting(None, "Price of a million prompt tokens.", least=0, changes_results=False)
    output_price: float | None = setting(None, "Price of a million answer tokens.", least=0, changes_results=False)

    def __post_init__(self) -> None:
        """Raises a ValueError for a value out of its bounds, or for a maximum cost without prices."""
        super().__post_init__()
        if self.max_cost is not None and None in (self.input_price, self.output_price):
            raise ValueError("max_cost is given without prices. Give --input_price and --output_price, too.")

    def usage(self, input_tokens: int, output_tokens: int) -> Usage:
        """Returns tokens with their cost."""
        cost = input_tokens * (self.input_price or 0) + output_tokens * (self.output_price or 0)
        return Usage(input_tokens, output_tokens, cost / 1_000_000)


class Budget:
    """Keeps the calls of one run within the budget.

    Attributes:
      spent: what all calls took, those of earlier runs included.
    """

    def __init__(self, settings: BudgetSettings, spent: Usage):
        self.spent = spent
        self._most_tokens = math.inf if settings.max_tokens_total is None else settings.max_tokens_total
        self._most_cost = math.inf if settings.max_cost is None else settings.max_cost
        self._reserved, self._num_reserved = Usage(), 0
        self._settled = asyncio.Condition()

    async def reserve(self, most: Usage) -> bool:
        """Sets aside what a call may take at most; waits for calls in flight if it does not fit beside them.

        Returns:
          Whether it fits; if not, the budget is used up.
        """
        async with self._settled:
            while not self._fits(most):
                if not self._num_reserved:
                    return False
                await self._settled.wait()
            self._reserved, self._num_reserved = self._reserved + most, self._num_reserved + 1
            return True

    def _fits(self, most: Usage) -> bool:
        total = self.spent + self._reserved + most
        return total.tokens <= self._most_tokens and total.cost <= self._most_cost

    async def settle(self, most: Usage, used: Usage) -> None:
        """Counts what a call took, and frees the rest of what was reserved for it."""
        async with self._settled:
            self._reserved, self._num_reserved = self._reserved - most, self._num_reserved - 1
            self.spent += used
            self._settled.notify_all()
