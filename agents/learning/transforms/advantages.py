"""Advantages and returns of actions, step by step.

    delta_t = r_t + g * v_next(t) - v_t
    A_t     = delta_t + g * l * A_{t+1}            (GAE; Schulman et al. 2016, arXiv 1506.02438)
    target  = A_t + v_t
    R_t     = r_t + g * R_{t+1}                    (return)

with g = `gamma` and l = `gae_lambda`, one number or one per model. A sample is a rollout segment:
it may contain several episodes and may end within one:

    a step that...                          v_next(t)           and A_{t+1} is...
    is inside an episode                    value_{t+1}         added
    terminated                              0                   not added
    truncated, or before an invalid step    next_value_t        not added
    or the end of the sample

A step that is both terminated and truncated counts as terminated. Other entries of `next_value` are
not read.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.losses.reductions import PerModelSetting, broadcast_setting, check_range
from mores.core.deterministic_sum import total


class AdvantageEstimate(NamedTuple):
    """Advantages of actions, and targets of the value head."""

    advantage: Float[Tensor, "model sample step"]
    value_target: Float[Tensor, "model sample step"]


def generalized_advantages(
    reward: Float[Tensor, "model sample step"],
    value: Float[Tensor, "model sample step"],
    next_value: Float[Tensor, "model sample step"],
    terminated: Bool[Tensor, "model sample step"],
    truncated: Bool[Tensor, "model sample step"],
    mask: Bool[Tensor, "model sample step"],
    gamma: PerModelSetting = 0.99,
    gae_lambda: PerModelSetting = 0.95,
) -> AdvantageEstimate:
    """Generalized advantages and targets of the value head; 0 at invalid steps.

    Args:
        reward: reward of each action.
        value: estimated value before each action.
        next_value: estimated value after each action, read at truncations and at segment ends.
        terminated: the episode terminated with this action.
        truncated: the episode was truncated after this action.
        mask: which steps are valid.
        gamma: discount factor, in [0, 1].
        gae_lambda: 0: one-step TD errors; 1: Monte Carlo returns minus values.

    Raises:
        UserError: `gamma` or `gae_lambda` is not in [0, 1].
    """
    check_range("gamma of advantages", gamma, 0.0, 1.0, path="gamma")
    check_range("gae_lambda of advantages", gae_lambda, 0.0, 1.0, path="gae_lambda")
    cut = truncated | _last_valid_step(mask)
    following = torch.cat([value[..., 1:], value[..., -1:]], -1)  # the last column is always cut
    bootstrap = torch.where(cut, next_value, following)
    bootstrap = torch.where(terminated, 0.0, bootstrap)
    error = torch.where(mask, reward + broadcast_setting(gamma, reward) * bootstrap - value, 0.0)
    continues = mask & ~terminated & ~cut
    decay = broadcast_setting(gamma, reward[..., 0]) * broadcast_setting(gae_lambda, reward[..., 0])
    later = torch.zeros_like(error[..., 0])
    advantages = []
    for step in reversed(range(error.shape[-1])):
        later = error[..., step] + torch.where(continues[..., step], decay * later, 0.0)
        advantages.append(later)
    advantage = torch.stack(advantages[::-1], -1)
    return AdvantageEstimate(advantage, torch.where(mask, advantage + value, 0.0))


def discounted_returns(
    reward: Float[Tensor, "model sample step"],
    terminated: Bool[Tensor, "model sample step"],
    truncated: Bool[Tensor, "model sample step"],
    mask: Bool[Tensor, "model sample step"],
    gamma: PerModelSetting = 0.99,
    next_value: Float[Tensor, "model sample step"] | None = None,
) -> Float[Tensor, "model sample step"]:
    """Discounted sum of rewards from each step on; 0 at invalid steps.

    Args:
        reward: reward of each action.
        terminated: the episode terminated with this action.
        truncated: the episode was truncated after this action.
        mask: which steps are valid.
        gamma: discount of the next return, in [0, 1].
        next_value: estimated value after a cut; None: 0.

    Raises:
        UserError: `gamma` is not in [0, 1].
    """
    zero = torch.zeros_like(reward)
    bootstrap = zero if next_value is None else next_value
    estimate = generalized_advantages(
        reward, zero, bootstrap, terminated, truncated, mask, gamma, gae_lambda=1.0
    )
    return estimate.advantage


def center_advantages(
    advantage: Float[Tensor, "model sample step"], mask: Bool[Tensor, "model sample step"]
) -> Float[Tensor, "model sample step"]:
    """Advantages with mean 0 over the valid steps of each model; 0 at invalid steps."""
    values, valid = torch.where(mask, advantage, 0.0).flatten(1), mask.flatten(1)
    mean = total(values, 1)[:, None] / valid.sum(1, keepdim=True).clamp(min=1)
    return torch.where(valid, values - mean, 0.0).view_as(advantage)


def center_by_step(
    advantage: Float[Tensor, "model sample step"], mask: Bool[Tensor, "model sample step"]
) -> Float[Tensor, "model sample step"]:
    """Advantages with mean 0 over the valid samples of each step of each model; 0 elsewhere.

    Of complete episodes that begin together, a step is a round: the mean is a baseline that depends
    on time.
    """
    values = torch.where(mask, advantage, 0.0)
    mean = total(values, 1) / mask.sum(1).clamp(min=1)
    return torch.where(mask, values - mean[:, None], 0.0)


def normalize_advantages(
    advantage: Float[Tensor, "model sample step"],
    mask: Bool[Tensor, "model sample step"],
    epsilon: float = 1e-8,
) -> Float[Tensor, "model sample step"]:
    """Advantages with mean 0 and sample standard deviation 1 over the valid steps of each model.

    Advantages that are all equal become exactly 0, as no action was better than another. A model
    with a single valid step is such a case.
    """
    values = torch.where(mask, advantage, 0.0).flatten(1)
    count = mask.flatten(1).sum(1, keepdim=True)
    centered = center_advantages(advantage, mask).flatten(1)
    std = (total(centered.square(), 1)[:, None] / (count - 1).clamp(min=1)).sqrt()
    # Centering equal numbers leaves round-off, which its own std would scale to numbers around 1.
    rounding = 8 * torch.finfo(values.dtype).eps * values.abs().amax(1, keepdim=True)
    scaled = torch.where(std <= rounding, 0.0, centered / (std + epsilon))
    return scaled.view_as(advantage)


def explained_variance(
    value: Float[Tensor, "model *rest"],
    target: Float[Tensor, "model *rest"],
    mask: Bool[Tensor, "model *rest"],
) -> Float[Tensor, " model"]:
    """Share of the variance of the targets that predicted values explain, 1 - Var(t - v) / Var(t).

    1 is a perfect prediction, 0 is no better than a constant. NaN if all targets are equal, up to
    rounding: a target is an advantage plus a value.
    """
    valid, count = mask.flatten(1), mask.flatten(1).sum(1).clamp(min=1)
    rows = torch.stack([target.flatten(1), (target - value).flatten(1)])
    rows = torch.where(valid, rows, 0.0)
    means = rows.sum(2) / count
    centered = torch.where(valid, rows - means[..., None], 0.0)
    total_variance, unexplained = centered.square().sum(2) / count
    rounding = 8 * torch.finfo(rows.dtype).eps * rows.abs().amax((0, 2))
    varies = total_variance > rounding.square()
    return 1.0 - unexplained / torch.where(varies, total_variance, torch.nan)


def broadcast_to_steps(
    advantage: Float[Tensor, "model sample"], mask: Bool[Tensor, "model sample step"]
) -> Float[Tensor, "model sample step"]:
    """The advantage of each sample at all of its valid steps; 0 at invalid steps."""
    return torch.where(mask, advantage[..., None], 0.0)


def _last_valid_step(
    mask: Bool[Tensor, "model sample step"],
) -> Bool[Tensor, "model sample step"]:
    """Valid steps whose next step is invalid or does not exist."""
    following = torch.zeros_like(mask)
    following[..., :-1] = mask[..., 1:]
    return mask & ~following
