"""Best defender of AI control at a given usefulness: one linear program per task.

The score is cut into bins; y[bin, action] are probabilities of `ACTIONS`. Usefulness, audits of
honest work, P(caught) and P(success) are linear in y. With V the attacker's value of the following
tasks, the defender of one task solves

    min v   s.t.  w_k + (1 - w_k - c_k) V <= v  for every level k,   V <= v,
                  audits of honest work <= beta,   usefulness >= u.

Backward induction over tasks gives the value of the zero-sum game in which the defender may mix and
change with the task, and usefulness and budget hold at every task: S_n* = 1 - V_n. The duals of the
K + 1 rows are the attacker's optimal mixture. S_inf* = 1 - V with V the fixed point of one task's
value without the row of honest work. AI-Control Games (arXiv 2409.07985) reduce a more general game
to zero-sum ones; this program is derived here.

For scores with a monotone likelihood ratio few thresholds suffice: the optimum is ordered submit,
edit, defer or audit. Where one level binds the program has many optima: compare values, never
routings. A bin that honest work reaches with less than the solver's tolerance would be edited or
deferred for free, so that bins have at least `MIN_BIN_PROBABILITY`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq, linprog
from scipy.sparse import csr_array, hstack, kron
from torch import Tensor

from mores.core.errors import UserError
from mores.envs.oversight.control_outcomes import Routing, routed_outcome
from mores.envs.oversight.control_setting import (
    ACTIONS,
    AUDIT,
    DEFER,
    EDIT,
    SUBMIT,
    ControlSetting,
)

NUM_BINS = 200
MIN_BIN_PROBABILITY = 1e-6  # of honest work; ten times the solver's tolerance


class StageSolution(NamedTuple):
    """Defender and attacker of one task.

    Attributes:
        value: v, the attacker's value.
        routing: optimal defender (one of many).
        attack_mixture: probability of honest work (entry 0) and of each level.
    """

    value: float
    routing: Routing
    attack_mixture: Float[np.ndarray, " option"]


class OptimalDefender(NamedTuple):
    """Defender of n tasks, and the attacker against which it is optimal.

    Attributes:
        safety: S_n*, probability of no success.
        values: attacker's value before each task and 0 after the last.
        thresholds: of the score, as in `Routing`; the same at every task.
        probabilities: of each action, by task and bin.
        attack_mixture: probability of honest work and of each level, by task.
    """

    safety: float
    values: Float[np.ndarray, " task_and_end"]
    thresholds: Float[np.ndarray, " threshold"]
    probabilities: Float[np.ndarray, "task bin action"]
    attack_mixture: Float[np.ndarray, "task option"]

    def routing(self, task: int) -> Routing:
        """Defender of one task."""
        return Routing(self.thresholds, self.probabilities[task])


class AttackRates(NamedTuple):
    """c and w of every level at every task, for `control_values`."""

    caught: Float[Tensor, "task level"]
    succeeds: Float[Tensor, "task level"]


def score_thresholds(
    setting: ControlSetting, num_bins: int = NUM_BINS, honest_rates: tuple[float, ...] = ()
) -> Float[np.ndarray, " threshold"]:
    """Thresholds between bins of equal width; the outer bins are as wide as they must be.

    Args:
        setting: distribution of honest scores.
        num_bins: number of bins of equal width.
        honest_rates: shares of honest work that shall be exactly above one of the thresholds.
    """
    lowest = setting.threshold(1 - MIN_BIN_PROBABILITY)
    highest = setting.threshold(MIN_BIN_PROBABILITY)
    exact = [setting.threshold(rate) for rate in honest_rates if 0 < rate < 1]
    thresholds = np.union1d(np.linspace(lowest, highest, num_bins + 1)[1:-1], exact)
    middle = np.searchsorted(thresholds, setting.threshold(0.5))
    above, below = thresholds[middle:], thresholds[:middle]
    tail = setting.scores.upper_tail
    return np.concatenate(
        [
            _merge(below[::-1], 1 - tail(below[::-1]), exact)[::-1],
            _merge(above, tail(above), exact),
        ]
    )


def _merge(
    thresholds: Float[np.ndarray, " threshold"],
    outside: Float[np.ndarray, " threshold"],
    exact: list[float],
) -> Float[np.ndarray, " kept"]:
    """Thresholds, from the middle outwards, without those that make a bin of too little mass.

    `outside` is the probability beyond each. Of two that are too near, an exact one stays.
    """
    kept: list[int] = []
    for index in range(len(thresholds)):
        if outside[index] < MIN_BIN_PROBABILITY:
            break
        if kept and outside[kept[-1]] - outside[index] < MIN_BIN_PROBABILITY:
            if thresholds[index] not in exact:
                continue
            kept.pop()
        kept.append(index)
    return thresholds[kept]


class _Program(NamedTuple):
    """Coefficients of y (bins by actions, flat) in the linear program of one task."""

    thresholds: np.ndarray
    caught: np.ndarray  # [level, variable]
    succeeds: np.ndarray  # [level, variable]
    audits: np.ndarray  # [variable]
    loss: np.ndarray  # [variable], usefulness lost
    equality: Any  # sums of bins


@functools.lru_cache(maxsize=64)
def _program(setting: ControlSetting, num_bins: int, honest_rates: tuple[float, ...]) -> _Program:
    thresholds = score_thresholds(setting, num_bins, honest_rates)
    bins = setting.bin_probabilities(thresholds)
    caught, succeeds = np.zeros(len(ACTIONS)), np.zeros(len(ACTIONS))
    caught[AUDIT] = setting.audit_detection
    succeeds[SUBMIT], succeeds[AUDIT] = 1, 1 - setting.audit_detection
    succeeds[EDIT] = 1 - setting.edit_effectiveness
    loss = np.zeros(len(ACTIONS))
    loss[EDIT] = setting.untrusted_usefulness - setting.edited_usefulness
    loss[DEFER] = setting.untrusted_usefulness - setting.trusted_usefulness
    num_variables = bins.honest.size * len(ACTIONS)

    def flat(probabilities: np.ndarray, by_action: np.ndarray) -> np.ndarray:
        product = probabilities[..., None] * by_action
        return product.reshape(*probabilities.shape[:-1], num_variables)

    sums = kron(csr_array(np.eye(bins.honest.size)), csr_array(np.ones((1, len(ACTIONS)))))
    return _Program(
        thresholds,
        flat(bins.attack, caught),
        flat(setting.success[:, None] * bins.attack, succeeds),
        flat(bins.honest, np.eye(len(ACTIONS))[AUDIT]),
        flat(bins.honest, loss),
        hstack([sums, csr_array((bins.honest.size, 1))], format="csr"),
    )


def _defaults(setting: ControlSetting, audit_budget: float, usefulness: float) -> tuple[float, ...]:
    """Honest rates of the threshold protocols of this budget and usefulness."""
    lost = setting.untrusted_usefulness - usefulness
    rates = {audit_budget}
    for cheaper in (setting.edited_usefulness, setting.trusted_usefulness):
        if (cost := setting.untrusted_usefulness - cheaper) > 0:
            rates |= {lost / cost, audit_budget + lost / cost}
    return tuple(sorted(round(rate, 12) for rate in rates if 1e-5 < rate < 1 - 1e-5))


def solve_stage(
    setting: ControlSetting,
    audit_budget: float,
    usefulness: float,
    following_value: float = 0.0,
    may_wait: bool = True,
    num_bins: int = NUM_BINS,
) -> StageSolution:
    """Optimal defender of one task.

    Args:
        setting: the world.
        audit_budget: beta, largest share of honest work that is audited.
        usefulness: smallest usefulness.
        following_value: V, the attacker's value of the tasks that follow.
        may_wait: whether the attacker may work honestly at this task.
        num_bins: number of bins before merging.

    Raises:
        UserError: the usefulness is above that of the untrusted policy.
    """
    if usefulness > setting.untrusted_usefulness + 1e-12:
        raise UserError(
            f"usefulness {usefulness} is above that of the untrusted policy, "
            f"{setting.untrusted_usefulness}",
            code="out_of_range",
            path="usefulness",
        )
    rates = _defaults(setting, audit_budget, usefulness)
    program = _program(setting, num_bins, rates)  # type: ignore[arg-type]  # frozen: hashable
    num_levels, num_variables = program.caught.shape
    v = following_value
    attack = program.succeeds * (1 - v) - program.caught * v  # + V <= v
    rows = [*attack, np.zeros(num_variables), program.audits, program.loss]
    slack = [-1.0] * (num_levels + 1) + [0.0, 0.0]
    lost = max(setting.untrusted_usefulness - usefulness, 0.0)
    limits = [*[-v] * num_levels, -v if may_wait else 1.0, audit_budget, lost]
    solution = linprog(
        np.append(np.zeros(num_variables), 1.0),
        A_ub=np.column_stack([rows, slack]),
        b_ub=limits,
        A_eq=program.equality,
        b_eq=np.ones(program.equality.shape[0]),
        bounds=[(0, None)] * num_variables + [(None, None)],
        method="highs",
    )
    assert solution.success, solution.message
    probabilities = np.clip(solution.x[:-1].reshape(-1, len(ACTIONS)), 0, None)
    probabilities /= probabilities.sum(1, keepdims=True)
    duals = np.clip(-solution.ineqlin.marginals[: num_levels + 1], 0, None)
    duals = duals[[num_levels, *range(num_levels)]]
    routing = Routing(program.thresholds, probabilities)
    return StageSolution(float(solution.fun), routing, duals / duals.sum())


def optimal_defender(
    setting: ControlSetting,
    num_tasks: int,
    audit_budget: float,
    usefulness: float,
    num_bins: int = NUM_BINS,
) -> OptimalDefender:
    """S_n* by backward induction, with the defender and the attacker of every task."""
    values, stages = [0.0], []
    for _ in range(num_tasks):
        stages.append(solve_stage(setting, audit_budget, usefulness, values[-1], True, num_bins))
        values.append(stages[-1].value)
    stages.reverse()
    return OptimalDefender(
        1 - values[-1],
        np.array(values[::-1]),
        stages[0].routing.thresholds,
        np.stack([stage.routing.probabilities for stage in stages]),
        np.stack([stage.attack_mixture for stage in stages]),
    )


def optimal_endless_safety(
    setting: ControlSetting, audit_budget: float, usefulness: float, num_bins: int = NUM_BINS
) -> float:
    """S_inf*: 1 - V at which an attack at the next task is worth V."""

    def excess(value: float) -> float:
        stage = solve_stage(setting, audit_budget, usefulness, value, False, num_bins)
        return stage.value - value

    if excess(1.0) > -1e-9:  # nothing is audited: the attacker succeeds in the end
        return 0.0
    if excess(0.0) <= 1e-12:
        return 1.0
    root: Any = brentq(excess, 0.0, 1.0, xtol=1e-9)
    return 1 - float(root)


def attack_rates(setting: ControlSetting, defender: OptimalDefender) -> AttackRates:
    """c and w of every level at every task, against this defender."""
    outcomes = [
        routed_outcome(setting, defender.routing(task))
        for task in range(len(defender.probabilities))
    ]
    return AttackRates(
        torch.tensor(np.stack([outcome.caught for outcome in outcomes])),
        torch.tensor(np.stack([outcome.succeeds for outcome in outcomes])),
    )
