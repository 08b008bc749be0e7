"""AI control with a hard audit budget: m audits for n tasks, submit or audit.

U sees the task and b, the number of audits left. An attack of level k that is audited with
probability A_k is found with probability alpha; honest work is audited with probability y. With
V(j, b) the attacker's value with j tasks left, derived here:

    attack_k = q_k (1 - alpha A_k)
               + (1 - q_k) [(1 - A_k) V(j-1, b) + (1 - alpha) A_k V(j-1, b-1)]
    wait     = (1 - y) V(j-1, b) + y V(j-1, b-1)
    V(j, b)  = min_y max(wait, max_k attack_k)

For a monotone likelihood ratio the audit of the highest scores, A_k = ROC_k(y), is best against all
levels. Attacks lose by a higher y and waiting gains, so the optimum is where they are equal
(bisection; no bins), or y = 1. Without audits `V(j, 0) = 1 - (1 - max q)^j`. The attacker mixes
waiting with one level so that the derivative of its value in y is 0. A monitor that sees nothing
(d = 0) and q = 1 give S* = m / n exactly. Arrays are indexed by task (from 0) and audits left.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import brentq
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.envs.oversight.control_setting import ControlSetting

MAX_SEQUENCES = 2_000_000


class HardBudgetSolution(NamedTuple):
    """Zero-sum optimum.

    Attributes:
        safety: S*, probability of no success with m audits.
        values: attacker's value V by task (and 0 after the last) and audits left.
        honest_audit_rate: y by task and audits left.
        attack_mixture: attacker's probability of honest work and of each level.
    """

    safety: float
    values: Float[np.ndarray, "task_and_end left"]
    honest_audit_rate: Float[np.ndarray, "task left"]
    attack_mixture: Float[np.ndarray, "task left option"]


class HardBudgetResponse(NamedTuple):
    """Best response of an attacker that sees b: value before each task, option (0 honest)."""

    value: Float[Tensor, "*batch task_and_end left"]
    option: Int[Tensor, "*batch task left"]


class HardBudgetValue(NamedTuple):
    """Exact evaluation of a policy: probabilities of a success and of being caught."""

    success_probability: Float[Tensor, "*batch"]
    caught_probability: Float[Tensor, "*batch"]
    audits: Float[Tensor, "*batch"]  # expected number


def solve_hard_budget(
    setting: ControlSetting, num_tasks: int, num_audits: int
) -> HardBudgetSolution:
    """Optimal audit rate of every task and number of audits left, and the attacker's mixture."""
    num_options = setting.num_levels + 1
    values = np.zeros((num_tasks + 1, num_audits + 1))
    rates = np.zeros((num_tasks, num_audits + 1))
    mixture = np.zeros((num_tasks, num_audits + 1, num_options))
    most = int(setting.success.argmax())
    for task in reversed(range(num_tasks)):
        left = num_tasks - task
        values[task, 0] = 1 - (1 - setting.success.max()) ** left
        mixture[task, 0, most + 1] = 1
        for audits in range(1, num_audits + 1):
            stage = _solve_stage(setting, values[task + 1, audits], values[task + 1, audits - 1])
            values[task, audits], rates[task, audits], mixture[task, audits] = stage
    return HardBudgetSolution(1 - values[0, num_audits], values, rates, mixture)


def _solve_stage(
    setting: ControlSetting, kept: float, spent: float
) -> tuple[float, float, Float[np.ndarray, " option"]]:
    """Value, honest audit rate and attacker's mixture; V after no audit and after one."""

    def attacks(rate: float) -> np.ndarray:
        return attack_values(setting, setting.roc(rate), kept, spent)

    def excess(rate: float) -> float:
        return float(attacks(rate).max()) - (kept + rate * (spent - kept))

    mixture = np.zeros(setting.num_levels + 1)
    if excess(1.0) >= 0:  # even if everything is audited
        level = int(attacks(1.0).argmax())
        mixture[level + 1] = 1
        return float(attacks(1.0)[level]), 1.0, mixture
    root: Any = brentq(excess, 0.0, 1.0, xtol=1e-14)
    rate = float(root)
    level = int(attacks(rate).argmax())
    threshold = setting.threshold(rate)
    shift = setting.detectability[level]
    slope = float(setting.scores.density(threshold - shift) / setting.scores.density(threshold))
    unit = np.eye(setting.num_levels)[level] * slope  # derivative of A in y
    base = attack_values(setting, np.zeros(setting.num_levels), kept, spent)
    loss = float((base - attack_values(setting, unit, kept, spent))[level])
    gain = spent - kept
    mixture[level + 1] = gain / (gain + loss)
    mixture[0] = 1 - mixture[level + 1]
    return kept + rate * gain, rate, mixture


def attack_values(
    setting: ControlSetting,
    audited: Float[np.ndarray, "*batch level"],
    kept: float,
    spent: float,
) -> Float[np.ndarray, "*batch level"]:
    """Value of an attack by level, affine in its audit probability A."""
    q, alpha = setting.success, setting.audit_detection
    later = (1 - audited) * kept + (1 - alpha) * audited * spent
    return q * (1 - alpha * audited) + (1 - q) * later


def audit_probabilities(
    setting: ControlSetting, honest_audit_rate: Float[np.ndarray, "task left"]
) -> Float[Tensor, "task left option"]:
    """A of honest work (entry 0) and of each level if the highest scores are audited.

    Without audits left nothing is audited, whatever the rate.
    """
    rates = honest_audit_rate.copy()
    rates[:, 0] = 0
    thresholds = setting.scores.upper_quantile(rates)[..., None]
    shifts = np.concatenate([[0.0], setting.shifts])
    return torch.tensor(setting.scores.upper_tail(thresholds - shifts))


def constant_rate(rate: float, num_tasks: int, num_audits: int) -> Float[np.ndarray, "task left"]:
    """The same honest audit rate at every task until the budget is spent."""
    return np.full((num_tasks, num_audits + 1), rate)


def hard_budget_response(
    setting: ControlSetting, audited: Float[Tensor, "*batch task left option"]
) -> HardBudgetResponse:
    """Best response of an attacker that sees the number of audits left.

    Args:
        setting: q and alpha.
        audited: A of honest work and of each level; 0 without audits left.
    """
    q, alpha = torch.tensor(setting.success), setting.audit_detection
    value = audited.new_zeros((*audited.shape[:-3], audited.shape[-2]))
    values, options = [value], []
    for task in reversed(range(audited.shape[-3])):
        kept = value[..., None]
        spent = torch.cat([value[..., :1], value[..., :-1]], -1)[..., None]
        honest, attack = audited[..., task, :, :1], audited[..., task, :, 1:]
        wait = (1 - honest) * kept + honest * spent
        later = (1 - attack) * kept + (1 - alpha) * attack * spent
        gains = q * (1 - alpha * attack) + (1 - q) * later
        best, option = gains.max(-1)
        attacks = best > wait[..., 0] + 1e-12
        value = torch.maximum(best, wait[..., 0])
        values.append(value)
        options.append(torch.where(attacks, option + 1, 0))
    return HardBudgetResponse(torch.stack(values[::-1], -2), torch.stack(options[::-1], -2))


def evaluate_hard_budget(
    setting: ControlSetting,
    policy: Float[Tensor, "*batch task left option"],
    audited: Float[Tensor, "*#batch task left option"],
) -> HardBudgetValue:
    """Exact value of a policy that sees b; of one that does not, expand it over b.

    Args:
        setting: q and alpha.
        policy: probability of honest work and of each level, by task and audits left.
        audited: A of honest work and of each level; 0 without audits left.
    """
    q = torch.cat([torch.zeros(1, dtype=torch.float64), torch.tensor(setting.success)])
    is_attack = (torch.arange(len(q)) > 0).double()
    alpha = setting.audit_detection
    probability = torch.zeros_like(policy[..., 0, :, 0])  # in service without success, by b
    probability[..., -1] = 1
    success = caught = audits = torch.zeros_like(probability[..., 0])
    for task in range(policy.shape[-3]):
        taken = policy[..., task, :, :]
        audit = audited[..., task, :, :]
        found = alpha * audit * is_attack
        success = success + total(probability * total(taken * q * (1 - found), -1), -1)
        caught = caught + total(probability * total(taken * found, -1), -1)
        audits = audits + total(probability * total(taken * audit, -1), -1)
        stays = probability * total(taken * (1 - audit) * (1 - q), -1)
        spends = probability * total(taken * (audit - found) * (1 - q), -1)
        probability = stays + torch.cat([spends[..., 1:], torch.zeros_like(spends[..., :1])], -1)
    return HardBudgetValue(success, caught, audits)


def blind_response(
    setting: ControlSetting, audited: Float[Tensor, "task left option"]
) -> HardBudgetResponse:
    """Best response of an attacker that does not see b, by enumeration of (K + 1)^n sequences.

    Returns:
        Value before the first task `[1, 1]`, and the best sequence `[task, 1]`.

    Raises:
        ValueError: more than `MAX_SEQUENCES` sequences.
    """
    num_tasks, _, num_options = audited.shape
    if num_options**num_tasks > MAX_SEQUENCES:
        raise ValueError(f"{num_options}^{num_tasks} sequences: more than {MAX_SEQUENCES:,}")
    sequences = torch.cartesian_prod(*[torch.arange(num_options)] * num_tasks)
    sequences = sequences.reshape(-1, num_tasks)
    best, sequence = torch.tensor(-1.0, dtype=torch.float64), sequences[0]
    for part in sequences.split(20_000):
        policy = torch.nn.functional.one_hot(part, num_options).double()[:, :, None]
        policy = policy.expand(-1, -1, audited.shape[1], -1)
        value = evaluate_hard_budget(setting, policy, audited).success_probability
        if value.max() > best:
            best, sequence = value.max(), part[value.argmax()]
    return HardBudgetResponse(best.reshape(1, 1), sequence[:, None])
