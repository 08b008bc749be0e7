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
    """The payoffs of `num_agents`, who choose among `num_levels` shares to give, from all to nothing."""

    num_agents: int
    endowment: float
    multiplier: float
    num_levels: int

    @property
    def num_options(self) -> tuple[int, ...]:
        """How many each has."""
        return (self.num_levels,) * self.num_agents

    @property
    def max_mean_payoff(self) -> float:
        """The most that one earns on average, if all act for the sum."""
        return self.endowment * max(1.0, self.multiplier)

    @property
    def giving_dominates(self) -> bool | None:
        """Whether it is best for oneself to give; none where it does not matter."""
        return None if self.multiplier == self.num_agents else self.multiplier > self.num_agents

    def payoffs(self, actions: Sequence[int]) -> Sequence[float]:
        """Payoffs of all, by their options."""
        given = [1.0 - act / (self.num_levels - 1) for act in actions]
        share = self.multiplier * math.fsum(given) / self.num_agents
        return [self.endowment * (1.0 - mine + share) for mine in given]

    def batch_payoffs(self, actions: Int[Tensor, "world agent"]) -> Float[Tensor, "world agent"]:
        """The same in many worlds."""
        given = 1.0 - actions / (self.num_levels - 1)
        share = self.multiplier * mean(given, 1)[:, None]
        return self.endowment * (1.0 - given + share)
