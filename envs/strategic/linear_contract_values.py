"""Linear contracts with exponential utility and normal noise (LEN): closed forms.

An agent with effort e produces x = e + noise, noise ~ N(0, S), at cost (e - m)' C (e - m) / 2 with
intrinsic effort m, and is paid a + T' x, where T sums the slopes of n principals and a their
salaries. With absolute risk aversion r (CARA) its certainty equivalent is

    CE = a + T' e - (e - m)' C (e - m) / 2 - r T' S T / 2,      best effort e = m + C^-1 T.

Principal i values output at B_i' x. Only some tasks are *measured*; slopes of the others are 0.
With M these tasks, P = [C^-1]_MM and Q = S_MM, the slopes in equilibrium are

    one principal      (P + r Q) T_M   = [C^-1 B]_M
    n principals       (P + n r Q) T_M = [C^-1 (B_1 + ... + B_n)]_M
    principal i        P b_i           = [C^-1 B_i]_M - r Q T_M

With all tasks measured T = (I + n r C S)^-1 sum(B); for one task and principal b = B / (1 + r c s).
n = 1 is Holmstrom and Milgrom 1987 (Econometrica 55) and 1991 (J. Law, Economics and Organization
7); n > 1 is common agency (Bernheim and Whinston 1986, Econometrica 54; with several tasks Dixit
1996, The Making of Economic Policy). The agent accepts all offers or none.

The outside option, in certainty equivalents, is private and uniform on [low, high]. The slopes do
not depend on it. Each principal takes the others' offers as given and maximizes the probability of
acceptance times its profit, so that all profits equal p / f = U - low (p: probability of
acceptance, f: density, U: certainty equivalent). With the joint surplus of all principals and the
agent, V = sum(B)' e - cost - r T' S T / 2,

    U = low + (V - low) / (n + 1), at most high;   each expected profit (V - U) / n * p(U).

For low = high and one principal, U = low: the participation constraint binds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int


@dataclasses.dataclass(frozen=True)
class LinearTechnology:
    """What an agent can do, and what is measured.

    Attributes:
        cost: matrix C of effort costs, symmetric and positive definite.
        noise: covariance S of output.
        risk_aversion: r, 1 / unit of income.
        intrinsic_effort: m, the effort without incentives; None: 0.
        measured: tasks whose output is contractible; None: all.
    """

    cost: Float[np.ndarray, "task task"]
    noise: Float[np.ndarray, "task task"]
    risk_aversion: float
    intrinsic_effort: Float[np.ndarray, " task"] | None = None
    measured: Sequence[bool] | None = None

    @property
    def num_tasks(self) -> int:
        """Number of tasks."""
        return len(self.cost)

    @property
    def measured_tasks(self) -> Int[np.ndarray, " measured"]:
        """Indices of the measured tasks."""
        return np.arange(self.num_tasks)[list(self.measured or [True] * self.num_tasks)]

    def best_effort(self, slopes: Float[np.ndarray, " task"]) -> Float[np.ndarray, " task"]:
        """Effort that maximizes the certainty equivalent."""
        intrinsic = 0.0 if self.intrinsic_effort is None else self.intrinsic_effort
        return intrinsic + np.linalg.solve(self.cost, slopes)

    def certainty_equivalent(
        self,
        slopes: Float[np.ndarray, " task"],
        salary: float,
        effort: Float[np.ndarray, " task"] | None = None,
    ) -> float:
        """Certainty equivalent of a contract, by default with the best effort."""
        effort = self.best_effort(slopes) if effort is None else effort
        added = effort if self.intrinsic_effort is None else effort - self.intrinsic_effort
        risk = self.risk_aversion * slopes @ self.noise @ slopes
        return float(salary + slopes @ effort - added @ self.cost @ added / 2 - risk / 2)


@dataclasses.dataclass(frozen=True)
class LinearEquilibrium:
    """Contracts in equilibrium, and what each side earns.

    Attributes:
        slopes: of each principal; 0 for tasks that are not measured.
        slope_sum: sum over the principals.
        effort: the agent's best effort.
        salary: sum of the principals' salaries.
        surplus: joint surplus V of principals and agent if the offers are accepted.
        utility: certainty equivalent U of the agent if the offers are accepted.
        participation: probability of acceptance.
        profit: expected profit of each principal.
    """

    slopes: Float[np.ndarray, "principal task"]
    slope_sum: Float[np.ndarray, " task"]
    effort: Float[np.ndarray, " task"]
    salary: float
    surplus: float
    utility: float
    participation: float
    profit: float


def linear_equilibrium(
    technology: LinearTechnology,
    benefits: Float[np.ndarray, "principal task"],
    outside_option: tuple[float, float] = (0.0, 0.0),
) -> LinearEquilibrium:
    """Equilibrium of `n` principals; see the module.

    Several principals and a known outside option (low = high) leave the division of the salary
    open; the sums are those of the equilibria in which the participation constraint binds.
    """
    benefits = np.asarray(benefits, dtype=float)
    tasks = technology.measured_tasks
    inverse = np.linalg.inv(technology.cost)
    rows = np.ix_(tasks, tasks)
    gain, risk = inverse[rows], technology.risk_aversion * technology.noise[rows]
    marginal = (inverse @ benefits.T)[tasks]  # measured, principal
    measured_sum = np.linalg.solve(gain + len(benefits) * risk, marginal.sum(1))
    slopes = np.zeros_like(benefits)
    slopes[:, tasks] = np.linalg.solve(gain, marginal - (risk @ measured_sum)[:, None]).T
    total = slopes.sum(0)
    effort = technology.best_effort(total)
    surplus = technology.certainty_equivalent(total, 0.0) + float(
        (benefits.sum(0) - total) @ effort
    )
    utility, participation = offered_utility(surplus, len(benefits), outside_option)
    salary = utility - technology.certainty_equivalent(total, 0.0)
    profit = participation * (surplus - utility) / len(benefits)
    return LinearEquilibrium(slopes, total, effort, salary, surplus, utility, participation, profit)


def offered_utility(
    surplus: float, num_principals: int, outside_option: tuple[float, float]
) -> tuple[float, float]:
    """Certainty equivalent that the offers leave to the agent, and probability of acceptance.

    Nothing is offered that anybody accepts if the joint surplus is below the lowest outside option.
    """
    low, high = outside_option
    if surplus <= low:
        return low, 0.0
    utility = min(low + (surplus - low) / (num_principals + 1), high)
    return utility, 1.0 if high == low else (utility - low) / (high - low)


def cooperative_slopes(
    technology: LinearTechnology, benefits: Float[np.ndarray, "principal task"]
) -> Float[np.ndarray, " task"]:
    """Slopes that principals choose together, as one principal with the sum of their benefits."""
    together = np.asarray(benefits, dtype=float).sum(0, keepdims=True)
    return linear_equilibrium(technology, together).slope_sum


def first_best_surplus(
    technology: LinearTechnology, benefits: Float[np.ndarray, "principal task"]
) -> float:
    """Joint surplus if effort were contractible: B' e - cost at e = m + C^-1 B, without risk."""
    total = np.asarray(benefits, dtype=float).sum(0)
    effort = technology.best_effort(total)
    added = effort if technology.intrinsic_effort is None else effort - technology.intrinsic_effort
    return float(total @ effort - added @ technology.cost @ added / 2)
