"""Rewards of several principals made one.

With reward r_i of principal i and weight w_i:

    weighted sum            sum_i w_i r_i
    sum, then normalise     GRPO's advantage of the weighted sum
    normalise, then sum     sum_i w_i (r_i - m_i) / (s_i + eps) within groups, and, as TRL 1.16 does
                            for GDPO, the sum normalised once more over the policy's batch
    log-sigmoid, centred    sum_i w_i log sigmoid((r_i - c_i) / scale)
    minimum                 min_i r_i
    Nash product            prod_i max(r_i - d_i, 0)^(w_i / sum of w)

Summing first lets the principal with the widest rewards decide; normalising first gives all the
same say within each group.

The log-sigmoid-centred transform is Wang et al. 2024 (arXiv 2402.00742): if sigmoid(r_i - c_i) is
the probability that an answer is good by principal i, the sum of its logarithms is that of being
good by all, were they independent. What is good enough by c_i hardly gains from being better, so
that no principal is served at another's cost, nor a proxy beyond what it means. c_i is the reward
of an answer that is only just good; by default of `reference_rewards`, the .85 quantile of rewards
under the policy that training began from. `scale` is ours: rewards of a Bradley-Terry model are in
logits already (scale 1), others must be brought there.

The Nash product (Nash 1950) is given as the geometric mean of gains over the disagreement point d,
in units of reward; it is 0 where somebody gains nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as functional
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.losses.reductions import check_positive
from mores.agents.learning.transforms.group_advantages import EPSILON, grpo_advantages
from mores.agents.learning.transforms.groups import SampleGroups

Rewards = Float[Tensor, "policy sample principal"]
PrincipalWeights = Float[Tensor, " principal"] | Float[Tensor, "policy principal"]
RewardLevels = Float[Tensor, "policy principal"] | Float[Tensor, "policy sample principal"]


def weighted_sum(
    reward: Rewards, weight: PrincipalWeights | None = None
) -> Float[Tensor, "policy sample"]:
    """Sum over principals, each of weight 1 where none is given; weight 0 is not asked at all."""
    weights = _weights_like(reward, weight)
    return torch.where(weights == 0, 0.0, weights * reward).sum(-1)


def sum_then_normalize(
    reward: Rewards,
    groups: SampleGroups,
    weight: PrincipalWeights | None = None,
    scale_rewards: str = "group",
    epsilon: float = EPSILON,
) -> Float[Tensor, "policy sample"]:
    """GRPO's advantage of the weighted sum; `scale_rewards` as there."""
    return grpo_advantages(weighted_sum(reward, weight), groups, scale_rewards, epsilon)


def normalize_then_sum(
    reward: Rewards,
    groups: SampleGroups,
    weight: PrincipalWeights | None = None,
    normalize_sum: bool = True,
    epsilon: float = EPSILON,
) -> Float[Tensor, "policy sample"]:
    """Weighted sum of what GRPO would make of each principal's rewards alone (GDPO).

    Args:
        reward: of each sample by principal.
        groups: who answers the same request.
        weight: of each principal, 1 where none is given.
        normalize_sum: whether the sum is normalised over the policy's batch, so that its size does not
            grow with the number of principals.
        epsilon: added to deviations.
    """
    summed = weighted_sum(groups.normalized(reward, epsilon), weight)
    return (
        SampleGroups.single_group(groups.valid).normalized(summed, epsilon)
        if normalize_sum
        else summed
    )


def reference_rewards(
    reward: Rewards, groups: SampleGroups, quantile: float = 0.85
) -> Float[Tensor, "policy sample principal"]:
    """The reward below which a share of each group lies, by principal, at each sample.

    Args:
        reward: of samples of the policy that training began from.
        groups: who answers the same request; `SampleGroups.single_group` for one level for all requests.
        quantile: between 0 and 1.
    """
    return groups.quantile(reward, quantile)


def log_sigmoid_centered(
    reward: Rewards, reference_level: RewardLevels, scale: float = 1.0
) -> Float[Tensor, "policy sample principal"]:
    """Log-probability that each sample is good by each principal; never above 0.

    Args:
        reward: of each sample by principal.
        reference_level: the reward of what is only just good, by principal, or by sample and principal.
        scale: units of reward in a logit, above 0.

    Raises:
        UserError: the scale is not positive.
    """
    check_positive("the scale of rewards", scale, path="scale")
    level = reference_level if reference_level.dim() == 3 else reference_level[:, None]
    return functional.logsigmoid((reward - level) / scale)


def sum_log_sigmoid_centered(
    reward: Rewards, level: RewardLevels, scale: float = 1.0, weight: PrincipalWeights | None = None
) -> Float[Tensor, "policy sample"]:
    """Sum of `log_sigmoid_centered`: log-probability of being good by all principals at once."""
    return weighted_sum(log_sigmoid_centered(reward, level, scale), weight)


def minimum(reward: Rewards) -> Float[Tensor, "policy sample"]:
    """What the principal says that is least content."""
    return reward.amin(-1)


def nash_product(
    reward: Rewards, disagreement: RewardLevels, weight: PrincipalWeights | None = None
) -> Float[Tensor, "policy sample"]:
    """Weighted geometric mean of gains; 0 where a principal of some weight gains nothing.

    Args:
        reward: of each sample by principal.
        disagreement: what each principal has without an agreement.
        weight: power of each principal, 1 where none is given; they need not sum to 1.
    """
    level = disagreement if disagreement.dim() == 3 else disagreement[:, None]
    power = _weights_like(reward, weight).expand(reward.shape)
    power = power / power.sum(-1, keepdim=True)
    gain = (reward - level).clamp(min=0)
    # 0 * log 0 would be no number: whoever has no weight is left out of the sum.
    logarithms = torch.where(power > 0, power * gain.log(), 0.0)
    return logarithms.sum(-1).exp()


def _weights_like(reward: Rewards, weight: PrincipalWeights | None) -> Tensor:
    """Weights as `[1 or policy, 1, principal]`."""
    if weight is None:
        return reward.new_ones(1, 1, reward.shape[-1])
    return weight.view(-1, 1, weight.shape[-1])
