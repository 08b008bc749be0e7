"""AI control: values of attackers against tables, enumeration of policies and linear programs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from mores.envs.oversight import control_outcomes as outcomes
from mores.envs.oversight import control_safety as safety
from mores.envs.oversight import resampling
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
from tests.oracles.control_protocols import BASE, PROTOCOLS

LOUD, MEDIUM, STEALTHY = 1, 2, 3


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
    for discount, lost in ((0.9, 0.0), (0.8, 0.005)):  # share of the value, exact policies
        impatient = AttackPayoff(discount=discount)
        option = class_best_response(caught, succeeds, shares, impatient).option
        policy = deterministic_policy(option, 2)
        value = evaluate_class_policy(policy, caught, succeeds, shares).success_probability
        assert 1 - float(value) / 0.845709 == pytest.approx(lost, abs=7e-4)
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
