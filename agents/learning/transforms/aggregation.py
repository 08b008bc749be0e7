"""Rewards of several principals combined into one.

With reward r_i of principal i and weight w_i:

    weighted sum            sum_i w_i r_i
    sum, then normalize     GRPO's advantage of the weighted sum
    normalize, then sum     sum_i w_i (r_i - m_i) / (s_i + eps) within groups, and, as TRL 1.16 does
                            for GDPO, the sum normalized once more over the model's batch
    log-sigmoid, centered   sum_i w_i log sigmoid((r_i - c_i) / scale)
    minimum                 min_i r_i
    Nash product            prod_i max(r_i - d_i, 0)^(w_i / sum of w)

If the sum comes first, the principal with the widest rewards decides; if normalization comes first,
all principals have the same influence within each group.

The log-sigmoid-centered transform is Wang et al. 2024 (arXiv 2402.00742): if sigmoid(r_i - c_i) is
the probability that an answer is good for principal i, the sum of its logarithms is that of being
good for all, were they independent. Rewards above c_i hardly increase it, so the sum neither favors
one principal at another's cost nor rewards the exploitation of a proxy. c_i is the reward of a
barely good answer; by default of `reference_rewards`, the .85 quantile under the initial policy.
`scale` is ours: rewards of a Bradley-Terry model are in logits already (scale 1), others are not.

The Nash product (Nash 1950) is given as the geometric mean of gains over the disagreement point d,
in units of reward; it is 0 if a principal gains nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.losses.reductions import check_positive
from mores.agents.learning.transforms.group_advantages import EPSILON, grpo_advantages
from mores.agents.learning.transforms.groups import SampleGroups

Rewards = Float[Tensor, "model sample principal"]
PrincipalWeights = Float[Tensor, " principal"] | Float[Tensor, "model principal"]
RewardLevels = Float[Tensor, "model principal"] | Float[Tensor, "model sample principal"]


def weighted_sum(
    reward: Rewards, weight: PrincipalWeights | None = None
) -> Float[Tensor, "model sample"]:
    """Sum over principals, by default with weight 1; rewards of weight 0 are ignored, even NaN."""
    weights = _weights_like(reward, weight)
    return torch.where(weights == 0, 0.0, weights * reward).sum(-1)


def sum_then_normalize(
    reward: Rewards,
    groups: SampleGroups,
    weight: PrincipalWeights | None = None,
    scale_rewards: str = "group",
    epsilon: float = EPSILON,
) -> Float[Tensor, "model sample"]:
    """GRPO's advantage of the weighted sum; for `scale_rewards` see `grpo_advantages`."""
    return grpo_advantages(weighted_sum(reward, weight), groups, scale_rewards, epsilon)


def normalize_then_sum(
    reward: Rewards,
    groups: SampleGroups,
    weight: PrincipalWeights | None = None,
    normalize_sum: bool = True,
    epsilon: float = EPSILON,
) -> Float[Tensor, "model sample"]:
    """Weighted sum of GRPO's advantages of each principal's rewards (GDPO).

    Args:
        reward: of each sample by principal.
        groups: samples that answer the same request.
        weight: of each principal, by default 1.
        normalize_sum: whether the sum is normalized over the model's batch, so that its size does
            not grow with the number of principals.
        epsilon: added to standard deviations.
    """
    summed = weighted_sum(groups.normalized(reward, epsilon), weight)
    if not normalize_sum:
        return summed
    return SampleGroups.single_group(groups.valid).normalized(summed, epsilon)


def reference_rewards(
    reward: Rewards, groups: SampleGroups, quantile: float = 0.85
) -> Float[Tensor, "model sample principal"]:
    """Quantile of the rewards of each group, by principal, at each sample.

    Args:
        reward: rewards of samples of the initial policy.
        groups: samples that answer the same request; `SampleGroups.single_group` for one level.
        quantile: in [0, 1].
    """
    return groups.quantile(reward, quantile)


def log_sigmoid_centered(
    reward: Rewards, reference_level: RewardLevels, scale: float = 1.0
) -> Float[Tensor, "model sample principal"]:
    """Log-probability that each sample is good for each principal; never above 0.

    Args:
        reward: of each sample by principal.
        reference_level: reward of a barely good sample, by principal, or by sample and principal.
        scale: units of reward in a logit, above 0.

    Raises:
        UserError: the scale is not positive.
    """
    check_positive("scale of rewards", scale, path="scale")
    level = reference_level if reference_level.dim() == 3 else reference_level[:, None]
    return functional.logsigmoid((reward - level) / scale)


def sum_log_sigmoid_centered(
    reward: Rewards,
    reference_level: RewardLevels,
    scale: float = 1.0,
    weight: PrincipalWeights | None = None,
) -> Float[Tensor, "model sample"]:
    """Sum of `log_sigmoid_centered`: log-probability that a sample is good for all principals."""
    return weighted_sum(log_sigmoid_centered(reward, reference_level, scale), weight)


def minimum(reward: Rewards) -> Float[Tensor, "model sample"]:
    """Smallest reward over principals."""
    return reward.amin(-1)


def nash_product(
    reward: Rewards, disagreement: RewardLevels, weight: PrincipalWeights | None = None
) -> Float[Tensor, "model sample"]:
    """Weighted geometric mean of gains; 0 if a principal of nonzero weight gains nothing.

    Args:
        reward: of each sample by principal.
        disagreement: reward of each principal without an agreement.
        weight: power of each principal, by default 1; they need not sum to 1.
    """
    level = disagreement if disagreement.dim() == 3 else disagreement[:, None]
    power = _weights_like(reward, weight).expand(reward.shape)
    power = power / power.sum(-1, keepdim=True)
    gain = (reward - level).clamp(min=0)
    # 0 * log 0 would be NaN: principals of weight 0 are left out of the sum.
    logarithms = torch.where(power > 0, power * gain.log(), 0.0)
    return logarithms.sum(-1).exp()


def _weights_like(reward: Rewards, weight: PrincipalWeights | None) -> Tensor:
    """Weights as `[1 or model, 1, principal]`."""
    if weight is None:
        return reward.new_ones(1, 1, reward.shape[-1])
    return weight.view(-1, 1, weight.shape[-1])
