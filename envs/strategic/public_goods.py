"""Public goods game: contributions benefit the group more than they cost, but not the contributor.

Each of `n` agents has an endowment `e` and contributes the share `g_i` of it. The sum is multiplied
by `r` and distributed equally:

    payoff_i = e (1 - g_i + r/n * sum_j g_j)

A contribution of 1 costs 1 and returns `r / n` to the contributor. For `1 < r < n` contributing
nothing is dominant, and all payoffs would be higher if all contributed (Ledyard 1995, in Kagel and
Roth's Handbook of Experimental Economics, chapter 2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean


class PublicGoods(NamedTuple):
    """Payoffs of `num_agents`; options are `num_levels` contributions from all to nothing."""

    num_agents: int
    endowment: float
    multiplier: float
    num_levels: int

    @property
    def num_options(self) -> tuple[int, ...]:
        """Number of options of each agent."""
        return (self.num_levels,) * self.num_agents

    @property
    def max_mean_payoff(self) -> float:
        """Largest mean payoff over agents of any joint action."""
        return self.endowment * max(1.0, self.multiplier)

    @property
    def giving_dominates(self) -> bool | None:
        """Whether contributing is dominant; None if payoffs do not depend on it."""
        return None if self.multiplier == self.num_agents else self.multiplier > self.num_agents

    def payoffs(self, actions: Sequence[int]) -> Sequence[float]:
        """Payoffs of all agents, by their options."""
        contributions = [1.0 - action / (self.num_levels - 1) for action in actions]
        share = self.multiplier * math.fsum(contributions) / self.num_agents
        return [self.endowment * (1.0 - own + share) for own in contributions]

    def batch_payoffs(self, actions: Int[Tensor, "world agent"]) -> Float[Tensor, "world agent"]:
        """Payoffs of all agents in many worlds."""
        contributions = 1.0 - actions / (self.num_levels - 1)
        share = self.multiplier * mean(contributions, 1)[:, None]
        return self.endowment * (1.0 - contributions + share)
