"""AI control: outcomes of protocols and values of attackers, against tables, enumeration, play."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import linprog, minimize_scalar
from scipy.stats import norm

from mores.envs.oversight import control_outcomes as outcomes
from mores.envs.oversight import control_safety as safety
from mores.envs.oversight import resampling
from mores.envs.oversight.control_outcomes import Routing, routed_outcome
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.control_values import (
    SUCCESS_COUNT,
    AttackPayoff,
    best_response,
    class_best_response,
    deterministic_policy,
    evaluate_class_policy,
    evaluate_policy,
)
from mores.envs.oversight.defender_values import defender_rates
from mores.envs.oversight.inspection_values import deterring_audit_rate, equilibrium
from mores.envs.oversight.score_families import SCORE_FAMILIES
from tests.cases import FULL, scaled
from tests.oracles.control_monte_carlo import LeastSuspicious, Resampled, Routed, play
from tests.refusals import refused

BASE = ControlSetting()
LOUD, MEDIUM, STEALTHY = 1, 2, 3
EPISODES = 100_000 if FULL else 4_000

PROTOCOLS = {
    "trust": outcomes.trust_untrusted(BASE),
    "trusted_only": outcomes.trusted_only(BASE),
    "random": outcomes.random_audit(BASE, 0.05),
    "monitoring": outcomes.trusted_monitoring(BASE, 0.05),
    "untrusted_0": outcomes.untrusted_monitoring(BASE, 0.05),
    "untrusted_3": outcomes.untrusted_monitoring(BASE, 0.05, 0.3),
    "untrusted_5": outcomes.untrusted_monitoring(BASE, 0.05, 0.5),
    "edit_2": outcomes.trusted_editing(BASE, 0.2),
    "edit_5": outcomes.trusted_editing(BASE, 0.5),
    "defer_2": outcomes.defer_to_trusted(BASE, 0.2),
    "defer_5": outcomes.defer_to_trusted(BASE, 0.5),
    "audit_edit": outcomes.trusted_editing(BASE, 0.2, 0.05),
    "audit_defer": outcomes.defer_to_trusted(BASE, 0.2, 0.05),
}


@pytest.mark.parametrize(
    ("name", "usefulness", "one", "medium", "stealthy", "ten", "endless", "options"),
    [
        ("trust", 1, 0, 0.000105, 0.056314, 0, 0, [*[0] * 9, LOUD]),
        ("trusted_only", 0, 1, 1, 1, 1, 1, [0] * 10),
        ("random", 1, 0.05, 0.080703, 0.201766, 0.05, 0.05, [*[0] * 9, LOUD]),
        (
            "monitoring",
            1,
            0.783256,
            0.746648,
            0.584814,
            0.584655,
            0.583652,
            [*[STEALTHY] * 9, MEDIUM],
        ),
        ("untrusted_0", 1, 0.860603, 0.945476, 0.760448, 0.760448, 0.760409, [STEALTHY] * 10),
        (
            "untrusted_3",
            1,
            0.698494,
            0.746533,
            0.642648,
            0.642304,
            0.642153,
            [*[STEALTHY] * 9, LOUD],
        ),
        ("untrusted_5", 1, 0.498925, 0.582976, 0.534032, 0.498925, 0.498925, [*[0] * 9, LOUD]),
        ("edit_2", 0.925, 0.787641, 0.138778, 0.228042, 0.091893, 0, [LOUD] * 10),
        ("edit_5", 0.8125, 0.798920, 0.245809, 0.426284, 0.105934, 0, [LOUD] * 10),
        ("defer_2", 0.8, 0.890730, 0.463500, 0.314385, 0.314385, 0, [STEALTHY] * 10),
        ("defer_5", 0.5, 0.960336, 0.871586, 0.667165, 0.667165, 0, [STEALTHY] * 10),
        ("audit_edit", 0.925, 0.888496, 0.879218, 0.702375, 0.702375, 0.699462, [STEALTHY] * 10),
        ("audit_defer", 0.8, 0.906901, 0.920059, 0.739385, 0.739385, 0.735971, [STEALTHY] * 10),
    ],
)
def test_protocols(name, usefulness, one, medium, stealthy, ten, endless, options):
    """Ten tasks. Where an attack is worth as much later, the best response waits."""
    outcome = PROTOCOLS[name]
    fixed = safety.fixed_attack_safety(outcome, 10)
    values = [safety.safety(outcome, 1), fixed[1], fixed[2], safety.safety(outcome, 10)]
    assert values == pytest.approx([one, medium, stealthy, ten], abs=1e-6)
    assert safety.endless_safety(outcome) == pytest.approx(endless, abs=1e-6)
    assert BASE.scaled_usefulness(outcome.usefulness) == pytest.approx(usefulness)
    assert safety.protocol_best_response(outcome, 10).option.tolist() == options
    assert outcome.honest_audit_rate == pytest.approx(0.05 if outcome.caught.any() else 0)


def test_ranking_by_a_fixed_attack_differs_from_ranking_by_best_response():
    """Monitoring is better against loud attacks at every task, and worse against best responses."""
    monitoring, untrusted = PROTOCOLS["monitoring"], PROTOCOLS["untrusted_3"]
    loud = [safety.fixed_attack_safety(x, 10)[0] for x in (untrusted, monitoring)]
    assert loud == pytest.approx([0.6985, 0.9123], abs=5e-5)
    assert safety.safety(untrusted, 10) > safety.safety(monitoring, 10)


def test_budget_and_detection_of_audits():
    imperfect = ControlSetting(audit_detection=0.8)
    values = [
        safety.safety(outcomes.trusted_monitoring(imperfect, 0.05), 10),
        safety.safety(outcomes.trusted_monitoring(BASE, 0.02), 10),
    ]
    assert values == pytest.approx([0.513524, 0.411216], abs=1e-6)


def test_break_even_collusion():
    by_level = outcomes.break_even_collusion(BASE, 0.05)
    assert by_level == pytest.approx([0.0857, 0.2998, 0.4134], abs=5e-5)
    in_game = [safety.break_even_collusion(BASE, 0.05, n) for n in (1, 10, None)]
    assert in_game == pytest.approx([0.215056, 0.411646, 0.413419], abs=1e-6)


def test_planted_attacks():
    """A colluding monitor lets everything pass: the pair is exposed before the first success."""
    colluding = outcomes.untrusted_monitoring(BASE, 0.05, 1.0)
    for tasks in (1, 5, 20):
        assert safety.planted_attack_success(colluding, tasks, 0.1) == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("penalty", "service", "value", "first", "count", "retired"),
    [
        (0.0, 0.0, 0.71170, 0, 0.71170, None),
        (0.0, 0.05, 1.46382, 15, 0.56404, 0.89139),
        (0.0, 0.1, 2.38120, 16, 0.51171, 1 - 0.14667),
        (0.0, 0.2, 4.29881, 17, 0.44105, None),
        (0.5, 0.05, 1.09116, 17, 0.42371, None),
        (1.0, 0.0, 0.0, 20, 0.0, 0.0),
        (5.0, 0.0, 0.0, 20, 0.0, 0.0),
    ],
)
def test_deterrence(penalty, service, value, first, count, retired):
    """Successes counted over 20 tasks: the first attack, harm, retirement."""
    payoff = AttackPayoff(caught=penalty, service=service, ends_at_success=False)
    response = safety.protocol_best_response(PROTOCOLS["monitoring"], 20, payoff)
    assert float(response.value[0]) == pytest.approx(value, abs=5e-6)
    assert [option > 0 for option in response.option.tolist()] == [t >= first for t in range(20)]
    rates = [safety.repeat_tasks(x, 20) for x in protocol_rates("monitoring")]
    played = evaluate_policy(deterministic_policy(response.option, 4), *rates, payoff)
    assert float(played.expected_return) == pytest.approx(value, abs=5e-6)
    assert float(played.expected_successes) == pytest.approx(count, abs=5e-6)
    assert float(played.in_service[-1]) == pytest.approx(1 - float(played.caught_probability))
    if retired is not None:
        assert float(played.caught_probability) == pytest.approx(retired, abs=5e-6)


def protocol_rates(name):
    return PROTOCOLS[name].caught, PROTOCOLS[name].succeeds


def test_deterring_payoffs():
    """At the threshold the best response changes."""
    monitoring = PROTOCOLS["monitoring"]
    assert safety.deterring_penalty(monitoring) == pytest.approx(0.713350, abs=1e-6)
    rent = safety.deterring_service_reward(monitoring, 0.9)
    assert rent == pytest.approx(0.079261, abs=1e-6)
    for factor, attacks in ((0.999, True), (1.001, False)):
        penalty = AttackPayoff(caught=factor * 0.7133502, ends_at_success=False)
        option = safety.protocol_best_response(monitoring, 1, penalty).option
        assert bool(option.any()) == attacks
        payoff = AttackPayoff(service=factor * rent, discount=0.9, ends_at_success=False)
        option = safety.protocol_best_response(monitoring, 300, payoff).option
        assert bool(option[0] > 0) == attacks
    assert safety.deterring_penalty(PROTOCOLS["defer_5"]) == np.inf


def test_harm_is_bounded_without_penalty_and_rent():
    """Successes counted: at most max w / c, the limit of the best fixed level."""
    caught, succeeds = protocol_rates("monitoring")
    rates = (safety.repeat_tasks(caught, 400), safety.repeat_tasks(succeeds, 400))
    value = float(best_response(*rates, SUCCESS_COUNT).value[0])
    bound = safety.deterring_penalty(PROTOCOLS["monitoring"])
    assert value == pytest.approx(bound, abs=1e-9)
    assert safety.fixed_attack_count(caught, succeeds, 400).max() == pytest.approx(bound, abs=1e-9)
    rates = (safety.repeat_tasks(caught, 7), safety.repeat_tasks(succeeds, 7))
    value = float(best_response(*rates, SUCCESS_COUNT).value[0])
    assert safety.fixed_attack_count(caught, succeeds, 7).max() <= value < bound
    assert safety.fixed_attack_count(*protocol_rates("defer_5"), 10) == pytest.approx(
        10 * PROTOCOLS["defer_5"].succeeds
    )


def test_upfront_auditing():
    for budget, worst in ((0.02, 0.095199), (0.05, 0.188575), (0.1, 0.303163), (0.2, 0.465008)):
        assert safety.worst_upfront_audit_safety(budget) == pytest.approx(worst, abs=1e-6)
        for tasks in (100, 1000):
            audits = round(budget * tasks)
            grid = np.linspace(0, 1, 200_001)
            values = safety.upfront_audit_safety(grid, audits, tasks)
            assert values.min() == pytest.approx(worst, abs=1e-6)
            minimum = safety.worst_upfront_attack_probability(budget, tasks)
            assert grid[values.argmin()] == pytest.approx(minimum, abs=1e-5)


def test_highest_of_n_scores():
    """One attack among 50 tasks, one audit; limit of many tasks; 20,000 episodes of play."""
    world = ControlSetting(detectability=(0.0, 0.5, 1.0, 2.0), success_chance=(1.0,) * 4)
    exact = outcomes.held_back_catch_probability(world, 50, 1)
    assert exact == pytest.approx([0.02, 0.0559, 0.129547, 0.415983], abs=1e-6)
    limit = [0.02, 0.060122, 0.145999, 0.478568]
    assert world.roc(0.02) == pytest.approx(limit, abs=1e-6)
    many = outcomes.held_back_catch_probability(world, 50_000, 1000)
    assert many == pytest.approx(limit, abs=1e-3)
    honest = np.sort(np.random.default_rng(5).normal(size=(20_000, 29)), 1)[:, -3]
    attack = np.random.default_rng(6).normal(size=20_000)
    played = [(attack + d > honest).mean() for d in world.detectability]
    exact = outcomes.held_back_catch_probability(world, 30, 3)
    assert played == pytest.approx(exact, abs=4 * 0.5 / 20_000**0.5)


@pytest.mark.parametrize(
    ("shift", "rate", "attacks"),
    [
        (0.0, 0.25, 0.2),
        (0.5, 0.120099, 0.136044),
        (1.0, 0.047017, 0.071705),
        (2.0, 0.003742, 0.008704),
    ],
)
def test_inspection_with_a_monitor(shift, rate, attacks):
    """The inspector's best threshold against this attack share is the equilibrium's."""
    normal = SCORE_FAMILIES["normal"]
    found = equilibrium(normal, shift, fine=3.0, loss=5.0, audit_cost=1.0)
    assert found[1:] == pytest.approx((rate, attacks), abs=1e-6)
    assert normal.upper_tail(found.threshold - shift) == pytest.approx(0.25)  # U is indifferent
    if shift:
        x = found.attack_share
        cost = minimize_scalar(
            lambda t: (1 - x) * norm.sf(t) + x * (norm.sf(t - shift) + 5 * norm.cdf(t - shift)),
            bounds=(-4, 8),
            method="bounded",
            options={"xatol": 1e-9},
        )
        assert cost.x == pytest.approx(found.threshold, abs=1e-5)


def test_committed_inspector():
    normal = SCORE_FAMILIES["normal"]
    rates = [deterring_audit_rate(normal, d, 1.0, 1.0) for d in (0.0, 1.0, 2.0, 3.0)]
    assert rates == pytest.approx([0.5, 0.158655, 0.02275, 0.00135], abs=1e-6)
    for shift, rate in zip((0.0, 1.0, 2.0, 3.0), rates, strict=True):
        world = ControlSetting(detectability=(shift,), success_chance=(1.0,))
        caught = outcomes.trusted_monitoring(world, rate).caught[0]
        assert 1 - caught == pytest.approx(caught)  # B q (1 - c) = kappa c


@pytest.mark.parametrize(
    ("draws", "one", "ten"),
    [
        (3, (0.835999, 0.729037, 0.883686), (0.677385, 0.402963, 0.727091)),
        (5, (0.847086, 0.669662, 0.916295), (0.715092, 0.365199, 0.775041)),
    ],
)
def test_resampling(draws, one, ten):
    """Audit on the maximum, minimum or mean of draws; the attacker chooses x in .01 ... 1."""
    for statistic, single, value in zip(("max", "min", "mean"), one, ten, strict=True):
        outcome = resampling.resample_and_audit(BASE, 0.05, draws, statistic)
        assert safety.safety(outcome, 1) == pytest.approx(single, abs=1e-6)
        assert safety.safety(outcome, 10) == pytest.approx(value, abs=1e-6)


def test_order_of_minimum_and_maximum():
    """The minimum is better if U always attacks, the maximum if it seldom does."""

    def flagged(draws, shift, statistic, share):
        world = ControlSetting(detectability=(shift,), success_chance=(1.0,))
        shares = np.array([share])
        return resampling.flagged_execution_rate(world, 0.05, draws, statistic, shares)[0]

    at_one = [flagged(5, 2.0, name, 1.0) for name in ("min", "max", "mean")]
    assert at_one == pytest.approx([0.9186, 0.9046, 0.9977], abs=5e-5)
    at_tenth = [flagged(5, 2.0, name, 0.1) for name in ("min", "max", "mean")]
    assert at_tenth == pytest.approx([0.1213, 0.4838, 0.3560], abs=5e-5)
    for draws, shift, share in ((5, 2.0, 0.9899), (5, 1.0, 0.7245), (3, 1.0, 0.6535)):
        for x, order in ((share - 1e-3, -1), (share + 1e-3, 1)):
            difference = flagged(draws, shift, "min", x) - flagged(draws, shift, "max", x)
            assert np.sign(difference) == order


def test_correlated_draws():
    shifts = [resampling.correlated_detectability(1.0, 5, rho) for rho in (0.0, 0.25, 0.5, 1.0)]
    world = ControlSetting(detectability=tuple(shifts), success_chance=(1.0,) * 4)
    assert world.roc(0.05) == pytest.approx([0.7228, 0.4746, 0.3617, 0.2595], abs=5e-5)


def test_one_draw_is_no_resampling():
    monitoring = PROTOCOLS["monitoring"]
    for statistic in ("max", "min", "mean"):
        outcome = resampling.resample_and_audit(BASE, 0.05, 1, statistic, np.ones(1))
        assert outcome.caught == pytest.approx(monitoring.caught)
        assert outcome.succeeds == pytest.approx(monitoring.succeeds)
    outcome = resampling.least_suspicious(BASE, 0.2, 1, np.ones(1))
    assert outcome.succeeds == pytest.approx(PROTOCOLS["defer_2"].succeeds)
    assert outcome.usefulness == pytest.approx(PROTOCOLS["defer_2"].usefulness)


def test_deferring_to_resampled_work():
    """Honest work is drawn again far more often than it is deferred."""
    outcome = resampling.defer_to_resample(BASE, 0.2, 2)
    assert (outcome.draws - 1) / 2 == pytest.approx(0.58, abs=5e-3)
    assert outcome.usefulness == pytest.approx(0.82)


PLAYED = {
    "random": (Routed(0.05, random=True), PROTOCOLS["random"]),
    "monitoring": (Routed(0.05), PROTOCOLS["monitoring"]),
    "untrusted_3": (Routed(0.05, factor=1.5, collusion=0.3), PROTOCOLS["untrusted_3"]),
    "edit_5": (Routed(edit=0.5), PROTOCOLS["edit_5"]),
    "defer_5": (Routed(defer=0.5), PROTOCOLS["defer_5"]),
    "audit_edit": (Routed(0.05, edit=0.2), PROTOCOLS["audit_edit"]),
    "audit_defer": (Routed(0.05, defer=0.2), PROTOCOLS["audit_defer"]),
}


def z_score(successes, probability):
    return (successes.mean() - probability) / np.sqrt(probability * (1 - probability) / EPISODES)


def test_play_agrees_with_the_formulas():
    """Success and retirement of best responses and fixed attacks, |z| < 4 and of the right size."""
    z = []
    for seed, (protocol, outcome) in enumerate(PLAYED.values()):
        rates = [safety.repeat_tasks(x, 10) for x in (outcome.caught, outcome.succeeds)]
        best = safety.protocol_best_response(outcome, 10).option
        for options in (
            best,
            torch.full((10,), MEDIUM),
            torch.tensor([0, 1, 2, 3, 3, 2, 0, 1, 3, 0]),
        ):
            exact = evaluate_policy(deterministic_policy(options, 4), *rates)
            lost, caught = play(protocol, options.tolist(), EPISODES, seed)
            z.append(z_score(lost, float(exact.success_probability)))
            if outcome.caught.any():
                z.append(z_score(caught, float(exact.caught_probability)))
    assert np.abs(z).max() < 4
    assert 0.7 < np.sqrt(np.mean(np.square(z))) < 1.3


def test_resampled_play_agrees_with_the_formulas():
    z = []
    shares = np.array([0.3, 1.0])
    cases = [
        (Resampled(3, "max"), resampling.resample_and_audit(BASE, 0.05, 3, "max", shares)),
        (Resampled(3, "min"), resampling.resample_and_audit(BASE, 0.05, 3, "min", shares)),
        (Resampled(5, "mean"), resampling.resample_and_audit(BASE, 0.05, 5, "mean", shares)),
        (LeastSuspicious(3, 0.2), resampling.least_suspicious(BASE, 0.2, 3, shares)),
        (LeastSuspicious(2, 0.2, first=True), resampling.defer_to_resample(BASE, 0.2, 2, shares)),
    ]
    for seed, (protocol, outcome) in enumerate(cases):
        exact = safety.fixed_attack_success(outcome.caught, outcome.succeeds, 4)
        for way in range(len(exact)):
            option, share = int(outcome.level[way]) + 1, outcome.attack_share[way]
            lost, _ = play(protocol, [option] * 4, EPISODES, seed, share=share)
            z.append(z_score(lost, exact[way]))
    assert np.abs(z).max() < 4
    assert 0.6 < np.sqrt(np.mean(np.square(z))) < 1.4


def by_recursion(policy, caught, succeeds, payoff, task=0):
    """Expected return of a policy by recursion over the tree of tasks and outcomes."""
    if task == len(policy):
        return 0.0
    following = payoff.discount * by_recursion(policy, caught, succeeds, payoff, task + 1)
    value = payoff.service + policy[task][0] * following
    for level in range(caught.shape[-1]):
        c, w = caught[task, level], succeeds[task, level]
        after = (1 - c - w) * following + w * (0.0 if payoff.ends_at_success else following)
        value += policy[task][level + 1] * (payoff.success * w - payoff.caught * c + after)
    return value


@pytest.mark.parametrize("ends", [True, False])
def test_best_response_against_all_policies(ends):
    """Random rates that change with the task: 4^5 deterministic policies, and 50 mixed ones."""
    rng = np.random.default_rng(3)
    rates = rng.dirichlet(np.ones(3), size=(5, 3))
    caught, succeeds = rates[..., 0], rates[..., 1]
    payoff = AttackPayoff(1.3, 0.4, 0.02, 0.9, ends)
    tensors = torch.tensor(caught), torch.tensor(succeeds)
    response = best_response(*tensors, payoff)
    policies = torch.tensor(list(itertools.product(range(4), repeat=5)))
    values = evaluate_policy(deterministic_policy(policies, 4), *tensors, payoff).expected_return
    assert float(values.max()) == pytest.approx(float(response.value[0]), abs=1e-12)
    assert policies[values.argmax()].tolist() == response.option.tolist()
    mixed = rng.dirichlet(np.ones(4), size=(50, 5))
    values = evaluate_policy(torch.tensor(mixed), *tensors, payoff)
    expected = [by_recursion(policy, caught, succeeds, payoff) for policy in mixed]
    assert values.expected_return.numpy() == pytest.approx(expected, abs=1e-12)
    assert values.expected_return.max() <= response.value[0] + 1e-12
    alone = [evaluate_policy(torch.tensor(p), *tensors, payoff).expected_return for p in mixed]
    assert torch.equal(torch.stack(alone), values.expected_return)  # whatever the batch


def test_best_response_by_linear_program():
    """Occupancy measures of the attacker: the dual of backward induction."""
    caught, succeeds = protocol_rates("monitoring")
    tasks = 10
    stays = np.append(1.0, 1 - caught - succeeds)
    gain = np.tile(np.append(0.0, succeeds), tasks)
    flow = np.zeros((tasks, 4 * tasks))
    for task in range(tasks):
        flow[task, 4 * task : 4 * task + 4] = 1
        if task:
            flow[task, 4 * task - 4 : 4 * task] = -stays
    start = np.eye(tasks)[0]
    solution = linprog(-gain, A_eq=flow, b_eq=start)
    assert 1 + solution.fun == pytest.approx(safety.safety(PROTOCOLS["monitoring"], tasks))


def test_policies_that_see_the_class():
    """With probability .1 a task is an opening; waiting for openings is optimal until the last."""
    caught = torch.tensor([[0.05], [0.64]]).double().expand(20, 2, 1)
    succeeds = torch.tensor([[0.9], [0.2]]).double().expand(20, 2, 1)
    shares = torch.tensor([0.1, 0.9]).double()
    response = class_best_response(caught, succeeds, shares)
    assert float(response.value[0]) == pytest.approx(0.845709, abs=1e-6)
    assert response.option.tolist() == [[1, 0]] * 19 + [[1, 1]]
    policies = torch.stack(
        [deterministic_policy(response.option, 2), torch.eye(2).double()[None, 1].expand(20, 2, 2)]
    )
    values = evaluate_class_policy(policies, caught, succeeds, shares).success_probability
    assert values.tolist() == pytest.approx([0.845709, 0.317274], abs=1e-6)
    stakes = torch.tensor([1.0, 3.0]).double()
    payoff = AttackPayoff(ends_at_success=False)
    response = class_best_response(caught[:3], succeeds[:3], shares, payoff, stakes)
    options = torch.tensor(list(itertools.product(range(2), repeat=6))).reshape(-1, 3, 2)
    values = evaluate_class_policy(
        deterministic_policy(options, 2), caught[:3], succeeds[:3], shares, payoff, stakes
    )
    assert float(values.expected_return.max()) == pytest.approx(float(response.value[0]))
    one = torch.ones(1).double()
    single = evaluate_class_policy(policies[:, :, :1], caught[:, :1], succeeds[:, :1], one)
    plain = evaluate_policy(policies[:, :, 0], caught[:, 0], succeeds[:, 0])
    assert all(torch.equal(a, b) for a, b in zip(single, plain, strict=True))


def random_world(rng):
    levels = int(rng.integers(2, 5))
    low, high = sorted(rng.uniform(0, 1, 2))
    return ControlSetting(
        detectability=tuple(rng.uniform(0, 3.5, levels).tolist()),
        success_chance=tuple(rng.uniform(0.05, 1, levels).tolist()),
        audit_detection=float(rng.uniform(0.2, 1)),
        edit_effectiveness=float(rng.uniform(0, 1)),
        trusted_usefulness=float(low) / 2,
        edited_usefulness=float(low),
        untrusted_usefulness=float(high),
        untrusted_monitor_factor=float(rng.uniform(1, 2)),
        score_family=str(rng.choice(sorted(SCORE_FAMILIES))),
    )


def changed(world, **values):
    return ControlSetting(**{**world.model_dump(), **values})


def test_invariants_in_random_worlds():
    """Which protocol is never better than which, and in what safety is monotone."""
    rng = np.random.default_rng(17)
    for _ in range(scaled(120)):
        world, n = random_world(rng), int(rng.integers(1, 15))
        budget, share, chi = (float(rng.uniform(0.01, high)) for high in (0.3, 0.6, 1.0))

        def s(outcome, tasks=n):
            return safety.safety(outcome, tasks)

        monitoring = outcomes.trusted_monitoring(world, budget)
        detected = tuple(d + 0.3 for d in world.detectability)
        found = min(1.0, world.audit_detection + 0.2)
        better = [
            outcomes.trusted_monitoring(changed(world, detectability=detected), budget),
            outcomes.trusted_monitoring(changed(world, audit_detection=found), budget),
            outcomes.trusted_monitoring(world, budget + 0.1),
            outcomes.untrusted_monitoring(world, budget),
            outcomes.trusted_editing(world, share, budget),
        ]
        edit = outcomes.trusted_editing(world, share)
        defer = outcomes.defer_to_trusted(world, share)
        colluding = outcomes.untrusted_monitoring(world, budget, chi)
        pairs = [(s(monitoring), s(outcome)) for outcome in better]
        pairs += [
            (s(outcomes.random_audit(world, budget)), s(monitoring)),
            (s(edit), s(defer)),
            (s(edit), s(outcomes.trusted_editing(world, share + 0.1))),
            (s(defer), s(outcomes.defer_to_trusted(world, share + 0.1))),
            (s(monitoring, n + 1), s(monitoring)),
            (safety.endless_safety(monitoring), s(monitoring)),
            (s(colluding), s(outcomes.untrusted_monitoring(world, budget, 0.5 * chi))),
            (s(monitoring), safety.fixed_attack_safety(monitoring, n).min()),
        ]
        # An audit that may miss takes the place of an edit or of T: alpha = 1 here.
        certain = changed(world, audit_detection=1.0)
        for protocol in (outcomes.trusted_editing, outcomes.defer_to_trusted):
            pairs += [(s(protocol(certain, share)), s(protocol(certain, share, budget)))]
        worse, safer = np.array(pairs).T
        assert (worse <= safer + 1e-12).all(), (world, worse - safer)
        option = safety.protocol_best_response(monitoring, n).option.numpy()
        used = monitoring.succeeds[option[option > 0] - 1]
        assert (np.diff(used) >= -1e-12).all()
        caught, succeeds = (
            safety.repeat_tasks(x, n) for x in (monitoring.caught, monitoring.succeeds)
        )
        count = best_response(caught, succeeds, SUCCESS_COUNT).value[0]
        assert float(count) <= safety.deterring_penalty(monitoring) + 1e-9


def test_limits_in_random_worlds():
    rng = np.random.default_rng(18)
    for _ in range(scaled(60)):
        world, n = random_world(rng), int(rng.integers(1, 15))

        def rates(outcome):
            return np.concatenate([outcome.caught, outcome.succeeds])

        useless = changed(world, detectability=(0.0,) * world.num_levels)
        random = rates(outcomes.random_audit(useless, 0.07))
        assert rates(outcomes.trusted_monitoring(useless, 0.07)) == pytest.approx(random)
        perfect = changed(world, audit_detection=1.0, edit_effectiveness=1.0)
        assert safety.safety(outcomes.trusted_monitoring(perfect, 1.0), n) == 1
        same = changed(perfect, edited_usefulness=world.trusted_usefulness)
        edit, defer = (
            f(same, 0.3, 0.05) for f in (outcomes.trusted_editing, outcomes.defer_to_trusted)
        )
        assert rates(edit) == pytest.approx(rates(defer))
        assert edit.usefulness == pytest.approx(defer.usefulness)
        colluding = outcomes.untrusted_monitoring(world, 0.05, 1.0)
        assert rates(colluding) == pytest.approx(rates(outcomes.trust_untrusted(world)))
        editing = outcomes.trusted_editing(world, 1.0)
        assert editing.succeeds == pytest.approx(world.success * (1 - world.edit_effectiveness))


def test_defenders_as_tensors():
    """`defender_rates` of a batch is `routed_outcome` of each."""
    rng = np.random.default_rng(4)
    thresholds = np.sort(rng.normal(size=6))
    probabilities = rng.dirichlet(np.ones(4), size=(5, 7))
    world = random_world(rng)
    rates = defender_rates(world, thresholds, torch.tensor(probabilities), 1.3)
    for index in range(5):
        outcome = routed_outcome(world, Routing(thresholds, probabilities[index]), 1.3)
        assert rates.caught[index].numpy() == pytest.approx(outcome.caught)
        assert rates.succeeds[index].numpy() == pytest.approx(outcome.succeeds)
        assert float(rates.usefulness[index]) == pytest.approx(outcome.usefulness)
        honest = [outcome.honest_audit_rate, outcome.honest_edit_rate, outcome.honest_defer_rate]
        assert rates.honest[index, 1:].numpy() == pytest.approx(honest)


def test_score_families():
    """Draws follow the distribution; logistic scores have a linear logit of TPR, slope 1."""
    for family in SCORE_FAMILIES.values():
        p = torch.linspace(0.001, 0.999, 25, dtype=torch.float64)
        assert family.upper_tail(family.from_uniform(p).numpy()) == pytest.approx(1 - p.numpy())
        assert family.upper_tail(family.upper_quantile(0.3)) == pytest.approx(0.3)
        step = 1e-6
        slope = (family.upper_tail(0.7 - step) - family.upper_tail(0.7 + step)) / (2 * step)
        assert family.density(0.7) == pytest.approx(slope, rel=1e-6)
    world = ControlSetting(score_family="logistic")
    for rate in (1e-4, 0.01, 0.3):
        logit = np.log(world.roc(rate) / (1 - world.roc(rate)))
        assert logit - np.log(rate / (1 - rate)) == pytest.approx(world.shifts)


def test_ties_are_not_flagged():
    """A monitor that gives everything the threshold as its score catches nothing."""
    routing = PROTOCOLS["monitoring"].routing
    assert np.searchsorted(routing.thresholds, routing.thresholds) == 0
    assert torch.bucketize(torch.tensor(routing.thresholds), torch.tensor(routing.thresholds)) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"success_chance": (1.0, 0.6)},
        {"success_chance": (1.2, 0.6, 0.25)},
        {"detectability": (-1.0, 2.0, 1.0)},
        {"detectability": ()},
        {"audit_detection": 1.5},
        {"score_family": "gaussian"},
        {"alpha": 0.5},
    ],
)
def test_invalid_settings(values):
    with pytest.raises(ValidationError):
        ControlSetting(**values)


def test_mean_of_scores_that_are_not_normal():
    with refused("unsupported", "score_family"):
        resampling.resample_and_audit(ControlSetting(score_family="logistic"), 0.05, 3, "mean")
