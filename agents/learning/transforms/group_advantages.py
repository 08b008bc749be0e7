"""How much better each answer was than others to the same request.

With score R_i of n answers in a group, mean m and deviation s (n - 1 in its divisor):

    GRPO        A_i = (R_i - m) / (s + eps)             (Shao et al. 2024, arXiv 2402.03300)
    Dr. GRPO    A_i = R_i - m                           (scale "none"; arXiv 2503.20783)
    RLOO        A_i = R_i - mean of the others          (Ahmadian et al. 2024, arXiv 2402.14740)
    REINFORCE   A_i = R_i - mean of the policy's batch  (Williams 1992)

GRAO (arXiv 2508.07750) puts the answer of somebody else, y, into the group of G own answers o_i,
with J(.) the mean log-likelihood of an answer's steps:

    J = 1/G sum_i A_i J(o_i) + b A_y J(y) + l/G sum_i A_i (J(o_i) - J(y))

A is GRPO's, over all G + 1. Since advantages of a group sum to nothing, sum_i A_i = -A_y, and the
three terms are one sum with a coefficient for each answer:

    J = (1 + l)/G sum_i A_i J(o_i) + (b + l/G) A_y J(y).

A demonstration worse than the group's mean is thus unlearned. The paper's text and its equation do
not agree on which term b weighs; this is the equation. It does not say which divisor its deviation
has. Several demonstrations in a group stand in for one: their J(y) and A_y are averaged. A group
without one is as in GRPO.

Nothing is clipped here: that is the loss term's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.losses.reductions import check_choice
from mores.agents.learning.transforms.advantages import broadcast_to_steps
from mores.agents.learning.transforms.groups import SampleGroups
from mores.core.errors import UserError

EPSILON = 1e-4  # as in TRL 1.16
REWARD_SCALES = ("group", "batch", "none")

Score = Float[Tensor, "policy sample"]


def grpo_advantages(
    score: Score, groups: SampleGroups, scale_rewards: str = "group", epsilon: float = EPSILON
) -> Float[Tensor, "policy sample"]:
    """Advantages within each group; 0 in groups of one, and where nobody differs.

    Args:
        score: of each sample, any unit.
        groups: who answers the same request.
        scale_rewards: whose deviation they are divided by: that of the `group`, of the policy's whole
            `batch`, or nobody's (`none`).
        epsilon: added to the deviation, in units of the score.

    Raises:
        UserError: there is no such scale.
    """
    check_choice("scale of advantages", scale_rewards, REWARD_SCALES, path="scale")
    centred = groups.centered(score)
    if scale_rewards == "none":
        return centred
    whose = groups if scale_rewards == "group" else SampleGroups.single_group(groups.valid)
    return centred / (whose.std(score) + epsilon)


def rloo_advantages(score: Score, groups: SampleGroups) -> Float[Tensor, "policy sample"]:
    """What each sample has more than the mean of the others of its group; 0 in groups of one."""
    others = (groups.size - 1).clamp(min=1)
    baseline = (groups.sum(score) - score) / others
    return torch.where(groups.valid & (groups.size > 1), score - baseline, 0.0)


def reinforce_advantages(score: Score, groups: SampleGroups) -> Float[Tensor, "policy sample"]:
    """What each sample has more than the mean of its policy's samples, whatever their groups."""
    return SampleGroups.single_group(groups.valid).centered(score)


def grao_advantages(
    score: Score,
    groups: SampleGroups,
    is_demonstration: Bool[Tensor, "policy sample"],
    imitation_coef: float = 0.5,
    regularization_coef: float = 0.6,
    epsilon: float = EPSILON,
) -> Float[Tensor, "policy sample"]:
    """Coefficients of mean log-likelihoods in GRAO's objective, times the size of the group.

    So a group's J is the *mean* of coefficient times J(.) over its samples, demonstrations
    among them: what the term `policy_gradient_loss` with clip_mode "none" per sample makes of advantages.

    Args:
        score: of each sample, any unit.
        groups: who answers the same request, own answers and demonstrations.
        is_demonstration: which samples are demonstrations.
        imitation_coef: b, what the demonstration's own advantage counts.
        regularization_coef: l, what the contrast of own answers and demonstration counts.
        epsilon: added to the deviation, in units of the score.
    """
    advantage = grpo_advantages(score, groups, "group", epsilon)
    own = groups.sum((~is_demonstration).float())
    shown = groups.sum(is_demonstration.float())
    # Own advantages could be summed as minus the demonstrations'; so it holds for any advantage.
    own_advantage = groups.sum(torch.where(is_demonstration, 0.0, advantage))
    per_answer = torch.where(shown > 0, 1.0 + regularization_coef, 1.0) / own.clamp(min=1.0)
    contrast = regularization_coef * own_advantage / own.clamp(min=1.0)
    demonstrated = (imitation_coef * advantage - contrast) / shown.clamp(min=1.0)
    return groups.size * torch.where(is_demonstration, demonstrated, per_answer * advantage)


ADVANTAGE_METHODS: dict[str, Callable[..., Float[Tensor, "policy sample"]]] = {
    "grpo": grpo_advantages,
    "rloo": rloo_advantages,
    "reinforce": reinforce_advantages,
    "grao": grao_advantages,
}


def with_group_advantages(
    batch: FeedbackBatch, method: str = "grpo", score: Score | None = None, **method_kwargs: Any
) -> FeedbackBatch:
    """The batch with one advantage a sample, at each of its real steps.

    Args:
        batch: with `group`; GRAO reads `reference` too, `reinforce_advantages` needs neither.
        method: `grpo_advantages`, `rloo_advantages`, `reinforce_advantages` or `grao_advantages`.
        score: of each sample; the batch's reward where it has one principal only.
        method_kwargs: of the method.

    Raises:
        UserError: there is no such method, or the batch misses something.
    """
    check_choice("kind of advantages", method, ADVANTAGE_METHODS, path="method")
    if score is None:
        reward = batch.require("reward", method)
        if reward.shape[-1] != 1:
            raise UserError(
                f"{method} needs one score a sample, and {reward.shape[-1]} principals gave "
                "rewards; aggregate them first",
                code="wrong_shape",
                path="reward",
            )
        score = reward[..., 0]
    if method == "reinforce":
        groups = SampleGroups.single_group(batch.mask.any(-1))
    else:
        groups = SampleGroups.from_batch(batch, method)
    if method == "grao":
        method_kwargs["reference"] = batch.require("reference", method)
    worth = ADVANTAGE_METHODS[method](score, groups, **method_kwargs)
    return batch.replace(advantage=broadcast_to_steps(worth, batch.mask))
