"""Closed forms of contract games against optimizers, linear programs, enumeration and nashpy."""

from __future__ import annotations

import itertools
import math

import nashpy
import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import linprog, minimize
from scipy.stats import norm

from mores.envs.strategic.contract_games.linear_batch import AgentTypes, LinearBatch
from mores.envs.strategic.contract_values import (
    cheap_talk_equilibrium,
    deference_values,
    inspection_equilibrium,
    limited_liability_contract,
    screening_menu,
)
from mores.envs.strategic.linear_contract_values import (
    LinearTechnology,
    cooperative_slopes,
    first_best_surplus,
    linear_equilibrium,
)

ONE = np.ones((1, 1))


def one_task(r: float, c: float, s: float) -> LinearTechnology:
    return LinearTechnology(c * ONE, s * ONE, float(r))


def random_technology(
    generator: np.random.Generator, tasks: int, measured: list[bool] | None = None
) -> LinearTechnology:
    roots = generator.normal(size=(2, tasks, tasks))
    cost, noise = (root @ root.T + 0.3 * np.eye(tasks) for root in roots)
    return LinearTechnology(
        cost, noise, generator.uniform(0.2, 2), generator.normal(size=tasks), measured
    )


# --- linear contracts ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("r", "c", "s", "slope", "surplus"),
    [(1, 1, 1, 0.5, 0.25), (2, 0.5, 1.5, 0.4, 0.4), (0.5, 2, 0.3, 0.76923, 0.192308)],
)
def test_one_task(r: float, c: float, s: float, slope: float, surplus: float) -> None:
    technology = one_task(r, c, s)
    solution = linear_equilibrium(technology, ONE)
    assert solution.slope_sum[0] == pytest.approx(1 / (1 + r * c * s), abs=1e-12)
    assert solution.slope_sum[0] == pytest.approx(slope, abs=1e-5)
    assert solution.surplus == pytest.approx(1 / (2 * c * (1 + r * c * s)), abs=1e-12)
    assert solution.surplus == pytest.approx(surplus, abs=1e-6)
    assert first_best_surplus(technology, ONE) == pytest.approx(1 / (2 * c))
    b = solution.slope_sum[0]
    assert solution.salary == pytest.approx(-(b**2) / (2 * c) + r * b**2 * s / 2)  # binding PC

    # An optimizer over slope, salary and effort, subject to both constraints.
    def participation(x: np.ndarray) -> float:
        return technology.certainty_equivalent(x[:1], x[1])

    best = minimize(
        lambda x: -((1 - x[0]) * x[0] / c - x[1]),
        [0.1, 0.1],
        constraints={"type": "ineq", "fun": participation},
        method="SLSQP",
        options={"ftol": 1e-14},
    )
    assert best.x == pytest.approx([b, solution.salary], abs=1e-6)
    assert -best.fun == pytest.approx(solution.surplus, abs=1e-9)


def test_certainty_equivalent_is_that_of_exponential_utility() -> None:
    """Against the expectation of -exp(-r income), integrated over the noise."""
    technology, slopes, salary = one_task(1.3, 0.8, 0.7), np.array([0.6]), 0.2
    effort = np.array([0.5])
    cost = 0.8 * effort[0] ** 2 / 2

    def integrand(noise: float) -> float:
        income = salary + slopes[0] * (effort[0] + noise) - cost
        return math.exp(-1.3 * income) * float(norm.pdf(noise, scale=math.sqrt(0.7)))

    utility = quad(integrand, -8, 8, epsabs=1e-13)[0]
    expected = technology.certainty_equivalent(slopes, salary, effort)
    assert -math.log(utility) / 1.3 == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_several_tasks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    tasks = 2 + seed % 2
    measured = [True] * tasks if seed % 3 else [True] * (tasks - 1) + [False]
    technology = random_technology(generator, tasks, measured)
    benefits = generator.normal(size=(1, tasks))
    solution = linear_equilibrium(technology, benefits)
    if all(measured):
        risk = technology.risk_aversion * technology.cost @ technology.noise
        matrix = np.eye(tasks) + risk
        assert solution.slope_sum == pytest.approx(np.linalg.solve(matrix, benefits[0]))
    indices = np.flatnonzero(measured)

    def surplus(x: np.ndarray) -> float:
        slopes = np.zeros(tasks)
        slopes[indices] = x
        kept = (benefits[0] - slopes) @ technology.best_effort(slopes)
        return -(technology.certainty_equivalent(slopes, 0.0) + float(kept))

    effort = minimize(
        lambda e: -technology.certainty_equivalent(solution.slope_sum, 0.0, e),
        np.zeros(tasks),
        tol=1e-10,
    ).x
    assert effort == pytest.approx(solution.effort, abs=1e-4)
    best = minimize(surplus, np.zeros(len(indices)), tol=1e-12)
    assert best.x == pytest.approx(solution.slope_sum[indices], abs=1e-5)
    assert -best.fun == pytest.approx(solution.surplus, abs=1e-8)


def test_unmeasurable_task() -> None:
    """As the noise of task 2 grows, its slope vanishes, and that of a substitute falls."""
    cost, benefits = np.array([[1.0, 0.5], [0.5, 1.0]]), np.array([[1.0, 1.0]])
    slopes = [
        linear_equilibrium(LinearTechnology(cost, np.diag([0.2, s]), 1.0), benefits).slope_sum
        for s in (0.2, 2.0, 20.0, 2e6)
    ]
    assert all(before[0] > after[0] for before, after in itertools.pairwise(slopes))
    limit = LinearTechnology(cost, np.diag([0.2, 1.0]), 1.0, None, [True, False])
    assert slopes[-1] == pytest.approx(linear_equilibrium(limit, benefits).slope_sum, abs=1e-5)
    assert slopes[-1][1] == pytest.approx(0.0, abs=1e-5)
    # What the principal gains by measured output the other task loses: its effort is below 0.
    assert limit.best_effort(slopes[-1])[1] < 0
    independent = LinearTechnology(np.eye(2), np.diag([0.2, 1.0]), 1.0, None, [True, False])
    full = LinearTechnology(np.eye(2), np.diag([0.2, 0.2]), 1.0)
    parts = [linear_equilibrium(each, benefits).slope_sum[0] for each in (independent, full)]
    assert parts[0] == pytest.approx(parts[1])  # without substitution nothing falls


@pytest.mark.cut(2)
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_common_agency(count: int) -> None:
    """Best-response iteration over slopes and salaries, by a numerical optimizer."""
    technology, benefits = one_task(1, 1, 1), np.ones((count, 1))
    low, high = 0.0, 4.0
    solution = linear_equilibrium(technology, benefits, (low, high))
    assert solution.slope_sum[0] == pytest.approx(count / (1 + count))
    assert cooperative_slopes(technology, benefits)[0] == pytest.approx(count / 2)
    offers = np.tile([0.3, 0.05], (count, 1))

    def loss(own: np.ndarray, others: np.ndarray) -> float:
        slope, salary = own + others
        effort = technology.best_effort(np.array([slope]))[0]
        utility = technology.certainty_equivalent(np.array([slope]), salary)
        accepted = min(max((utility - low) / (high - low), 0.0), 1.0)
        return -accepted * ((1 - own[0]) * effort - own[1])

    for _ in range(30):
        for i in range(count):
            others = offers.sum(0) - offers[i]
            best = minimize(loss, offers[i], args=(others,), tol=1e-12).x
            offers[i] = 0.5 * offers[i] + 0.5 * best
    assert offers[:, 0].sum() == pytest.approx(solution.slope_sum[0], abs=1e-4)
    assert offers[:, 0] == pytest.approx(solution.slopes[:, 0], abs=1e-4)
    assert offers[:, 1].sum() == pytest.approx(solution.salary, abs=1e-4)
    assert -loss(offers[0], offers[1:].sum(0)) == pytest.approx(solution.profit, abs=5e-5)


def test_three_principals_offer_half_of_what_they_would_together() -> None:
    technology, benefits = one_task(1, 1, 1), np.ones((3, 1))
    assert linear_equilibrium(technology, benefits).slope_sum[0] == pytest.approx(0.75)
    assert cooperative_slopes(technology, benefits)[0] == pytest.approx(1.5)


@pytest.mark.parametrize("seed", range(5))
def test_each_principal_responds_best_with_several_tasks(seed: int) -> None:
    """Numerically, no principal gains by other slopes; and the batch gives the same numbers."""
    generator = np.random.default_rng(100 + seed)
    measured = [True, True, seed % 2 == 0]
    technology = random_technology(generator, 3, measured)
    benefits = generator.normal(size=(2 + seed % 2, 3))
    solution = linear_equilibrium(technology, benefits)
    indices = np.flatnonzero(measured)
    for i, own in enumerate(solution.slopes):
        others = solution.slope_sum - own

        def loss(x: np.ndarray, i: int = i, others: np.ndarray = others) -> float:
            slopes = np.zeros(3)
            slopes[indices] = x
            together = slopes + others
            kept = (benefits[i] - slopes) @ technology.best_effort(together)
            return -(float(kept) + technology.certainty_equivalent(together, 0.0))

        best = minimize(loss, np.zeros(len(indices)), tol=1e-12)
        assert best.x == pytest.approx(own[indices], abs=1e-4)

    c, s = 0.7, 1.3  # scales, which the batch has apart from the matrices
    intrinsic = technology.intrinsic_effort
    assert intrinsic is not None
    batch = LinearBatch.of(technology.cost / c, technology.noise / s, intrinsic, measured)
    types = AgentTypes(*(torch.tensor(x) for x in (technology.risk_aversion, c, s)))
    everyone = torch.tensor(benefits.sum(0), dtype=torch.float32)
    slopes = batch.slope_sum(everyone, len(benefits), types.risk_cost)
    assert slopes.numpy() == pytest.approx(solution.slope_sum, abs=2e-4)
    effort = batch.best_effort(torch.tensor(solution.slope_sum, dtype=torch.float32), types)
    assert effort.numpy() == pytest.approx(solution.effort, abs=2e-4)
    for own, row in zip(solution.slopes, benefits, strict=True):
        given = torch.tensor(row, dtype=torch.float32)
        found = batch.principal_slopes(given, everyone, len(benefits), types.risk_cost)
        assert found.numpy() == pytest.approx(own, abs=2e-4)
        others = torch.tensor(solution.slope_sum - own, dtype=torch.float32)
        found = batch.best_response_slopes(given, others, types.risk_cost)
        assert found.numpy() == pytest.approx(own, abs=2e-4)


# --- other games --------------------------------------------------------------------------------


def test_limited_liability() -> None:
    best = limited_liability_contract(0.8, 0.5, 0.2, 2.0)
    assert (best.failure_wage, best.success_wage) == pytest.approx((0.0, 0.6667), abs=1e-4)
    assert best.rent == pytest.approx(0.3333, abs=1e-4)
    # Expected wage, subject to incentive compatibility and participation, wages at least 0.
    program = linprog([0.2, 0.8], A_ub=[[0.3, -0.3], [-0.2, -0.8]], b_ub=[-0.2, -0.2])
    assert program.x == pytest.approx([best.failure_wage, best.success_wage], abs=1e-9)
    assert 0.8 * 2.0 - program.fun == pytest.approx(best.profit, abs=1e-9)
    # Without the limit on wages the agent keeps nothing.
    free = linprog(
        [0.2, 0.8],
        A_ub=[[0.3, -0.3], [-0.2, -0.8]],
        b_ub=[-0.2, -0.2],
        bounds=[(None, None)] * 2,
    )
    assert free.fun == pytest.approx(0.2)
    assert limited_liability_contract(0.8, 0.5, 0.2, 1.0).success_wage == 0.0  # not worth it


def test_screening() -> None:
    menu = screening_menu(1.0, 1.5, 0.6)
    assert menu.quantities == pytest.approx((1.0, 0.197531), abs=1e-6)
    assert menu.rent == pytest.approx(0.098765, abs=1e-6)

    def constraints(x: np.ndarray) -> np.ndarray:
        q_low, q_high, t_low, t_high = x
        low, high = t_low - q_low, t_high - 1.5 * q_high
        return np.array([low, high, low - (t_high - q_high), high - (t_low - 1.5 * q_low)])

    best = minimize(
        lambda x: -(0.6 * (2 * math.sqrt(x[0]) - x[2]) + 0.4 * (2 * math.sqrt(x[1]) - x[3])),
        [0.5, 0.3, 0.9, 0.6],
        bounds=[(1e-6, None)] * 2 + [(None, None)] * 2,
        constraints={"type": "ineq", "fun": constraints},
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    assert best.x == pytest.approx([*menu.quantities, *menu.payments], abs=1e-3)
    assert -best.fun == pytest.approx(menu.profit, abs=1e-6)
    slack = constraints(np.array([*menu.quantities, *menu.payments]))
    # Participation of the costly type and incentives of the efficient type bind, no others.
    assert slack[1:3] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert slack[0] == pytest.approx(menu.rent)
    assert slack[3] > 0.1


def test_inspection() -> None:
    best = inspection_equilibrium(1.0, 3.0, 5.0, 1.0)
    assert (best.inspection, best.violation) == pytest.approx((0.25, 0.2))
    inspector = np.array([[-1.0, -1.0], [0.0, -5.0]])  # inspect, do not; comply, violate
    agent = np.array([[0.0, -3.0], [0.0, 1.0]])
    equilibria = list(nashpy.Game(inspector, agent).support_enumeration())
    assert len(equilibria) == 1
    rows, columns = equilibria[0]
    assert rows == pytest.approx([0.25, 0.75])
    assert columns == pytest.approx([0.8, 0.2])
    assert rows @ inspector @ columns == pytest.approx(best.inspector_payoff)


@pytest.mark.parametrize(
    ("bias", "count", "loss"),
    [(0.05, 3, 0.015926), (0.1, 2, 0.030833), (0.2, 2, 0.060833), (0.3, 1, 0.083333)],
)
def test_cheap_talk(bias: float, count: int, loss: float) -> None:
    best = cheap_talk_equilibrium(bias)
    assert len(best.boundaries) - 1 == count
    assert best.receiver_loss == pytest.approx(loss, abs=1e-6)
    middles = (best.boundaries[1:] + best.boundaries[:-1]) / 2
    pieces = list(itertools.pairwise(best.boundaries))
    losses = np.zeros(2)
    for (left, right), middle in zip(pieces, middles, strict=True):
        for k, shift in enumerate((0.0, bias)):
            losses[k] += quad(lambda x, m=middle, s=shift: (m - x - s) ** 2, left, right)[0]
    assert losses == pytest.approx([best.receiver_loss, best.sender_loss], abs=1e-12)
    # No state prefers another interval; one interval more has no increasing boundaries.
    for state in np.linspace(0.0, 1.0, 2001):
        own = np.searchsorted(best.boundaries[1:-1], state, side="right")
        distances = np.abs(middles - state - bias)
        assert distances[own] <= distances.min() + 1e-9
    more = np.arange(count + 2)
    boundaries = more / (count + 1) + 2 * bias * more * (more - count - 1)
    assert np.diff(boundaries).min() <= 0


@pytest.mark.parametrize(
    ("mean", "gain"), [(0.0, 0.398942), (0.5, 0.197797), (-0.5, 0.197797), (3.0, 0.000382)]
)
def test_deference(mean: float, gain: float) -> None:
    values = deference_values(mean, 1.0)
    assert values.gain == pytest.approx(gain, abs=1e-6)
    integral = quad(lambda u: max(u, 0.0) * norm.pdf(u, mean, 1.0), mean - 10, mean + 10)[0]
    assert values.defer == pytest.approx(integral, abs=1e-7)
    lower = quad(lambda u: min(u, 0.0) * norm.pdf(u, mean, 1.0), mean - 10, mean + 10)[0]
    expected = 0.9 * integral + 0.1 * lower
    assert deference_values(mean, 1.0, 0.1).defer == pytest.approx(expected, abs=1e-7)
