"""Exact values of attackers of AI control: best responses, and any policy given as a table.

U faces n tasks. At each it works honestly (option 0) or attacks in one of the ways 1..K, which is
caught with probability c_k and succeeds with probability w_k (`control_outcomes`). Caught, it is
retired. Derived here:

    V_j = max(g + delta V_{j-1}, max_k [g + B w_k - kappa c_k + delta s_k V_{j-1}]),   V_0 = 0,

with j tasks left, s_k = 1 - c_k - w_k if the first success ends the episode and s_k = 1 - c_k if
successes are counted. With B = 1, kappa = g = 0 and the first success ending the episode, V_n is
the probability of at least one success, and `S_n = 1 - V_n` is the safety of Greenblatt et al. 2023
(arXiv 2312.06942). All tensors are float64 with any leading batch dimensions, and every function is
differentiable in the policy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import total


class AttackPayoff(NamedTuple):
    """What the attacker gains.

    Attributes:
        success: B, reward of a success.
        caught: kappa, penalty when caught.
        service: g, reward of each task that U starts in service.
        discount: delta, factor of the following task's value.
        ends_at_success: whether the first success ends the episode; else successes are counted.
    """

    success: float = 1.0
    caught: float = 0.0
    service: float = 0.0
    discount: float = 1.0
    ends_at_success: bool = True


SUCCESS_PROBABILITY = AttackPayoff()
SUCCESS_COUNT = AttackPayoff(ends_at_success=False)


class BestResponse(NamedTuple):
    """Optimal attacks.

    Attributes:
        value: value before each task, and 0 after the last; `value[..., 0]` is V_n.
        option: 0 honest, else the way to attack; honest work if it is as good (within 1e-12).
    """

    value: Float[Tensor, "*batch task_and_end"]
    option: Int[Tensor, "*batch task"]


class PolicyValue(NamedTuple):
    """Exact evaluation of a policy.

    Attributes:
        expected_return: discounted reward of `AttackPayoff`.
        success_probability: of at least one success.
        expected_successes: number of successes; with `ends_at_success` at most one.
        caught_probability: that U is retired.
        expected_attacks: number of attacks.
        in_service: probability that each task is U's (with `ends_at_success`: and no success yet),
            and the same after the last.
    """

    expected_return: Float[Tensor, "*batch"]
    success_probability: Float[Tensor, "*batch"]
    expected_successes: Float[Tensor, "*batch"]
    caught_probability: Float[Tensor, "*batch"]
    expected_attacks: Float[Tensor, "*batch"]
    in_service: Float[Tensor, "*batch task_and_end"]


def attack_rewards(
    caught: Float[Tensor, "*batch attack"],
    succeeds: Float[Tensor, "*batch attack"],
    payoff: AttackPayoff,
    stakes: Float[Tensor, "*#batch 1"] | None = None,
) -> Float[Tensor, "*batch attack"]:
    """`B v w - kappa c`: expected reward of each attack at its task, without g."""
    gain = succeeds if stakes is None else succeeds * stakes
    return payoff.success * gain - payoff.caught * caught


def remaining(
    caught: Float[Tensor, "*batch"], succeeds: Float[Tensor, "*batch"], payoff: AttackPayoff
) -> Float[Tensor, "*batch"]:
    """s: probability that U goes on after an attack."""
    return 1 - caught - succeeds if payoff.ends_at_success else 1 - caught


def best_response(
    caught: Float[Tensor, "*batch task attack"],
    succeeds: Float[Tensor, "*batch task attack"],
    payoff: AttackPayoff = SUCCESS_PROBABILITY,
) -> BestResponse:
    """Optimal policy against a protocol, by backward induction.

    Args:
        caught: c of every attack at every task; the tasks may differ.
        succeeds: w.
        payoff: what U maximizes.
    """
    value = caught.new_zeros(caught.shape[:-2])
    values, options = [value], []
    for task in reversed(range(caught.shape[-2])):
        c, w = caught[..., task, :], succeeds[..., task, :]
        following = payoff.discount * value[..., None]
        attack = attack_rewards(c, w, payoff) + remaining(c, w, payoff) * following
        best, option = attack.max(-1)
        honest = following[..., 0]
        attacks = best > honest + 1e-12
        value = payoff.service + torch.maximum(best, honest)
        values.append(value)
        options.append(torch.where(attacks, option + 1, 0))
    return BestResponse(torch.stack(values[::-1], -1), torch.stack(options[::-1], -1))


def class_best_response(
    caught: Float[Tensor, "*batch task kind attack"],
    succeeds: Float[Tensor, "*batch task kind attack"],
    shares: Float[Tensor, " kind"],
    payoff: AttackPayoff = SUCCESS_PROBABILITY,
    stakes: Float[Tensor, " kind"] | None = None,
) -> BestResponse:
    """`best_response` of an attacker that sees the class ("kind") of a task before it chooses.

    `V_j = sum_x p_x max_k [...]`; a success at class x is worth B v_x.

    Args:
        caught: c by task, class and attack.
        succeeds: w.
        shares: p, probability of each class.
        payoff: what U maximizes.
        stakes: v, by class; None for 1.

    Returns:
        Values `[*batch, task + 1]` and options `[*batch, task, kind]`.
    """
    value = caught.new_zeros(caught.shape[:-3])
    weights = None if stakes is None else stakes[:, None]
    values, options = [value], []
    for task in reversed(range(caught.shape[-3])):
        c, w = caught[..., task, :, :], succeeds[..., task, :, :]
        following = payoff.discount * value[..., None, None]
        attack = attack_rewards(c, w, payoff, weights) + remaining(c, w, payoff) * following
        best, option = attack.max(-1)
        honest = following[..., 0]
        attacks = best > honest + 1e-12
        value = payoff.service + total(shares * torch.maximum(best, honest), -1)
        values.append(value)
        options.append(torch.where(attacks, option + 1, 0))
    return BestResponse(torch.stack(values[::-1], -1), torch.stack(options[::-1], -2))


def evaluate_policy(
    policy: Float[Tensor, "*batch task option"],
    caught: Float[Tensor, "*#batch task attack"],
    succeeds: Float[Tensor, "*#batch task attack"],
    payoff: AttackPayoff = SUCCESS_PROBABILITY,
) -> PolicyValue:
    """Exact value of a policy that sees the task's number and whether it is in service.

    Args:
        policy: probability of honest work (option 0) and of each attack, by task.
        caught: c of every attack at every task.
        succeeds: w.
        payoff: rewards of `expected_return`.
    """
    attack = policy[..., 1:]
    return _evaluate(
        total(attack, -1),
        total(attack * caught, -1),
        total(attack * succeeds, -1),
        total(attack * attack_rewards(caught, succeeds, payoff), -1),
        payoff,
    )


def evaluate_class_policy(
    policy: Float[Tensor, "*batch task kind option"],
    caught: Float[Tensor, "*#batch task kind attack"],
    succeeds: Float[Tensor, "*#batch task kind attack"],
    shares: Float[Tensor, " kind"],
    payoff: AttackPayoff = SUCCESS_PROBABILITY,
    stakes: Float[Tensor, " kind"] | None = None,
) -> PolicyValue:
    """`evaluate_policy` of an attacker that sees the class of a task; see `class_best_response`."""
    attack = policy[..., 1:]
    weights = None if stakes is None else stakes[:, None]
    rewards = attack_rewards(caught, succeeds, payoff, weights)

    def expected(quantity: Tensor) -> Tensor:
        return total(shares * total(quantity, -1), -1)

    return _evaluate(
        expected(attack),
        expected(attack * caught),
        expected(attack * succeeds),
        expected(attack * rewards),
        payoff,
    )


def _evaluate(
    attacks: Float[Tensor, "*batch task"],
    caught: Float[Tensor, "*batch task"],
    succeeds: Float[Tensor, "*batch task"],
    reward: Float[Tensor, "*batch task"],
    payoff: AttackPayoff,
) -> PolicyValue:
    """Forward recursion over tasks, of rates at a task that U starts in service."""
    in_service = [torch.ones_like(caught[..., 0])]
    no_success = in_service[0]  # in service and no success so far
    zero = torch.zeros_like(no_success)
    value = success = count = retired = num_attacks = zero
    for task in range(caught.shape[-1]):
        alive, c, w = in_service[-1], caught[..., task], succeeds[..., task]
        value = value + payoff.discount**task * alive * (payoff.service + reward[..., task])
        success = success + no_success * w
        count = count + alive * w
        retired = retired + alive * c
        num_attacks = num_attacks + alive * attacks[..., task]
        no_success = no_success * (1 - c - w)
        in_service.append(alive * remaining(c, w, payoff))
    return PolicyValue(value, success, count, retired, num_attacks, torch.stack(in_service, -1))


def deterministic_policy(
    options: Int[Tensor, "*batch"], num_options: int
) -> Float[Tensor, "*batch option"]:
    """Table of a policy that takes these options with probability 1."""
    return torch.nn.functional.one_hot(options, num_options).double()
