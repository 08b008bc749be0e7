"""Public goods: what is given to all is worth more than it costs, but not to who gives it.

Each of `n` has an endowment `e` and gives a share `g_i` of it. All that was given is multiplied by
`r` and shared evenly:

    earned_i = e (1 - g_i + r/n * sum_j g_j)

To give a unit costs one and returns `r / n`. For `1 < r < n` nobody gives if all look after
themselves, and everybody would earn more if all gave (Ledyard 1995, in Kagel and Roth's Handbook
of Experimental Economics, chapter 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean


class PublicGoods(NamedTuple):
    """The payoffs of `agents`, who choose among `levels` shares to give, from all to nothing."""

    agents: int
    endowment: float
    multiplier: float
    levels: int

    @property
    def options(self) -> tuple[int, ...]:
        """How many each has."""
        return (self.levels,) * self.agents

    @property
    def best(self) -> float:
        """The most that one earns on average, if all act for the sum."""
        return self.endowment * max(1.0, self.multiplier)

    @property
    def gives(self) -> bool | None:
        """Whether it is best for oneself to give; none where it does not matter."""
        return None if self.multiplier == self.agents else self.multiplier > self.agents

    def earned(self, acts: Sequence[int]) -> Sequence[float]:
        """Payoffs of all, by their options."""
        given = [1.0 - act / (self.levels - 1) for act in acts]
        share = self.multiplier * math.fsum(given) / self.agents
        return [self.endowment * (1.0 - mine + share) for mine in given]

    def pay(self, acts: Int[Tensor, "world agent"]) -> Float[Tensor, "world agent"]:
        """The same in many worlds."""
        given = 1.0 - acts / (self.levels - 1)
        share = self.multiplier * mean(given, 1)[:, None]
        return self.endowment * (1.0 - given + share)
