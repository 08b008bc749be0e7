"""How much better each act was than expected, step by step.

    delta_t = r_t + g * v_next(t) - v_t
    A_t     = delta_t + g * l * A_{t+1}            (GAE; Schulman et al. 2016, arXiv 1506.02438)
    target  = A_t + v_t
    R_t     = r_t + g * R_{t+1}                    (return)

with discount g and smoothing l, one number or one a policy. A stretch may hold several episodes,
and may be cut anywhere:

    a step that...                          v_next(t)           and A_{t+1} is...
    goes on                                 value_{t+1}         added
    terminated: the episode ended itself    0                   not added
    truncated, or the last real one         next_value_t        not added

Where both are said, a step terminated. `next_value` is read nowhere else: the rest may be anything.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.losses.reductions import PerModelSetting, broadcast_setting, check_range
from mores.core.deterministic_sum import total


class AdvantageEstimate(NamedTuple):
    """What acts were worth beyond expectation, and what should have been expected."""

    advantage: Float[Tensor, "policy sample step"]
    value_target: Float[Tensor, "policy sample step"]


def generalized_advantages(
    reward: Float[Tensor, "policy sample step"],
    value: Float[Tensor, "policy sample step"],
    next_value: Float[Tensor, "policy sample step"],
    terminated: Bool[Tensor, "policy sample step"],
    truncated: Bool[Tensor, "policy sample step"],
    mask: Bool[Tensor, "policy sample step"],
    gamma: PerModelSetting = 0.99,
    gae_lambda: PerModelSetting = 0.95,
) -> AdvantageEstimate:
    """Generalised advantages and targets of the value head; 0 at steps that are not real.

    Args:
        reward: earned by each act.
        value: what was expected before each act.
        next_value: what is expected after an act where the stretch is cut behind it.
        terminated: the episode ended itself with this act.
        truncated: the episode was cut off behind this act.
        mask: which steps are real.
        gamma: of the next step's value, between 0 and 1.
        gae_lambda: 0 trusts the values (one step ahead), 1 the rewards (to the end).

    Raises:
        UserError: discount or smoothing is not between 0 and 1.
    """
    check_range("the discount of advantages", gamma, 0.0, 1.0, path="discount")
    check_range("the smoothing of advantages", gae_lambda, 0.0, 1.0, path="smoothing")
    cut = truncated | _last_valid_step(mask)
    following = torch.cat([value[..., 1:], value[..., -1:]], -1)  # the last column is always cut
    ahead = torch.where(cut, next_value, following)
    ahead = torch.where(terminated, 0.0, ahead)
    error = torch.where(mask, reward + broadcast_setting(gamma, reward) * ahead - value, 0.0)
    goes_on = mask & ~terminated & ~cut
    decay = broadcast_setting(gamma, reward[..., 0]) * broadcast_setting(gae_lambda, reward[..., 0])
    later = torch.zeros_like(error[..., 0])
    advantages = []
    for step in reversed(range(error.shape[-1])):
        later = error[..., step] + torch.where(goes_on[..., step], decay * later, 0.0)
        advantages.append(later)
    advantage = torch.stack(advantages[::-1], -1)
    return AdvantageEstimate(advantage, torch.where(mask, advantage + value, 0.0))


def discounted_returns(
    reward: Float[Tensor, "policy sample step"],
    terminated: Bool[Tensor, "policy sample step"],
    truncated: Bool[Tensor, "policy sample step"],
    mask: Bool[Tensor, "policy sample step"],
    gamma: PerModelSetting = 0.99,
    next_value: Float[Tensor, "policy sample step"] | None = None,
) -> Float[Tensor, "policy sample step"]:
    """Discounted sum of rewards from each step on; 0 at steps that are not real.

    Args:
        reward: earned by each act.
        terminated: the episode ended itself with this act.
        truncated: the episode was cut off behind this act.
        mask: which steps are real.
        gamma: of the next step's return, between 0 and 1.
        next_value: what is expected after a cut; nothing, where it is missing.

    Raises:
        UserError: the discount is not between 0 and 1.
    """
    nothing = torch.zeros_like(reward)
    after = nothing if next_value is None else next_value
    found = generalized_advantages(
        reward, nothing, after, terminated, truncated, mask, gamma, gae_lambda=1.0
    )
    return found.advantage


def normalize_advantages(
    advantage: Float[Tensor, "policy sample step"],
    mask: Bool[Tensor, "policy sample step"],
    epsilon: float = 1e-8,
) -> Float[Tensor, "policy sample step"]:
    """Mean 0 and deviation 1 (n - 1) over each policy's own real steps.

    Advantages that do not differ are exactly 0 afterwards: nothing was better than anything else.
    A policy with a single real step is such a case.
    """
    kept = torch.where(mask, advantage, 0.0).flatten(1)
    real = mask.flatten(1)
    count = real.sum(1, keepdim=True)
    centred = torch.where(real, kept - total(kept, 1)[:, None] / count.clamp(min=1), 0.0)
    deviation = (total(centred.square(), 1)[:, None] / (count - 1).clamp(min=1)).sqrt()
    # A constant's mean is rounded; dividing what is left by itself would make noise of size one.
    rounding = 8 * torch.finfo(kept.dtype).eps * kept.abs().amax(1, keepdim=True)
    scaled = torch.where(deviation <= rounding, 0.0, centred / (deviation + epsilon))
    return scaled.view_as(advantage)


def broadcast_to_steps(
    advantage: Float[Tensor, "policy sample"], mask: Bool[Tensor, "policy sample step"]
) -> Float[Tensor, "policy sample step"]:
    """The same advantage at every real step of a sample."""
    return torch.where(mask, advantage[..., None], 0.0)


def _last_valid_step(
    mask: Bool[Tensor, "policy sample step"],
) -> Bool[Tensor, "policy sample step"]:
    """Real steps that no real step follows at once."""
    following = torch.zeros_like(mask)
    following[..., :-1] = mask[..., 1:]
    return mask & ~following
