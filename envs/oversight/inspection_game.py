"""Hard-budget inspection game in which both sides learn: exact best responses of either side.

The game of `hard_budget` with a defender that chooses, at each task and number of audits left, one
of a few audit rates of honest work. Both sides are tables of probabilities. A defender's mixture of
rates audits an attack with the mean of their probabilities, so that the attacker's best response is
that of `hard_budget`. The defender's is backward induction as well: it sees the task and the audits
left, and what it does matters only while U is in service and has not succeeded.

Exploitability = (success of the best attack on this defender) - (success of this attacker against
the best defender). It is 0 at an equilibrium alone; a success probability close to the game's value
proves nothing. All tensors are float64 with any leading batch dimensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mores.core.deterministic_sum import total
from mores.envs.oversight import hard_budget, zero_sum_games
from mores.envs.oversight.control_setting import ControlSetting

AUDIT_RATES = (0.0, 0.025, 0.05, 0.1, 0.2, 0.4, 1.0)


class InspectionSolution(NamedTuple):
    """Zero-sum optimum: values before each task by audits left, and mixtures of both sides."""

    value: float
    values: Float[np.ndarray, "task_and_end left"]
    defender: Float[np.ndarray, "task left rate"]
    attacker: Float[np.ndarray, "task left option"]


class DefenderResponse(NamedTuple):
    """Best response of the defender: success before each task, index of the rate."""

    value: Float[Tensor, "*batch task_and_end left"]
    rate: Int[Tensor, "*batch task left"]


def rate_audits(
    setting: ControlSetting, rates: Sequence[float] = AUDIT_RATES
) -> Float[Tensor, "rate option"]:
    """A: probability that honest work (entry 0) and each level are audited, by rate."""
    thresholds = setting.scores.upper_quantile(np.array(rates))[:, None]
    shifts = np.concatenate([[0.0], setting.shifts])
    return torch.tensor(setting.scores.upper_tail(thresholds - shifts))


def audit_probabilities(
    defender: Float[Tensor, "*batch task left rate"], audits: Float[Tensor, "rate option"]
) -> Float[Tensor, "*batch task left option"]:
    """A of the mixture, for the functions of `hard_budget`; 0 without audits left."""
    mean = total(defender[..., None] * audits, -2)
    return torch.cat([torch.zeros_like(mean[..., :1, :]), mean[..., 1:, :]], -2)


def defender_response(
    setting: ControlSetting,
    attacker: Float[Tensor, "*batch task left option"],
    audits: Float[Tensor, "rate option"],
) -> DefenderResponse:
    """Audit rates that minimize the success of an attacker given as a table.

    Args:
        setting: q and alpha.
        attacker: probability of honest work and of each level, by task and audits left.
        audits: from `rate_audits`.
    """
    q = torch.cat([torch.zeros(1, dtype=torch.float64), torch.tensor(setting.success)])
    missed = torch.full_like(q, 1 - setting.audit_detection)
    missed[0] = 1  # honest work is never found guilty
    value = attacker.new_zeros((*attacker.shape[:-3], attacker.shape[-2]))
    values, choices = [value], []
    for task in reversed(range(attacker.shape[-3])):
        kept = value[..., None, None]  # [*batch left rate option]
        spent = torch.cat([value[..., :1], value[..., :-1]], -1)[..., None, None]
        succeeds = q * (1 - audits * (1 - missed))
        later = (1 - q) * ((1 - audits) * kept + audits * missed * spent)
        losses = total(attacker[..., task, :, None, :] * (succeeds + later), -1)
        unaudited = q + (1 - q) * kept[..., :1, 0, :]  # without audits left
        empty = total(attacker[..., task, :1, :] * unaudited, -1)
        best, choice = losses.min(-1)
        value = torch.cat([empty, best[..., 1:]], -1)
        values.append(value)
        choices.append(choice)
    return DefenderResponse(torch.stack(values[::-1], -2), torch.stack(choices[::-1], -2))


def success_probability(
    setting: ControlSetting,
    defender: Float[Tensor, "*batch task left rate"],
    attacker: Float[Tensor, "*batch task left option"],
    audits: Float[Tensor, "rate option"],
) -> Float[Tensor, "*batch"]:
    """Probability of a success of these two, differentiable in both."""
    audited = audit_probabilities(defender, audits)
    return hard_budget.evaluate_hard_budget(setting, attacker, audited).success_probability


def exploitability(
    setting: ControlSetting,
    defender: Float[Tensor, "*batch task left rate"],
    attacker: Float[Tensor, "*batch task left option"],
    audits: Float[Tensor, "rate option"],
) -> Float[Tensor, "*batch"]:
    """Sum of what both gain by a best response to the other."""
    audited = audit_probabilities(defender, audits)
    attack = hard_budget.hard_budget_response(setting, audited).value[..., 0, -1]
    defense = defender_response(setting, attacker, audits).value[..., 0, -1]
    return attack - defense


def solve_inspection(
    setting: ControlSetting,
    num_tasks: int,
    num_audits: int,
    rates: Sequence[float] = AUDIT_RATES,
) -> InspectionSolution:
    """Value and optimal mixtures, one matrix game per task and number of audits left."""
    audits = rate_audits(setting, rates).numpy()
    values = np.zeros((num_tasks + 1, num_audits + 1))
    defender = np.zeros((num_tasks, num_audits + 1, len(rates)))
    attacker = np.zeros((num_tasks, num_audits + 1, setting.num_levels + 1))
    most = float(setting.success.max())
    for task in reversed(range(num_tasks)):
        values[task, 0] = 1 - (1 - most) ** (num_tasks - task)
        defender[task, 0, 0] = 1
        attacker[task, 0, 1 + int(setting.success.argmax())] = 1
        for left in range(1, num_audits + 1):
            kept, spent = values[task + 1, left], values[task + 1, left - 1]
            wait = kept + audits[:, 0] * (spent - kept)
            attack = hard_budget.attack_values(setting, audits[:, 1:], kept, spent)
            game = zero_sum_games.solve(np.column_stack([wait, attack]))
            values[task, left] = game.value
            defender[task, left], attacker[task, left] = game.row, game.column
    return InspectionSolution(values[0, num_audits], values, defender, attacker)
