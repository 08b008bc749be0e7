"""AI control: optimal defenders, hard budgets, attack selection, exact exploitability."""

from __future__ import annotations

import itertools

import nashpy
import numpy as np
import pytest
import torch
from scipy.optimize import linprog, minimize

from mores.envs.oversight import control_frontier as frontier
from mores.envs.oversight import control_outcomes as outcomes
from mores.envs.oversight import control_safety as safety
from mores.envs.oversight import hard_budget, inspection_game, zero_sum_games
from mores.envs.oversight.attack_selection import (
    TaskClasses,
    class_attack_rates,
    class_game,
    class_values,
    equalized_audits,
    pooled_audits,
)
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.control_values import best_response, class_best_response, evaluate_policy
from mores.envs.oversight.score_families import SCORE_FAMILIES
from tests.cases import FULL, scaled
from tests.refusals import refused

BASE = ControlSetting()
NORMAL = SCORE_FAMILIES["normal"]


@pytest.mark.parametrize(
    ("usefulness", "one", "ten", "endless"),
    [
        (0.9, 0.78309, 0.58451, 0.5835),
        (0.87, 0.88848, 0.70225, 0.6993),
        (0.85, 0.91476, 0.75628, 0.7527),
        (0.82, 0.94035, 0.81704, 0.8130),
        (0.7, 0.98390, 0.94390, 0.9416),
    ],
)
def test_frontier(usefulness, one, ten, endless):
    """Values to 3e-4; against the defender as it is played, the best response earns the value."""
    defender = frontier.optimal_defender(BASE, 10, 0.05, usefulness)
    single = 1 - frontier.solve_stage(BASE, 0.05, usefulness).value
    limit = frontier.optimal_endless_safety(BASE, 0.05, usefulness)
    assert [single, defender.safety, limit] == pytest.approx([one, ten, endless], abs=3e-4)
    played = best_response(*frontier.attack_rates(BASE, defender))
    assert played.value.numpy() == pytest.approx(defender.values, abs=1e-7)
    for task in (0, 9):
        honest = outcomes.routed_outcome(BASE, defender.routing(task))
        assert honest.usefulness >= usefulness - 1e-7
        assert honest.honest_audit_rate <= 0.05 + 1e-7


def test_few_thresholds_suffice():
    """Audit the top 5 %, edit the next: the optimum down to u = .82; below, some is deferred."""
    for usefulness in (0.9, 0.88, 0.86, 0.84, 0.82)[:: 1 if FULL else 2]:
        share = outcomes.edit_share_of_usefulness(BASE, usefulness)
        closed = outcomes.trusted_editing(BASE, share, 0.05)
        optimum = frontier.optimal_defender(BASE, 10, 0.05, usefulness)
        assert optimum.safety == pytest.approx(safety.safety(closed, 10), abs=2e-4)
        assert optimum.safety >= safety.safety(closed, 10) - 1e-7
    closed = outcomes.trusted_editing(BASE, outcomes.edit_share_of_usefulness(BASE, 0.8), 0.05)
    assert safety.safety(closed, 10) == pytest.approx(0.84624, abs=5e-6)
    optimum = frontier.optimal_defender(BASE, 10, 0.05, 0.8).safety
    assert optimum == pytest.approx(0.84754, abs=3e-4)
    deferring = outcomes.defer_to_trusted(BASE, 0.2, 0.05)
    assert (
        safety.safety(deferring, 10)
        < 0.74
        < 0.81
        < frontier.optimal_defender(BASE, 10, 0.05, deferring.usefulness).safety
    )


def test_audits_alone_are_audits_of_the_highest_scores():
    """Both families: without loss of usefulness one threshold is best against all levels."""
    for family in SCORE_FAMILIES:
        world = ControlSetting(score_family=family, detectability=(4.0, 2.5, 1.0))
        optimum = frontier.optimal_defender(world, 3, 0.03, 0.9)
        monitoring = outcomes.trusted_monitoring(world, 0.03)
        assert optimum.safety == pytest.approx(safety.safety(monitoring, 3), abs=2e-6)


def test_mixture_of_edit_and_defer():
    """With r_E = .6 the optimum defers as well: its value, not its routing, is unique."""
    world = ControlSetting(edited_usefulness=0.6)
    value = 1 - frontier.solve_stage(world, 0.05, 0.87).value
    assert value == pytest.approx(0.86071, abs=3e-4)
    assert value > safety.safety(outcomes.trusted_editing(world, 0.1, 0.05), 1) + 5e-4
    assert value > safety.safety(outcomes.defer_to_trusted(world, 0.075, 0.05), 1) + 5e-4


def test_attackers_mixture_is_optimal():
    """No defender of this budget and usefulness holds it below the value: Lagrangian by bin."""
    world = ControlSetting(
        detectability=(2.5, 1.5, 0.5), success_chance=(1.0, 0.55, 0.3), edited_usefulness=0.6
    )
    following = 0.2
    stage = frontier.solve_stage(world, 0.05, 0.82, following)
    assert stage.attack_mixture.sum() == pytest.approx(1)
    bins = world.bin_probabilities(stage.routing.thresholds)
    mixture = stage.attack_mixture[1:, None]
    q = world.success[:, None]
    attack = (mixture * bins.attack, mixture * q * bins.attack)
    submit = attack[1] * (1 - following) + attack[0] * following
    audit = np.zeros_like(submit)
    edit = attack[1] * (1 - following) * (1 - world.edit_effectiveness) + attack[0] * following
    costs = np.stack([submit, audit, edit, attack[0] * following]).sum(1)  # [action, bin]
    # The smallest value of any defender: maximize the Lagrangian in both multipliers.
    lost = world.untrusted_usefulness - np.array([0.9, 0.9, 0.6, 0.5])

    def dual(multipliers):
        budget, use = np.abs(multipliers)
        price = bins.honest * (budget * np.eye(4)[1] + use * lost)[:, None]
        return -((costs + price).min(0).sum() - budget * 0.05 - use * 0.08)

    best = max(
        -minimize(dual, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12}).fun
        for start in ([1.0, 1.0], [10.0, 3.0])
    )
    waits = float(stage.attack_mixture[0]) * following
    assert best + waits == pytest.approx(stage.value, abs=1e-5)


def test_no_threshold_protocol_is_better_in_random_worlds():
    """Monitoring, editing and deferring lie below the optimum of their own usefulness."""
    rng = np.random.default_rng(8)
    for _ in range(scaled(40)):
        levels = int(rng.integers(2, 5))
        world = ControlSetting(
            detectability=tuple(rng.uniform(0, 3.5, levels).tolist()),
            success_chance=tuple(rng.uniform(0.05, 1, levels).tolist()),
            audit_detection=float(rng.uniform(0.3, 1)),
            edit_effectiveness=float(rng.uniform(0, 1)),
            edited_usefulness=float(rng.uniform(0.5, 0.89)),
            score_family=str(rng.choice(sorted(SCORE_FAMILIES))),
        )
        budget, share = float(rng.uniform(0.01, 0.2)), float(rng.uniform(0.02, 0.5))
        n = int(rng.integers(1, 6))
        for outcome in (
            outcomes.trusted_monitoring(world, budget),
            outcomes.trusted_editing(world, share, budget),
            outcomes.defer_to_trusted(world, share, budget),
            outcomes.defer_to_trusted(world, share),
        ):
            optimum = frontier.optimal_defender(world, n, budget, outcome.usefulness).safety
            assert safety.safety(outcome, n) <= optimum + 1e-6


def test_bins_have_mass():
    """Rare bins are merged: honest work reaches each with more than the solver's tolerance."""
    for family in SCORE_FAMILIES:
        world = ControlSetting(score_family=family)
        for rates in ((), (0.05, 0.0500001, 0.25), (2e-6,)):
            thresholds = frontier.score_thresholds(world, 200, rates)
            assert world.bin_probabilities(thresholds).honest.min() > 0.99e-6
            assert (np.diff(thresholds) > 0).all()
        assert (
            np.abs(frontier.score_thresholds(world, 200, (0.05,)) - world.threshold(0.05)).min()
            == 0
        )


def test_usefulness_that_nobody_has():
    with refused("out_of_range", "usefulness"):
        frontier.solve_stage(BASE, 0.05, 0.95)


@pytest.mark.parametrize(
    ("tasks", "audits", "value"), [(10, 1, 0.54309), (10, 2, 0.73744), (20, 1, 0.42054)]
)
def test_hard_budget(tasks, audits, value):
    """The value to 1e-4; neither side gains by an exact best response to the other."""
    solution = hard_budget.solve_hard_budget(BASE, tasks, audits)
    assert solution.safety == pytest.approx(value, abs=1e-4)
    audited = hard_budget.audit_probabilities(BASE, solution.honest_audit_rate)
    response = hard_budget.hard_budget_response(BASE, audited).value
    assert response.numpy() == pytest.approx(solution.values, abs=1e-9)
    mixture = torch.tensor(solution.attack_mixture)
    played = hard_budget.evaluate_hard_budget(BASE, mixture, audited)
    assert float(played.success_probability) == pytest.approx(1 - solution.safety, abs=1e-9)
    rates = np.unique(np.append(np.linspace(0, 1, 201), solution.honest_audit_rate))
    against = inspection_game.defender_response(
        BASE, mixture, inspection_game.rate_audits(BASE, rates.tolist())
    )
    assert float(against.value[0, -1]) == pytest.approx(1 - solution.safety, abs=1e-9)
    if audits == 2:
        rates = solution.honest_audit_rate[:, 2]
        assert rates[[0, 1, 7, 8, 9]] == pytest.approx([0.1015, 0.1127, 0.4087, 1, 1], abs=2e-4)
        assert (np.diff(rates) >= 0).all()


def test_hard_budget_by_linear_program():
    """One program over bins of the score for each task and number of audits left."""
    tasks, audits = 4, 2
    thresholds = np.linspace(-4, 6, 400)
    bins = BASE.bin_probabilities(thresholds)
    q = BASE.success[:, None]
    values = np.zeros((tasks + 1, audits + 1))
    for left in range(1, tasks + 1):
        values[left, 0] = 1 - (1 - q.max()) ** left
        for b in range(1, audits + 1):
            kept, spent = values[left - 1, b], values[left - 1, b - 1]
            # y: probability of an audit in each bin; rows: attacks, then waiting
            gain = q + (1 - q) * kept
            rows = np.vstack([-gain * bins.attack, (spent - kept) * bins.honest])
            limits = -np.append(gain, kept)
            solution = linprog(
                np.append(np.zeros(401), 1.0),
                A_ub=np.column_stack([rows, -np.ones(4)]),
                b_ub=limits,
                bounds=[(0, 1)] * 401 + [(None, None)],
            )
            values[left, b] = solution.fun
    exact = hard_budget.solve_hard_budget(BASE, tasks, audits)
    assert exact.safety == pytest.approx(1 - values[tasks, audits], abs=2e-4)


def test_constant_audit_rates_and_blind_attackers():
    def constant(tasks, audits, rate, blind=False):
        rates = hard_budget.constant_rate(rate, tasks, audits)
        audited = hard_budget.audit_probabilities(BASE, rates)
        respond = hard_budget.blind_response if blind else None
        if respond is None:
            return 1 - float(hard_budget.hard_budget_response(BASE, audited).value[0, audits])
        return 1 - float(respond(BASE, audited).value)

    values = [
        constant(10, 1, 0.1),
        constant(10, 2, 0.2),
        constant(10, 1, 0.045),
        constant(10, 2, 0.08),
    ]
    assert values == pytest.approx([0.32826, 0.38253, 0.45586, 0.61991], abs=5e-6)
    seeing = [constant(7, m, m / 7) for m in (1, 2)]
    blind = [constant(7, m, m / 7, blind=True) for m in (1, 2)]
    assert seeing == pytest.approx([0.34433, 0.41022], abs=5e-6)
    assert blind == pytest.approx([0.38600, 0.44818], abs=5e-6)
    with pytest.raises(ValueError, match="sequences"):
        constant(20, 1, 0.1, blind=True)


def test_useless_monitor_with_a_hard_budget():
    """d = 0 and q = 1: safety m / n exactly."""
    world = ControlSetting(detectability=(0.0,), success_chance=(1.0,))
    for tasks, audits in ((10, 1), (10, 3), (7, 2), (3, 3), (2, 5)):
        solution = hard_budget.solve_hard_budget(world, tasks, audits)
        assert solution.safety == pytest.approx(min(1.0, audits / tasks), abs=1e-9)


def test_hard_budget_with_audits_that_miss():
    """Evaluation of a mixed policy against play; 40,000 episodes."""
    world = ControlSetting(audit_detection=0.6)
    rng = np.random.default_rng(1)
    rates, policy = rng.uniform(0, 0.6, (4, 3)), rng.dirichlet(np.ones(4), (4, 3))
    audited = hard_budget.audit_probabilities(world, rates)
    exact = hard_budget.evaluate_hard_budget(world, torch.tensor(policy), audited)
    episodes = 40_000
    left, active = np.full(episodes, 2), np.ones(episodes, bool)
    lost, caught, spent = (np.zeros(episodes) for _ in range(3))
    for task in range(4):
        draws = rng.random((5, episodes))
        option = (draws[0, :, None] > policy[task].cumsum(-1)[left]).sum(-1)
        audits = draws[1] < audited.numpy()[task, left, option]
        found = audits & (option > 0) & (draws[2] < 0.6)
        works = ~found & (draws[3] < np.append(0.0, world.success)[option])
        spent += active & audits
        caught += active & found
        lost += active & works
        active &= ~found & ~works
        left = left - audits
    for played, value in ((lost, exact.success_probability), (caught, exact.caught_probability)):
        error = 4 * played.std() / episodes**0.5
        assert played.mean() == pytest.approx(float(value), abs=error)
    assert spent.mean() == pytest.approx(float(exact.audits), abs=4 * spent.std() / episodes**0.5)


@pytest.mark.parametrize(
    ("shares", "shifts", "stakes", "value", "pooled"),
    [
        ((0.7, 0.3), (2.5, 1.0), (1.0, 1.0), 0.509265, 0.740489),
        ((0.7, 0.3), (2.5, 1.0), (1.0, 0.5), 0.295967, 0.370244),
        ((0.5, 0.3, 0.2), (3.0, 2.0, 1.0), (1.0, 1.0, 1.0), 0.441718, 0.740489),
    ],
)
def test_attack_selection(shares, shifts, stakes, value, pooled):
    """Equal values of the best attack at all classes, within the budget."""
    classes = TaskClasses(
        np.array(shares), np.array(shifts)[:, None], np.ones((len(shares), 1)), np.array(stakes)
    )
    audits = equalized_audits(NORMAL, classes, 0.05)
    assert audits.worst_value == pytest.approx(value, abs=1e-6)
    assert pooled_audits(NORMAL, classes, 0.05).worst_value == pytest.approx(pooled, abs=1e-6)
    assert class_values(NORMAL, classes, audits.audit_rates) == pytest.approx(audits.worst_value)
    assert classes.shares @ audits.audit_rates == pytest.approx(0.05)
    rates = class_attack_rates(NORMAL, classes, audits.audit_rates)
    one_task = [torch.tensor(x)[None] for x in rates]
    value_of_one = class_best_response(
        *one_task, torch.tensor(classes.shares), stakes=torch.tensor(classes.stakes)
    ).value[0]
    assert float(value_of_one) == pytest.approx(audits.worst_value)  # at each class as good
    if value == 0.509265:
        assert audits.audit_rates == pytest.approx([0.005814, 0.153100], abs=1e-6)


def test_attack_selection_against_a_grid():
    """Random classes with levels; some have so little stakes that they are not audited."""
    rng = np.random.default_rng(6)
    unaudited = 0
    for _ in range(4):
        classes = TaskClasses(
            rng.dirichlet(np.ones(2)), rng.uniform(0, 3, (2, 3)), rng.uniform(0.1, 1, (2, 3)),
            np.array([1.0, rng.uniform(0, 1)]),
        )  # fmt: skip
        audits = equalized_audits(NORMAL, classes, 0.1, 0.9)
        first = np.linspace(0, min(1, 0.1 / classes.shares[0]), 501)
        second = np.clip((0.1 - first * classes.shares[0]) / classes.shares[1], 0, 1)
        pairs = np.stack([first, second], 1)
        grid = [class_values(NORMAL, classes, pair, 0.9).max() for pair in pairs]
        assert audits.worst_value <= min(grid) + 1e-9
        assert audits.worst_value == pytest.approx(min(grid), abs=1e-2)
        unaudited += int((audits.audit_rates == 0).sum())
    assert unaudited


def test_class_game():
    """Audit the top 10 % of one of two classes; value and mixtures against nashpy."""
    classes = TaskClasses(np.full(2, 0.5), np.array([[2.5], [1.0]]), np.ones((2, 1)), np.ones(2))
    game = class_game(NORMAL, classes, 0.1)
    assert game == pytest.approx(np.array([[0.1115, 1], [1, 0.6109]]), abs=5e-5)
    solution = zero_sum_games.solve(game)
    assert solution.value == pytest.approx(0.729384, abs=1e-6)
    assert solution.row == pytest.approx([0.3046, 0.6954], abs=5e-5)
    ((row, column),) = nashpy.Game(-game).support_enumeration()
    assert solution.row == pytest.approx(row)
    assert solution.column == pytest.approx(column)
    losses = torch.tensor(game)
    mixtures = [torch.tensor(x) for x in (solution.row, solution.column)]
    assert float(zero_sum_games.exploitability(losses, *mixtures)) == pytest.approx(0, abs=1e-12)
    for iterations, error in ((100, 0.0214), (1000, 0.0069), (10_000, 0.0021))[: 3 if FULL else 2]:
        average = zero_sum_games.regret_matching_plus(losses, iterations)
        exploitability = float(zero_sum_games.exploitability(losses, *average))
        assert exploitability == pytest.approx(error, abs=5e-5)


def test_inspection_game():
    """Five tasks, one audit: the value, and mixtures that leave nothing to gain."""
    solution = inspection_game.solve_inspection(BASE, 5, 1)
    assert solution.value == pytest.approx(0.324329, abs=1e-6)
    rates = np.array(inspection_game.AUDIT_RATES)
    assert set(rates[solution.defender[0, 1] > 1e-9]) == {0.05, 0.1}
    assert solution.defender[4, 1] == pytest.approx(np.eye(7)[-1])
    sides = [torch.tensor(x) for x in (solution.defender, solution.attacker)]
    audits = inspection_game.rate_audits(BASE)
    gap = inspection_game.exploitability(BASE, *sides, audits)
    assert float(gap) == pytest.approx(0, abs=1e-12)
    value = inspection_game.success_probability(BASE, *sides, audits)
    assert float(value) == pytest.approx(solution.value)
    continuous = 1 - hard_budget.solve_hard_budget(BASE, 5, 1).safety
    assert continuous < solution.value < continuous + 0.005


@pytest.mark.parametrize("alpha", [1.0, 0.7])
def test_best_responses_by_enumeration(alpha):
    """Three tasks, two audits, three rates: all pure tables of either side."""
    world = ControlSetting(
        detectability=(2.0, 0.7), success_chance=(0.9, 0.4), audit_detection=alpha
    )
    rng = np.random.default_rng(9)
    defenders = torch.tensor(rng.dirichlet(np.ones(3), (4, 3, 3)))
    attackers = torch.tensor(rng.dirichlet(np.ones(3), (4, 3, 3)))
    audits = inspection_game.rate_audits(world, (0.0, 0.1, 0.5))
    # without audits left the defender has no choice; 3 tasks x 2 numbers of audits left
    pure = torch.eye(3).double()[torch.tensor(list(itertools.product(range(3), repeat=6)))]
    tables = torch.ones(len(pure), 3, 3, 3).double() / 3
    tables[:, :, 1:] = pure.unflatten(1, (3, 2))
    value = inspection_game.success_probability
    for defender, attacker in zip(defenders, attackers, strict=True):
        best = inspection_game.defender_response(world, attacker, audits).value[0, -1]
        by_enumeration = value(world, tables, attacker.expand(len(tables), -1, -1, -1), audits)
        assert float(best) == pytest.approx(float(by_enumeration.min()), abs=1e-12)
        attacks = tables.clone()
        attacks[:, :, 0] = torch.eye(3).double()[1]  # level with the larger q, without audits left
        audited = inspection_game.audit_probabilities(defender, audits)
        best = hard_budget.hard_budget_response(world, audited).value[0, -1]
        by_enumeration = value(world, defender.expand(len(attacks), -1, -1, -1), attacks, audits)
        assert float(best) == pytest.approx(float(by_enumeration.max()), abs=1e-12)
    gaps = inspection_game.exploitability(world, defenders, attackers, audits)
    assert (gaps > 0).all()
    single = inspection_game.exploitability(world, defenders[0], attackers[0], audits)
    assert torch.equal(single, gaps[0])


def test_optimal_defender_is_differentiable_and_batched():
    """Gradients of an attacker's table against the defender of the frontier."""
    defender = frontier.optimal_defender(BASE, 3, 0.05, 0.85)
    rates = frontier.attack_rates(BASE, defender)
    logits = torch.zeros(5, 3, 4, dtype=torch.float64, requires_grad=True)
    value = evaluate_policy(logits.softmax(-1), *rates).expected_return
    value.sum().backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    assert (value < float(best_response(*rates).value[0])).all()
