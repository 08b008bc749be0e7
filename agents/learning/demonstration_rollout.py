"""What policies would have seen, had they done something else: sights of demonstrations.

A demonstration says what to do, not what one sees meanwhile. Where a role's next sight follows from
its own act (`mores.core.environment.Role.observation_model`), that is found out here.
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
    actions: Tensor, first_observation: Float[Tensor, "policy sample size"], role: Role
) -> Float[Tensor, "policy sample step size"]:
    """What is seen before each of some acts `[policy, sample, step, ...]`.

    Raises:
        UserError: several acts, and a role whose next sight does not follow from them.
    """
    steps = actions.shape[2]
    if steps > 1 and role.observation_model is None:
        raise UserError(
            f"demonstrations of {steps} acts need a role that knows what it sees after its own "
            f"act: {role.name} does not (Role.after)",
            code="unsupported",
            path=f"players.{role.name}",
        )
    seen = [first_observation]
    for t in range(steps - 1):
        assert role.observation_model is not None
        seen.append(role.observation_model(seen[-1], actions[:, :, t]))
    return torch.stack(seen, 2)


def demonstration_batch(
    actions: Tensor,
    reward: Float[Tensor, "policy sample principal"] | None,
    generated: FeedbackBatch,
    role: Role,
) -> FeedbackBatch:
    """Demonstrations `[policy, sample, step, ...]` that answer the requests of own samples.

    Args:
        actions: what was shown to each sample's seat.
        reward: what it was worth.
        generated: what the seats did themselves: of it the first sights and the groups are taken.
        role: whose.
    """
    real = generated.mask.any(-1, keepdim=True)
    begun = generated.mask.long().argmax(-1)[..., None, None]  # a sample's first real step
    first = generated.observation.gather(
        2, begun.expand(-1, -1, -1, generated.observation.shape[-1])
    )[:, :, 0]
    mask = real.expand(-1, -1, actions.shape[2])
    return FeedbackBatch(
        rollout_observations(actions, first, role),
        actions,
        mask,
        episode_start=None if generated.episode_start is None else torch.zeros_like(mask),
        recurrent_state=None
        if generated.recurrent_state is None
        else torch.zeros_like(generated.recurrent_state),
        reward=reward,
        group=generated.group,
        is_demonstration=torch.ones_like(real[..., 0]),
    )


def concat_samples(one: FeedbackBatch, other: FeedbackBatch) -> FeedbackBatch:
    """The samples of both, in the fields that both have; of equal length."""
    fields = {}
    for field in dataclasses.fields(FeedbackBatch):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if a is not None and b is not None and a.dim() > 1:
            if field.name in ("observation", "action", "mask", "episode_start"):
                a, b = _pad_steps(a, b)
            fields[field.name] = torch.cat([a, b], 1)
    legal = [_default_action_mask(x.action_mask, y) for x, y in ((one, other), (other, one))]
    if legal[0] is not None and legal[1] is not None:  # of demonstrations nothing is closed
        fields["action_mask"] = torch.cat(_pad_steps(legal[0], legal[1]), 1)
    return FeedbackBatch(**fields)


def _default_action_mask(action_mask: Tensor | None, other: FeedbackBatch) -> Tensor | None:
    """What is open to samples, all of it where only the other samples say."""
    if action_mask is not None or other.action_mask is None:
        return action_mask
    return torch.ones_like(other.action_mask)


def _pad_steps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both with as many steps as the longer one."""
    most = max(a.shape[2], b.shape[2])

    def padded(x: Tensor) -> Tensor:
        missing = most - x.shape[2]
        if not missing:
            return x
        return torch.cat([x, x.new_zeros(*x.shape[:2], missing, *x.shape[3:])], 2)

    return padded(a), padded(b)
