"""Observations of demonstrations: a rollout of their actions through the observation model.

A demonstration consists of actions only. Its observations are computed where a role's next
observation follows from its own action (`mores.core.environment.Role.observation_model`).
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.core.environment import Role
from mores.core.errors import UserError


def rollout_observations(
    actions: Tensor, first_observation: Float[Tensor, "model sample size"], role: Role
) -> Float[Tensor, "model sample step size"]:
    """Observations before each of the actions `[model, sample, step, ...]`.

    Raises:
        UserError: there are several actions, and the role has no observation model.
    """
    steps = actions.shape[2]
    if steps > 1 and role.observation_model is None:
        raise UserError(
            f"demonstrations of {steps} actions need Role.observation_model, which {role.name} "
            "does not have",
            code="unsupported",
            path=f"policies.{role.name}",
        )
    observations = [first_observation]
    for t in range(steps - 1):
        assert role.observation_model is not None
        observations.append(role.observation_model(observations[-1], actions[:, :, t]))
    return torch.stack(observations, 2)


def demonstration_batch(
    actions: Tensor,
    reward: Float[Tensor, "model sample principal"] | None,
    generated: FeedbackBatch,
    role: Role,
) -> FeedbackBatch:
    """Batch of demonstrations for the prompts of generated samples.

    Args:
        actions: demonstration for the agent of each sample, `[model, sample, step, ...]`.
        reward: reward of each demonstration.
        generated: samples of the models; their first observations and groups are used.
        role: role of the agents.
    """
    valid = generated.mask.any(-1, keepdim=True)
    first_step = generated.mask.long().argmax(-1)[..., None, None]
    first = generated.observation.gather(
        2, first_step.expand(-1, -1, -1, generated.observation.shape[-1])
    )[:, :, 0]
    mask, recurrent = valid.expand(-1, -1, actions.shape[2]), generated.recurrent_state
    return FeedbackBatch(
        rollout_observations(actions, first, role),
        actions,
        mask,
        episode_start=None if generated.episode_start is None else torch.zeros_like(mask),
        recurrent_state=None if recurrent is None else torch.zeros_like(recurrent),
        reward=reward,
        group=generated.group,
        is_demonstration=torch.ones_like(valid[..., 0]),
    )


def concat_samples(first: FeedbackBatch, second: FeedbackBatch) -> FeedbackBatch:
    """The samples of two batches, padded to equal length, in the fields that both batches have."""
    fields = {}
    for field in dataclasses.fields(FeedbackBatch):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if a is not None and b is not None and a.dim() > 1:
            if field.name in ("observation", "action", "mask", "episode_start"):
                a, b = _pad_steps(a, b)
            fields[field.name] = torch.cat([a, b], 1)
    a = _default_action_mask(first.action_mask, second)
    b = _default_action_mask(second.action_mask, first)
    if a is not None and b is not None:  # demonstrations have no mask of their own
        fields["action_mask"] = torch.cat(_pad_steps(a, b), 1)
    return FeedbackBatch(**fields)


def _default_action_mask(action_mask: Tensor | None, other: FeedbackBatch) -> Tensor | None:
    """The mask; if only the other batch has one: all options legal."""
    if action_mask is not None or other.action_mask is None:
        return action_mask
    return torch.ones_like(other.action_mask)


def _pad_steps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both tensors, padded to the larger number of steps."""
    longest = max(a.shape[2], b.shape[2])

    def pad(x: Tensor) -> Tensor:
        missing = longest - x.shape[2]
        if not missing:
            return x
        return torch.cat([x, x.new_zeros(*x.shape[:2], missing, *x.shape[3:])], 2)

    return pad(a), pad(b)
