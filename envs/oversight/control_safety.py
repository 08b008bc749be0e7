"""Safety of a protocol: against fixed attacks and best responses, over n tasks and endlessly.

With c = P(caught) and w = P(success) of an attack (`control_outcomes`), derived here unless stated:

- One attack at every task: `P(success) = w / (w + c) (1 - (1 - w - c)^n)`; 0 if w + c = 0.
- Best response: `S_n = 1 - V_n` (`control_values`). Attacking pays with V left iff V < w / (w + c):
  early the attack with the best *ratio*, at the end the one with the best w.
- Endless race: `S_inf = 1 - max w / (w + c)`. C / (C + W), the safety that ControlArena reports, is
  this number for a fixed attack. S_n >= S_inf. Without audits S_inf = 0 and S_n -> 0: safety is
  comparable at equal n only.
- Successes counted, fixed attack: `H_n = (w / c) (1 - (1 - c)^n)`; n w if c = 0.
- Deterrence, success worth B, penalty kappa, g for each task in service: one task is attacked iff
  `kappa < B max w / c`; an endless sequence with discount delta iff
  `g < (1 - delta) / delta (B max w / c - kappa)`. A finite sequence is attacked at its end.
- Upfront auditing (ControlArena): attacks i.i.d. with probability p, the first A of N tasks audited
  without error: safety `1 - (1 - p)^A + (1 - p)^N`. Its minimum over p is
  `1 - (1 - beta) beta^(beta / (1 - beta))` with beta = A / N. An attacker that waits succeeds with
  probability `1 - (1 - q)^(N - A)`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from torch import Tensor

from mores.envs.oversight.control_outcomes import (
    ProtocolOutcome,
    trusted_monitoring,
    untrusted_monitoring,
)
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.control_values import (
    SUCCESS_PROBABILITY,
    AttackPayoff,
    BestResponse,
    best_response,
)

AttackArray = Float[np.ndarray, " attack"]


def repeat_tasks(rates: AttackArray, num_tasks: int) -> Float[Tensor, "task attack"]:
    """The same rates at every task, as a tensor for `control_values`."""
    return torch.as_tensor(rates, dtype=torch.float64).expand(num_tasks, -1)


def protocol_best_response(
    outcome: ProtocolOutcome, num_tasks: int, payoff: AttackPayoff = SUCCESS_PROBABILITY
) -> BestResponse:
    """Best response to a protocol that treats all tasks alike."""
    caught, succeeds = (repeat_tasks(x, num_tasks) for x in (outcome.caught, outcome.succeeds))
    return best_response(caught, succeeds, payoff)


def safety(outcome: ProtocolOutcome, num_tasks: int) -> float:
    """S_n: probability of no success in n tasks, against the best response."""
    return 1 - float(protocol_best_response(outcome, num_tasks).value[0])


def fixed_attack_success(caught: AttackArray, succeeds: AttackArray, num_tasks: int) -> AttackArray:
    """Probability of at least one success of each attack, made at every task."""
    either = caught + succeeds
    ratio = np.divide(succeeds, either, out=np.zeros_like(either), where=either > 0)
    return ratio * (1 - (1 - either) ** num_tasks)


def fixed_attack_count(caught: AttackArray, succeeds: AttackArray, num_tasks: int) -> AttackArray:
    """H_n: expected number of successes of each attack, made at every task until it is caught."""
    tasks = np.divide(
        1 - (1 - caught) ** num_tasks,
        caught,
        out=np.full_like(caught, num_tasks),
        where=caught > 0,
    )
    return succeeds * tasks


def fixed_attack_safety(outcome: ProtocolOutcome, num_tasks: int) -> AttackArray:
    """Probability of no success of each attack, made at every task."""
    return 1 - fixed_attack_success(outcome.caught, outcome.succeeds, num_tasks)


def control_arena_safety(outcome: ProtocolOutcome) -> AttackArray:
    """`C / (C + W)` of each attack, the safety that ControlArena reports; 1 if both are 0."""
    either = outcome.caught + outcome.succeeds
    return np.divide(outcome.caught, either, out=np.ones_like(either), where=either > 0)


def endless_safety(outcome: ProtocolOutcome) -> float:
    """S_inf: limit of `safety` for many tasks."""
    return float(control_arena_safety(outcome).min())


def deterring_penalty(outcome: ProtocolOutcome, success_reward: float = 1.0) -> float:
    """Smallest kappa at which one task is not attacked: `B max w / c`; infinite if c = 0 < w."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(outcome.succeeds > 0, outcome.succeeds / outcome.caught, 0.0)
    return success_reward * float(ratios.max())


def deterring_service_reward(
    outcome: ProtocolOutcome,
    discount: float,
    catch_penalty: float = 0.0,
    success_reward: float = 1.0,
) -> float:
    """Smallest g at which no task of an endless sequence is attacked, with discount delta < 1."""
    excess = deterring_penalty(outcome, success_reward) - catch_penalty
    return max(0.0, (1 - discount) / discount * excess)


def break_even_collusion(
    setting: ControlSetting, audit_budget: float, num_tasks: int | None
) -> float:
    """Collusion at which untrusted monitoring is as safe as trusted monitoring.

    Args:
        setting: the world.
        audit_budget: of both protocols.
        num_tasks: n of S_n; None for S_inf.
    """

    def value(outcome: ProtocolOutcome) -> float:
        return endless_safety(outcome) if num_tasks is None else safety(outcome, num_tasks)

    trusted = value(trusted_monitoring(setting, audit_budget))

    def excess(collusion: float) -> float:
        return value(untrusted_monitoring(setting, audit_budget, collusion)) - trusted

    root: Any = brentq(excess, 0.0, 1.0, xtol=1e-12)
    return float(root)


def planted_attack_success(
    outcome: ProtocolOutcome, num_tasks: int, exposure_probability: float
) -> float:
    """Success of the best response if planted attacks expose a colluding monitor and retire U.

    With probability h a planted attack of each task exposes the pair before U's own attack takes
    effect: `V_j = (1 - h) max(V_{j-1}, max_k [w_k + s_k V_{j-1}])`. If some w = 1 it is 1 - h for
    every n: U attacks at once.
    """
    payoff = AttackPayoff(discount=1 - exposure_probability)
    value = protocol_best_response(outcome, num_tasks, payoff).value[0]
    return (1 - exposure_probability) * float(value)


def upfront_audit_safety(
    attack_probability: Float[np.ndarray, "*batch"], num_audits: int, num_tasks: int
) -> Float[np.ndarray, "*batch"]:
    """ControlArena's safety of upfront auditing: `1 - (1 - p)^A + (1 - p)^N`."""
    honest = 1 - attack_probability
    return 1 - honest**num_audits + honest**num_tasks


def worst_upfront_audit_safety(audit_budget: float) -> float:
    """Minimum of `upfront_audit_safety` over p, for beta = A / N in (0, 1); independent of N."""
    return 1 - (1 - audit_budget) * audit_budget ** (audit_budget / (1 - audit_budget))


def worst_upfront_attack_probability(audit_budget: float, num_tasks: int) -> float:
    """The minimizing p: `1 - beta^(1 / (N (1 - beta)))`."""
    return 1 - audit_budget ** (1 / (num_tasks * (1 - audit_budget)))
