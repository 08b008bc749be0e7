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
from mores.core.random_streams import RandomStreams

ParameterSharing = Literal["replicate", "role", "group", "agent"]


@dataclasses.dataclass(frozen=True)
class ModelMapping:
    """The seats that each policy of a stack fills.

    Attributes:
        agent_rows: which seat of all, `world * agents + agent`; where a policy has fewer than others,
            padded with its own first.
        valid: which of these are no padding.
        inverse_rows: for each seat of all, where it is among the rows.
        replicate, model_number: whose policy it is: of which replicate, and which within it.
        first_world: first world of each replicate.
        shape: worlds and agents, as numbers.
        is_identity: rows are in order and no padding, so that nothing has to be moved.
    """

    agent_rows: Int[Tensor, "policy row"]
    valid: Bool[Tensor, "policy row"]
    inverse_rows: Int[Tensor, " seat"]
    replicate: Int[Tensor, " policy"]
    model_number: Int[Tensor, " policy"]
    first_world: Int[Tensor, " replicate"]
    shape: tuple[int, int]
    is_identity: bool

    @staticmethod
    def from_sharing(
        streams: RandomStreams,
        num_agents: int,
        parameter_sharing: ParameterSharing,
        agent_groups: Sequence[int] | None,
    ) -> ModelMapping:
        """The seats of a role with `num_agents` of them in every world of these draws.

        Raises:
            UserError: seats are to be shared by groups, and there is no group for every seat.
        """
        numbers = torch.tensor(
            model_numbers(num_agents, parameter_sharing, agent_groups), device=streams.device
        )
        each = int(numbers.max()) + 1
        found, replicate = streams.replicate.unique(return_inverse=True)
        policy = (replicate[:, None] * each + numbers).flatten()  # seat
        order = policy.argsort(stable=True)
        counts = policy.bincount(minlength=len(found) * each)
        most = int(counts.max())
        firsts = counts.cumsum(0) - counts
        place = torch.arange(len(policy), device=streams.device) - firsts[policy[order]]
        # Padding is a seat of the policy's own: nothing of another's, NaN say, may reach it.
        rows = order[firsts][:, None].repeat(1, most)
        rows[policy[order], place] = order
        back = torch.empty_like(policy)
        back[order] = policy[order] * most + place
        real = torch.arange(most, device=streams.device) < counts[:, None]
        every = torch.arange(streams.num_worlds, device=streams.device)
        worlds = torch.full_like(found, streams.num_worlds).scatter_reduce(
            0, replicate, every, "amin"
        )
        straight = bool(real.all()) and torch.equal(order, torch.arange(len(order)).to(order))
        return ModelMapping(
            rows,
            real,
            back,
            found.repeat_interleave(each),
            torch.arange(each, device=streams.device).repeat(len(found)),
            worlds,
            (streams.num_worlds, num_agents),
            straight,
        )

    @property
    def num_models(self) -> int:
        """How many policies."""
        return self.agent_rows.shape[0]

    @property
    def models_per_replicate(self) -> int:
        """How many policies a replicate has."""
        return self.num_models // len(self.first_world)

    def by_model(self, x: Tensor) -> Tensor:
        """`[world, agent, ...]` as `[policy, row, ...]`; padding repeats its first."""
        if self.is_identity:
            return x.reshape(*self.agent_rows.shape, *x.shape[2:])
        return x.flatten(0, 1)[self.agent_rows]

    def by_world(self, x: Tensor) -> Tensor:
        """`[policy, row, ...]` as `[world, agent, ...]`."""
        if self.is_identity:
            return x.reshape(*self.shape, *x.shape[2:])
        return x.flatten(0, 1)[self.inverse_rows].unflatten(0, self.shape)

    def model_name(self, model_index: int) -> str:
        """Whose policy it is, in words."""
        replicate = f"replicate {int(self.replicate[model_index])}"
        return (
            replicate
            if self.models_per_replicate == 1
            else f"{replicate}, policy {int(self.model_number[model_index])}"
        )


def model_numbers(
    num_agents: int, parameter_sharing: ParameterSharing, agent_groups: Sequence[int] | None
) -> list[int]:
    """Which policy of its replicate each seat has."""
    if parameter_sharing != "group":
        return list(range(num_agents)) if parameter_sharing == "agent" else [0] * num_agents
    if agent_groups is None or len(agent_groups) != num_agents:
        have = "none" if agent_groups is None else f"{len(agent_groups)}"
        raise UserError(
            f"share: group needs groups, a number for each of {num_agents} seats; got {have}",
            code="missing" if agent_groups is None else "wrong_shape",
            path="groups",
        )
    known = sorted(set(agent_groups))
    return [known.index(group) for group in agent_groups]
