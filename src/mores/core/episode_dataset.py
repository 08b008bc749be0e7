"""Recorded episodes of a role, for offline learning."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.core.errors import UserError


@dataclasses.dataclass(frozen=True)
class EpisodeDataset:
    """Observations, actions, rewards and feedback of one role's agents.

    A *decision* is one pass through a phase, in order of simulation, over all rounds and episodes.
    In a finished world the last observations and actions repeat, and the reward is 0.

    Attributes:
        observation: by phase, `[world, decision, agent, size]`.
        action: by phase, `[world, decision, agent]` or `[world, decision, agent, size]`.
        reward: `[world, payment, agent]`, one payment per phase that rewarded the role.
        feedback: by name, `[world, time, agent, ...]`, one time per phase that gave it.
        action_mask: by phase, legal options, `[world, decision, agent, option]`; phases without
            masks are missing.
        done: `[world, round]`, rounds in which an episode ended.
        finished: `[world, round]`, rounds in which the world no longer changed.
    """

    observation: dict[str, Tensor]
    action: dict[str, Tensor]
    reward: Float[Tensor, "world payment agent"] | None
    feedback: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    action_mask: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    done: Bool[Tensor, "world round"] | None = None
    finished: Bool[Tensor, "world round"] | None = None


def concatenate_datasets(datasets: Sequence[EpisodeDataset]) -> EpisodeDataset:
    """One dataset of a role from several stages, in this order.

    Raises:
        UserError: the stages differ in phases, feedback, masks or whether there is a reward.
    """
    first = datasets[0]
    for other in datasets[1:]:
        fields = [
            set(d.observation) | set(d.feedback) | set(d.action_mask) | {d.reward is None}
            for d in (first, other)
        ]
        if fields[0] != fields[1]:
            raise UserError(
                "the role has different observations or feedback in these stages: name one stage",
                code="conflict",
                path="record",
            )
    if len(datasets) == 1:
        return first

    def concatenate(tensors: list[Tensor | None]) -> Tensor | None:
        recorded = [tensor for tensor in tensors if tensor is not None]
        return torch.cat(recorded, 1) if recorded else None

    return EpisodeDataset(
        {name: torch.cat([d.observation[name] for d in datasets], 1) for name in first.observation},
        {name: torch.cat([d.action[name] for d in datasets], 1) for name in first.action},
        concatenate([d.reward for d in datasets]),
        {name: torch.cat([d.feedback[name] for d in datasets], 1) for name in first.feedback},
        {name: torch.cat([d.action_mask[name] for d in datasets], 1) for name in first.action_mask},
        concatenate([d.done for d in datasets]),
        concatenate([d.finished for d in datasets]),
    )
