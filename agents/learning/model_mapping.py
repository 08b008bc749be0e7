"""Whose seat is whose: which policy acts for which seat in which world.

The worlds of a replicate share its learners. Within it, the seats of a role may share one policy,
or each group of seats, or each seat has its own. All policies of all replicates are one stack.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mores.core.errors import UserError
from mores.core.random_streams import Draws

Share = Literal["replicate", "role", "group", "agent"]


@dataclasses.dataclass(frozen=True)
class Seats:
    """The seats that each policy of a stack fills.

    Attributes:
        rows: which seat of all, `world * agents + agent`; where a policy has fewer than others,
            padded with its own first.
        real: which of these are no padding.
        back: for each seat of all, where it is among the rows.
        replicate, number: whose policy it is: of which replicate, and which within it.
        worlds: first world of each replicate.
        shape: worlds and agents, as numbers.
        straight: rows are in order and no padding, so that nothing has to be moved.
    """

    rows: Int[Tensor, "policy row"]
    real: Bool[Tensor, "policy row"]
    back: Int[Tensor, " seat"]
    replicate: Int[Tensor, " policy"]
    number: Int[Tensor, " policy"]
    worlds: Int[Tensor, " replicate"]
    shape: tuple[int, int]
    straight: bool

    @staticmethod
    def of(draws: Draws, agents: int, share: Share, groups: Sequence[int] | None) -> Seats:
        """The seats of a role with `agents` of them in every world of these draws.

        Raises:
            UserError: seats are to be shared by groups, and there is no group for every seat.
        """
        numbers = torch.tensor(policy_numbers(agents, share, groups), device=draws.device)
        each = int(numbers.max()) + 1
        found, replicate = draws.replicate.unique(return_inverse=True)
        policy = (replicate[:, None] * each + numbers).flatten()  # seat
        order = policy.argsort(stable=True)
        counts = policy.bincount(minlength=len(found) * each)
        most = int(counts.max())
        firsts = counts.cumsum(0) - counts
        place = torch.arange(len(policy), device=draws.device) - firsts[policy[order]]
        # Padding is a seat of the policy's own: nothing of another's, NaN say, may reach it.
        rows = order[firsts][:, None].repeat(1, most)
        rows[policy[order], place] = order
        back = torch.empty_like(policy)
        back[order] = policy[order] * most + place
        real = torch.arange(most, device=draws.device) < counts[:, None]
        every = torch.arange(draws.worlds, device=draws.device)
        worlds = torch.full_like(found, draws.worlds).scatter_reduce(0, replicate, every, "amin")
        straight = bool(real.all()) and torch.equal(order, torch.arange(len(order)).to(order))
        return Seats(
            rows,
            real,
            back,
            found.repeat_interleave(each),
            torch.arange(each, device=draws.device).repeat(len(found)),
            worlds,
            (draws.worlds, agents),
            straight,
        )

    @property
    def policies(self) -> int:
        """How many policies."""
        return self.rows.shape[0]

    @property
    def each(self) -> int:
        """How many policies a replicate has."""
        return self.policies // len(self.worlds)

    def by_policy(self, x: Tensor) -> Tensor:
        """`[world, agent, ...]` as `[policy, row, ...]`; padding repeats its first."""
        if self.straight:
            return x.reshape(*self.rows.shape, *x.shape[2:])
        return x.flatten(0, 1)[self.rows]

    def by_world(self, x: Tensor) -> Tensor:
        """`[policy, row, ...]` as `[world, agent, ...]`."""
        if self.straight:
            return x.reshape(*self.shape, *x.shape[2:])
        return x.flatten(0, 1)[self.back].unflatten(0, self.shape)

    def name(self, policy: int) -> str:
        """Whose policy it is, in words."""
        replicate = f"replicate {int(self.replicate[policy])}"
        return replicate if self.each == 1 else f"{replicate}, policy {int(self.number[policy])}"


def policy_numbers(agents: int, share: Share, groups: Sequence[int] | None) -> list[int]:
    """Which policy of its replicate each seat has."""
    if share != "group":
        return list(range(agents)) if share == "agent" else [0] * agents
    if groups is None or len(groups) != agents:
        have = "none" if groups is None else f"{len(groups)}"
        raise UserError(
            f"share: group needs groups, a number for each of {agents} seats; got {have}",
            code="missing" if groups is None else "wrong_shape",
            path="groups",
        )
    known = sorted(set(groups))
    return [known.index(group) for group in groups]
