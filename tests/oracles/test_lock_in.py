"""Precision recursion against its matrix form in float64 and its closed forms."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

from mores.envs.dynamics.belief_pooling import belief_error_std
from mores.envs.opinion.lock_in import LockIn
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.specification import Claim
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator


def _trust(env: LockIn) -> np.ndarray:
    n, num_agents = env.num_people, env.num_people + env.num_assistants
    trust = env.self_trust * np.eye(num_agents)
    trust[:n, n:] += env.trust_in_ai
    trust[n:, :n] += env.trust_in_people
    return trust


def _claims_with_numbers() -> list[Claim]:
    claims = load_scenario("lock_in", []).scenario.claims
    return [claim for claim in claims if re.search(r"\(\.\d{4}\)", claim.statement)]


def _environment(gain: float, people: int = 100, **parameters: float) -> LockIn:
    trust = (gain / people) ** 0.5
    return LockIn(num_people=people, trust_in_ai=trust, trust_in_people=trust, **parameters)


@pytest.mark.parametrize(("people", "assistants"), [(3, 1), (7, 2), (20, 4)])
def test_environment_equals_recursion(people, assistants):
    env = LockIn(
        num_people=people,
        num_assistants=assistants,
        trust_in_ai=0.7,
        trust_in_people=0.4,
        self_trust=0.3,
        prior_precision=0.5,
    )
    rounds, num_agents = 12, people + assistants
    result = simulate(env, worlds=3, rounds=rounds, seed=4, metrics=["ai_error"])
    from mores.core.random_streams import RandomStreams

    streams = RandomStreams.of(4, 3).child("game")
    truth = result.state.truth.double().numpy()
    trust = _trust(env)
    for world in range(3):
        evidence_precision = np.full(num_agents, 0.5)
        evidence, belief = np.zeros((2, num_agents))
        precision = np.full(num_agents, 0.5)
        for round in range(rounds):
            noise = streams.at(round).normal("evidence", num_agents)[world, :, 0].double().numpy()
            evidence = evidence * evidence_precision + truth[world] + noise
            evidence_precision = evidence_precision + 1
            evidence = evidence / evidence_precision
            total = evidence_precision + trust @ precision
            belief = (evidence * evidence_precision + trust @ (belief * precision)) / total
            precision = total
        assert result.state.beliefs.mean[world].numpy() == pytest.approx(belief, abs=2e-5)
        values = 10 ** result.state.beliefs.log10_precision[world].double().numpy()
        assert values == pytest.approx(precision, rel=1e-4)


def test_spectral_radius():
    for env in (
        _environment(1.21),
        LockIn(num_people=9, num_assistants=3, trust_in_ai=0.2, self_trust=0.1),
    ):
        radius = np.abs(np.linalg.eigvals(_trust(env))).max()
        assert env.analytic_values({}, 1)["spectral_radius"] == pytest.approx(radius, rel=1e-12)


@pytest.mark.parametrize("gain", [0.0, 0.5, 1.0, 1.1, 2.0])
@pytest.mark.parametrize(("people", "assistants"), [(10, 1), (6, 3)])
def test_error_std_against_matrix_powers(gain, people, assistants):
    trust = (gain / (people * assistants)) ** 0.5
    env = LockIn(
        num_people=people, num_assistants=assistants, trust_in_ai=trust, trust_in_people=trust
    )
    matrix, rounds = _trust(env), 40
    power, row = np.eye(len(matrix)), np.zeros_like(matrix)
    squares, sums = np.zeros(len(matrix)), np.zeros(len(matrix))
    stds = (
        belief_error_std(rounds, people, assistants, trust, gain, 1.0),
        belief_error_std(rounds, assistants, people, trust, gain, 1.0),
    )
    for round in range(1, rounds + 1):
        row = row + power
        power = power @ matrix
        squares, sums = squares + (row**2).sum(1), sums + row.sum(1)
        exact = np.sqrt(squares) / sums
        assert stds[0][round] == pytest.approx(exact[0], rel=1e-9)
        assert stds[1][round] == pytest.approx(exact[-1], rel=1e-9)


@pytest.mark.parametrize(
    ("gain", "assistant", "person"),
    [(1.1, 0.01984, 0.01986), (1.5, 0.0407, 0.0414), (2.0, 0.0528, 0.0554), (4.0, 0.0717, 0.0861)],
)
def test_locked_standard_deviations(gain, assistant, person):
    """Both sides' standard deviations; the source does not assign them to sides."""
    trust = (gain / 100) ** 0.5
    sides = ((1, 100), (100, 1))
    stds = [belief_error_std(2000, *sizes, trust, gain, 1.0)[-1] for sizes in sides]
    assert sorted(stds) == pytest.approx([assistant, person], rel=3e-3)


@pytest.mark.parametrize("claim", _claims_with_numbers())
def test_numbers_of_the_scenario_are_those_of_the_recursion(claim):
    """The number that a claim of `scenarios/lock_in.yaml` prints, at its arm and round."""
    scenario = load_scenario("lock_in", []).scenario
    arm = scenario.arms[claim.arm or scenario.control]
    parameters = {key.removeprefix("env."): value for key, value in arm.items()}
    given = {key: value for key, value in scenario.env.model_dump().items() if key != "kind"}
    analytic = LockIn(**given, **parameters).analytic_values({}, 1500)[claim.analytic]
    exact = analytic[claim.at_round or scenario.rounds]
    (printed,) = re.findall(r"\((\.\d{4})\)", claim.statement)
    assert printed == f"{exact:.4f}".removeprefix("0")


@pytest.mark.full
@pytest.mark.parametrize(("gain", "rounds"), [(4.0, 1500), (2.0, 3000)])
def test_float32_is_stable(gain, rounds):
    """Equals a float64 recursion on the same evidence, rescaled every round."""
    env = _environment(gain)
    names = ["precision_growth"]
    result = simulate(env, {}, 2, rounds, 9, names, metric_rounds=[rounds])
    assert torch.isfinite(result.state.beliefs.mean).all()
    assert result.metrics["precision_growth"].values == pytest.approx(gain, rel=1e-5)
    from mores.core.random_streams import RandomStreams

    streams, trust = RandomStreams.of(9, 2).child("game"), _trust(env)
    truth = result.state.truth.double().numpy()
    evidence = np.zeros((2, 101))
    belief, precision, inverse_scale = np.zeros((2, 101)), np.zeros((2, 101)), 1.0
    for round in range(rounds):
        noise = streams.at(round).normal("evidence", 101)[..., 0].double().numpy()
        evidence = evidence + (truth[:, None] + noise - evidence) / (round + 1)
        own_precision = (round + 1) * inverse_scale
        total = own_precision + precision @ trust.T
        belief = (evidence * own_precision + (belief * precision) @ trust.T) / total
        inverse_scale, precision = inverse_scale / total.max(), total / total.max()
    assert result.state.beliefs.mean.double().numpy() == pytest.approx(belief, abs=1e-4)


def test_observation_contains_reports_only():
    """Reports may differ from beliefs; beliefs and evidence of others are not observed."""
    env = LockIn(num_people=4, num_assistants=2)
    simulator = Simulator(env, env.default_policies(), {"assistant": [0, 1]}, worlds=3, rounds=9)
    simulator.reset(1)
    simulator.step({"assistant": torch.tensor([10.0, 5.0])[None, :, None].expand(3, 2, 1)})
    assert (simulator.observe("person")[..., 2] == 7.5).all()
    observations = {role: simulator.observe(role) for role in ("person", "assistant")}
    beliefs = dataclasses.replace(simulator.state.beliefs, mean=simulator.state.beliefs.mean + 1)
    simulator.state = dataclasses.replace(simulator.state, beliefs=beliefs)
    for role in observations:
        assert torch.equal(simulator.observe(role)[..., 1:], observations[role][..., 1:])
