"""Advantages of answers relative to other answers to the same request.

With score R_i of n answers in a group, mean m and standard deviation s (n - 1 in its divisor):

    GRPO        A_i = (R_i - m) / (s + eps)             (Shao et al. 2024, arXiv 2402.03300)
    Dr. GRPO    A_i = R_i - m                           (scale_rewards "none"; arXiv 2503.20783)
    RLOO        A_i = R_i - mean of the others          (Ahmadian et al. 2024, arXiv 2402.14740)
    REINFORCE   A_i = R_i - mean of the model's batch   (Williams 1992; the recipe `reinforce` has
                                                        an advantage for each action instead, and
                                                        divides by the deviation: `advantages`)

GRAO (arXiv 2508.07750) adds a demonstration y to the group of G generated answers o_i, with J(.)
the mean log-likelihood of an answer's steps:

    J = 1/G sum_i A_i J(o_i) + b A_y J(y) + l/G sum_i A_i (J(o_i) - J(y))

A is GRPO's, over all G + 1. Since advantages of a group sum to zero, sum_i A_i = -A_y, and the
three terms are one sum with a coefficient for each answer:

    J = (1 + l)/G sum_i A_i J(o_i) + (b + l/G) A_y J(y).

A demonstration worse than the group's mean is thus unlearned. The paper's text and its equation do
not agree on which term b weighs; this is the equation. It does not state the divisor of its
standard deviation. Of several demonstrations in a group, J(y) and A_y are averaged. A group without
one is as in GRPO.

Nothing is clipped here: clipping belongs to the loss.
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

Score = Float[Tensor, "model sample"]


def grpo_advantages(
    score: Score, groups: SampleGroups, scale_rewards: str = "group", epsilon: float = EPSILON
) -> Float[Tensor, "model sample"]:
    """Advantages within each group; 0 in groups of one, and in groups of equal scores.

    Args:
        score: of each sample, any unit.
        groups: samples that answer the same request.
        scale_rewards: divisor: standard deviation of the `group` or of the model's whole `batch`,
            or `none`.
        epsilon: added to the standard deviation, in units of the score.

    Raises:
        UserError: there is no such `scale_rewards`.
    """
    check_choice("scale_rewards", scale_rewards, REWARD_SCALES, path="scale_rewards")
    centered = groups.centered(score)
    if scale_rewards == "none":
        return centered
    scale = groups if scale_rewards == "group" else SampleGroups.single_group(groups.valid)
    return centered / (scale.std(score) + epsilon)


def rloo_advantages(score: Score, groups: SampleGroups) -> Float[Tensor, "model sample"]:
    """Score of each sample minus the mean of the others of its group; 0 in groups of one."""
    others = (groups.size - 1).clamp(min=1)
    baseline = (groups.sum(score) - score) / others
    return torch.where(groups.valid & (groups.size > 1), score - baseline, 0.0)


def reinforce_advantages(score: Score, groups: SampleGroups) -> Float[Tensor, "model sample"]:
    """Score of each sample minus the mean over all samples of its model, regardless of groups."""
    return SampleGroups.single_group(groups.valid).centered(score)


def grao_advantages(
    score: Score,
    groups: SampleGroups,
    is_demonstration: Bool[Tensor, "model sample"],
    imitation_coef: float = 0.5,
    regularization_coef: float = 0.6,
    epsilon: float = EPSILON,
) -> Float[Tensor, "model sample"]:
    """Coefficients of mean log-likelihoods in GRAO's objective, times the size of the group.

    So a group's J is the *mean* of coefficient times J(.) over its samples, demonstrations among
    them: the value of `policy_gradient_loss(clip_mode="none", reduction="sample")`.

    Args:
        score: of each sample, any unit.
        groups: samples that answer the same request, generated answers and demonstrations.
        is_demonstration: which samples are demonstrations.
        imitation_coef: b, weight of the demonstration's own advantage.
        regularization_coef: l, weight of the contrast of generated answers and demonstration.
        epsilon: added to the standard deviation, in units of the score.
    """
    advantage = grpo_advantages(score, groups, "group", epsilon)
    num_generated = groups.sum((~is_demonstration).float()).clamp(min=1.0)
    num_demonstrations = groups.sum(is_demonstration.float())
    # This sum is minus the demonstrations' sum for GRPO; computed, it holds for any advantage.
    generated_advantage = groups.sum(torch.where(is_demonstration, 0.0, advantage))
    per_answer = torch.where(num_demonstrations > 0, 1.0 + regularization_coef, 1.0) / num_generated
    contrast = regularization_coef * generated_advantage / num_generated
    demonstrated = (imitation_coef * advantage - contrast) / num_demonstrations.clamp(min=1.0)
    return groups.size * torch.where(is_demonstration, demonstrated, per_answer * advantage)


ADVANTAGE_METHODS: dict[str, Callable[..., Float[Tensor, "model sample"]]] = {
    "grpo": grpo_advantages,
    "rloo": rloo_advantages,
    "reinforce": reinforce_advantages,
    "grao": grao_advantages,
}


def with_group_advantages(
    batch: FeedbackBatch, method: str = "grpo", score: Score | None = None, **method_kwargs: Any
) -> FeedbackBatch:
    """The batch with one advantage per sample, at each of its valid steps.

    Args:
        batch: with `group`; `grao` reads `is_demonstration` too, `reinforce` needs neither.
        method: `grpo`, `rloo`, `reinforce` or `grao`.
        score: of each sample; None: the batch's reward, which must be of one principal.
        method_kwargs: further arguments of the method.

    Raises:
        UserError: there is no such method, or the batch lacks a field.
    """
    check_choice("method of advantages", method, ADVANTAGE_METHODS, path="method")
    if score is None:
        reward = batch.require("reward", method)
        if reward.shape[-1] != 1:
            raise UserError(
                f"{method} needs one score per sample, and there are rewards of "
                f"{reward.shape[-1]} principals: aggregate them first",
                code="wrong_shape",
                path="reward",
            )
        score = reward[..., 0]
    if method == "reinforce":
        groups = SampleGroups.single_group(batch.mask.any(-1))
    else:
        groups = SampleGroups.from_batch(batch, method)
    if method == "grao":
        method_kwargs["is_demonstration"] = batch.require("is_demonstration", method)
    advantage = ADVANTAGE_METHODS[method](score, groups, **method_kwargs)
    return batch.replace(advantage=broadcast_to_steps(advantage, batch.mask))
