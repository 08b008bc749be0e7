"""Simulated DR-MDPs against the solver; the environment does not use it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from mores.envs.influence.alignment_objectives import (
    ALIGNMENT_OBJECTIVES,
    RETURN_CRITERIA,
    evaluate_policy,
    optimal_action_sequences,
    solve,
)
from mores.envs.influence.dr_mdp import DRMDP
from mores.envs.influence.dr_mdp_planner import DRMDPPlanner
from mores.envs.influence.person_dr_mdp import PersonDRMDP
from mores.registry import make
from mores.registry.specs import policies_from_specs
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.oracles.test_alignment_objectives import DEFAULT_PERSON, random_person
from tests.refusals import refused

SUMS = ["real_time", "final", "initial", "natural_shift", "constrained", "privileged", "pareto"]


@pytest.mark.parametrize("objective", SUMS)
@pytest.mark.parametrize("horizon", [1, 2, 3, 5])
def test_all_action_sequences(objective: str, horizon: int) -> None:
    """All sequences by an external agent, one per world, against the solver."""
    sequences = list(itertools.product((0, 1), repeat=horizon))
    env = DRMDP(num_people=1, horizon=horizon, objective=objective)
    simulator = Simulator(env, {}, {"assistant": [0]}, len(sequences), rounds=99)
    simulator.reset(0)
    returns, allowed = torch.zeros(len(sequences)), torch.ones(len(sequences), dtype=torch.bool)
    for action in torch.tensor(sequences).T:
        turn = simulator.step({"assistant": action[:, None]})
        returns += turn.reward["assistant"][:, 0]
        allowed &= ~turn.projected["assistant"][:, 0]
    assert simulator.all_finished and bool(turn.terminated.all())
    best = returns[allowed].max()
    assert best == solve(DEFAULT_PERSON, objective, horizon).value
    optimal = {sequences[i] for i in torch.nonzero(allowed & (returns == best))[:, 0].tolist()}
    assert optimal == set(optimal_action_sequences(DEFAULT_PERSON, objective, horizon))


@pytest.mark.parametrize("objective", ALIGNMENT_OBJECTIVES)
def test_rewards_sum_to_the_return_at_every_round(objective: str) -> None:
    parameters = {"num_people": 5, "objective": objective, "privileged_preference": 1}
    env = environment_of(random_person(3, 3), **parameters)
    simulator = Simulator(env, {}, {"assistant": range(5)}, 40, rounds=4)
    simulator.reset(1)
    rng = torch.Generator().manual_seed(0)
    returns = torch.zeros(40, 5)
    while not simulator.all_finished:
        action = torch.randint(2, (40, 5), generator=rng)
        returns += simulator.step({"assistant": action}).reward["assistant"]
        metrics = env.metrics(simulator.state)
        objective_return, name = metrics["objective_return"], RETURN_CRITERIA[objective]
        assert returns.mean(1).numpy() == pytest.approx(objective_return.numpy(), abs=1e-5)
        if name != "mean_preference":
            assert torch.equal(objective_return, metrics[f"return_{name}"])


def environment_of(person: PersonDRMDP, **parameters) -> DRMDP:
    return DRMDP(
        rewards=person.rewards,
        natural_transitions=person.natural_transitions,
        influenced_transitions=person.influenced_transitions,
        initial_distribution=person.initial_distribution,
        **{"susceptibility": person.susceptibility, "horizon": 6, **parameters},
    )


@pytest.mark.parametrize("objective", ALIGNMENT_OBJECTIVES)
def test_simulation_equals_analytic_values(objective: str) -> None:
    """Means of 40,000 people of two groups, each within 4.5 standard errors."""
    groups = {"susceptibility": 0.75, "susceptible_share": 0.3, "other_susceptibility": 0.25}
    env = environment_of(random_person(7, 3), num_people=40, objective=objective, **groups)
    expected = env.analytic_values(policies_from_specs(env.default_policies()), 8)
    constants = ("optimal_return", "switch_susceptibility", "first_round_influence_closed_form")
    names = [name for name in expected if name not in constants]
    assert len(names) == 12
    result = simulate(env, worlds=1000, rounds=8, seed=5, metrics=names)
    for name in names:
        values = result.metrics[name].values.astype(float)
        error = values.std(0, ddof=1) / math.sqrt(len(values))
        assert (np.abs(values.mean(0) - expected[name]) <= 4.5 * error + 1e-5).all(), name
    assert expected["objective_return"][-1] == pytest.approx(expected["optimal_return"], abs=1e-12)


@pytest.mark.parametrize("objective", ["real_time", "final", "natural_shift"])
def test_no_policy_exceeds_the_optimum(objective: str) -> None:
    env = environment_of(random_person(7, 3), objective=objective)
    optimum = env.analytic_values({}, 6)["optimal_return"] + 1e-12
    for other in ALIGNMENT_OBJECTIVES:
        values = env.analytic_values({"assistant": DRMDPPlanner(objective=other)}, 6)
        assert values["objective_return"][-1] <= optimum
    policy = np.random.default_rng(0).uniform(size=(6, 3, 3, 3, 7))
    returns = evaluate_policy(env.person_dr_mdp(env.susceptibility), policy, 6).returns
    assert returns[RETURN_CRITERIA[objective]][-1] <= optimum


def test_only_observed_susceptible_people_are_targeted() -> None:
    parameters = {"num_people": 50, "susceptible_share": 0.04, "horizon": 8}
    for observe, gap in ((True, 1.0), (False, 0.0)):
        env = DRMDP(observe_susceptibility=observe, **parameters)
        result = simulate(env, worlds=3, rounds=8, metrics=["targeting_gap", "influence_share"])
        assert (result.metrics["targeting_gap"][:, -1] == gap).all()
        assert (
            env.analytic_values(policies_from_specs(env.default_policies()), 8)["targeting_gap"][-1]
            == gap
        )
    equal = simulate(DRMDP(num_people=4), worlds=2, rounds=2, metrics=["targeting_gap"])
    assert equal.metrics["targeting_gap"].isnull().all()


def test_planner_tie_break() -> None:
    names = ["influence_share", "objective_return"]
    for tie_break, share in (("noop", 0.0), ("influence", 1.0)):
        policies = {"assistant": DRMDPPlanner(tie_break=tie_break)}
        metrics = simulate(DRMDP(horizon=2), policies, 2, 2, metrics=names).metrics
        assert [set(metrics[name].values[:, -1]) for name in names] == [{share}, {2.0}]


def test_closed_form_only_under_its_assumptions() -> None:
    measured, closed_form = "first_round_influence_share", "first_round_influence_closed_form"
    switch, transitions = "switch_susceptibility", {"natural_transitions": [[1, 0], [0, 1]]}
    for horizon, susceptibility in itertools.product((1, 2, 4, 9), (0.4, 0.51, 0.55, 1.0)):
        env = DRMDP(horizon=horizon, susceptibility=susceptibility)
        values = env.analytic_values({}, horizon)
        result = simulate(env, worlds=2, rounds=1, metrics=[measured])
        assert (result.metrics[measured][:, -1] == values[closed_form]).all()
        assert (switch in values) == (horizon > 1)
    assert DRMDP(horizon=3).analytic_values({}, 3)[switch] == pytest.approx(0.618034, abs=1e-6)
    for parameters in (transitions, {"initial_distribution": [0.5] * 2}, {"rewards": [[1, 2]] * 2}):
        assert switch not in DRMDP(**parameters).analytic_values({}, 20)
    assert closed_form not in DRMDP(susceptible_share=0.5).analytic_values({}, 20)


@pytest.mark.parametrize("free_end", [False, True])
def test_readings_of_constrained_in_the_environment(free_end: bool) -> None:
    """All sequences by an external agent: influence in the last round is legal or masked."""
    horizon = 3
    sequences = list(itertools.product((0, 1), repeat=horizon))
    env = DRMDP(
        num_people=1,
        horizon=horizon,
        objective="constrained",
        constrain_last_action=not free_end,
        rewards=((1.0, 1.5), (1.0, 3.0)),
    )
    simulator = Simulator(env, {}, {"assistant": [0]}, len(sequences), rounds=99)
    simulator.reset(0)
    allowed = torch.ones(len(sequences), dtype=torch.bool)
    for action in torch.tensor(sequences).T:
        allowed &= ~simulator.step({"assistant": action[:, None]}).projected["assistant"][:, 0]
    legal = [sequences[i] for i in torch.nonzero(allowed)[:, 0].tolist()]
    assert legal == ([(0, 0, 0), (0, 0, 1)] if free_end else [(0, 0, 0)])
    values = env.analytic_values(policies_from_specs(env.default_policies()), horizon)
    result = simulate(env, worlds=2, rounds=horizon, metrics=["objective_return"])
    assert values["optimal_return"] == horizon + 0.5 * free_end
    assert (result.metrics["objective_return"][:, -1] == values["optimal_return"]).all()
    assert values["objective_return"][-1] == values["optimal_return"]
    other = DRMDPPlanner(objective="constrained", constrain_last_action=free_end)
    assert "objective_return" not in env.analytic_values({"assistant": other}, horizon)


def test_without_influence_preferences_are_natural_bit_for_bit() -> None:
    env = environment_of(random_person(11, 3), num_people=30, objective="constrained")
    result = simulate(env, {"assistant": DRMDPPlanner(objective="constrained")}, 20, 6)
    assert torch.equal(result.state.preference, result.state.natural_preference)


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"natural_transitions": [[0.5, 0.4], [1, 0]]}, "invalid_value", "natural_transitions"),
        ({"influenced_transitions": [[0, 1]]}, "wrong_shape", ""),
        ({"rewards": [[1], [2]]}, "wrong_shape", "rewards"),
        ({"initial_distribution": [1, 0, 0]}, "invalid_value", "initial_distribution"),
        ({"privileged_preference": 2}, "out_of_range", "privileged_preference"),
        ({"objective": "realtime"}, "invalid_value", "objective"),
        ({"horizon": 0}, "out_of_range", "horizon"),
    ],
)
def test_invalid_parameters(parameters: dict, code: str, path: str) -> None:
    with refused(code, f"dr_mdp.{path}".rstrip(".")):
        make("environment", "dr_mdp", parameters)


def test_planner_with_unknown_privileged_preference() -> None:
    planner = DRMDPPlanner(objective="privileged", privileged_preference=4)
    with refused("out_of_range", path="dr_mdp_planner.privileged_preference"):
        simulate(DRMDP(), {"assistant": planner}, 1, 1)
