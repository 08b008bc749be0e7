"""Mapping of agents to models: the model that acts for each agent in each world.

The worlds of a replicate share its models. Within a replicate, one model serves all agents of a
role, those of an agent group, or a single agent. The models of all replicates are stacked.

Draws of uncertain parameters that are simulated in one batch have separate models: where several
draws have the same replicate, each of them counts as a replicate here.
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
    """Agents of each model of a stack.

    Attributes:
        agent_rows: index `world * agents + agent` of each agent of a model; a model with fewer
            agents than others is padded with its own first agent.
        valid: rows that are no padding.
        inverse_rows: row of each agent in the flattened `agent_rows`.
        replicate, model_number: replicate of each model, and its number within the replicate.
        first_world: first world of each replicate.
        shape: number of worlds and of agents in a world.
        is_identity: whether rows are in order and without padding, so that a reshape suffices.
        draw: draw of uncertain parameters of each model; None: 0 everywhere.
    """

    agent_rows: Int[Tensor, "model row"]
    valid: Bool[Tensor, "model row"]
    inverse_rows: Int[Tensor, " agent"]
    replicate: Int[Tensor, " model"]
    model_number: Int[Tensor, " model"]
    first_world: Int[Tensor, " replicate"]
    shape: tuple[int, int]
    is_identity: bool
    draw: Int[Tensor, " model"] | None = None

    @staticmethod
    def from_sharing(
        streams: RandomStreams,
        num_agents: int,
        parameter_sharing: ParameterSharing,
        agent_groups: Sequence[int] | None,
    ) -> ModelMapping:
        """Mapping of a role with `num_agents` agents in each world of these streams.

        Raises:
            UserError: parameters are shared by group, and not every agent has a group.
        """
        numbers = torch.tensor(
            model_numbers(num_agents, parameter_sharing, agent_groups), device=streams.device
        )
        per_replicate = int(numbers.max()) + 1
        addresses = torch.stack([streams.draw, streams.replicate])  # two numbers a world
        (draws, replicates), replicate = addresses.unique(dim=1, return_inverse=True)
        model = (replicate[:, None] * per_replicate + numbers).flatten()  # agent
        order = model.argsort(stable=True)
        counts = model.bincount(minlength=len(replicates) * per_replicate)
        row_length = int(counts.max())
        offsets = counts.cumsum(0) - counts
        position = torch.arange(len(model), device=streams.device) - offsets[model[order]]
        # Padding is an agent of the same model, so that no NaN of another model can reach it.
        rows = order[offsets][:, None].repeat(1, row_length)
        rows[model[order], position] = order
        inverse = torch.empty_like(model)
        inverse[order] = model[order] * row_length + position
        valid = torch.arange(row_length, device=streams.device) < counts[:, None]
        worlds = torch.arange(streams.num_worlds, device=streams.device)
        first_world = torch.full_like(replicates, streams.num_worlds).scatter_reduce(
            0, replicate, worlds, "amin"
        )
        is_identity = bool(valid.all()) and torch.equal(order, torch.arange(len(order)).to(order))
        return ModelMapping(
            rows,
            valid,
            inverse,
            replicates.repeat_interleave(per_replicate),
            torch.arange(per_replicate, device=streams.device).repeat(len(replicates)),
            first_world,
            (streams.num_worlds, num_agents),
            is_identity,
            draws.repeat_interleave(per_replicate) if draws.any() else None,
        )

    @property
    def num_models(self) -> int:
        """Number of models in the stack."""
        return self.agent_rows.shape[0]

    @property
    def models_per_replicate(self) -> int:
        """Number of models in a replicate."""
        return self.num_models // len(self.first_world)

    def by_model(self, x: Tensor) -> Tensor:
        """`[world, agent, ...]` as `[model, row, ...]`; padding repeats the model's first agent."""
        if self.is_identity:
            return x.reshape(*self.agent_rows.shape, *x.shape[2:])
        return x.flatten(0, 1)[self.agent_rows]

    def by_world(self, x: Tensor) -> Tensor:
        """`[model, row, ...]` as `[world, agent, ...]`."""
        if self.is_identity:
            return x.reshape(*self.shape, *x.shape[2:])
        return x.flatten(0, 1)[self.inverse_rows].unflatten(0, self.shape)

    def model_name(self, model_index: int) -> str:
        """Name of a model in messages: its draw and replicate, its number if there are several."""
        draw = "" if self.draw is None else f"draw {int(self.draw[model_index])}, "
        replicate = f"{draw}replicate {int(self.replicate[model_index])}"
        number = f", model {int(self.model_number[model_index])}"
        return replicate if self.models_per_replicate == 1 else replicate + number


def model_numbers(
    num_agents: int, parameter_sharing: ParameterSharing, agent_groups: Sequence[int] | None
) -> list[int]:
    """Number of each agent's model within its replicate."""
    if parameter_sharing != "group":
        return list(range(num_agents)) if parameter_sharing == "agent" else [0] * num_agents
    if agent_groups is None or len(agent_groups) != num_agents:
        given = "none" if agent_groups is None else f"{len(agent_groups)}"
        raise UserError(
            "parameter_sharing: group needs agent_groups, a number for each of "
            f"{num_agents} agents; got {given}",
            code="missing" if agent_groups is None else "wrong_shape",
            path="agent_groups",
        )
    groups = sorted(set(agent_groups))
    return [groups.index(group) for group in agent_groups]
