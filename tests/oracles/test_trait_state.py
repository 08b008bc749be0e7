"""Trait-state dynamics, cohorts and trust against their closed forms.

Statistical tests compare a mean over worlds with a formula, within 4.5 standard errors (two-sided
level 7e-6 each), with fixed seeds.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics.cohorts import Cohorts, expected_variance, replace_people
from mores.envs.dynamics.trait_state import TraitState, TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.registry import make_environment
from tests.refusals import refused

ERRORS = 4.5


def assert_mean(values: torch.Tensor, expected: float) -> None:
    """Assert that the mean over worlds is within 4.5 standard errors of `expected`."""
    x = values.double().numpy()
    assert len(x) >= 100
    error = x.std(ddof=1) / math.sqrt(len(x))
    assert abs(x.mean() - expected) < ERRORS * error, (x.mean(), expected, error)


def without_residual(values: torch.Tensor) -> TraitState:
    return TraitState(values, torch.zeros_like(values), torch.ones_like(values[..., 0]))


@pytest.mark.parametrize("half_life", [0.5, 1.0, 7.3])
@pytest.mark.parametrize("permanent", [0.0, 0.19, 1.0])
def test_retention_of_a_displacement(half_life, permanent):
    dynamics = TraitStateDynamics(half_life=half_life, permanent_share=permanent)
    initial = RandomStreams.of(1, 3).normal("values", 5, 2)
    displacement = RandomStreams.of(1, 3).normal("push", 5, 2)
    trait_state = dynamics.displace(without_residual(initial), displacement)
    for rounds in range(12):
        share = permanent + (1 - permanent) * 0.5 ** (rounds / half_life)
        assert dynamics.retention(rounds) == pytest.approx(share, abs=1e-12)
        expected = initial.double() + share * displacement.double()
        assert trait_state.values.numpy() == pytest.approx(expected.numpy(), abs=2e-6)
        trait_state = dynamics.advance_round(trait_state, RandomStreams.of(1, 3, round=rounds))
    expected = initial + permanent * displacement
    assert trait_state.disposition.numpy() == pytest.approx(expected.numpy(), abs=1e-6)


def test_without_half_life_displacements_are_permanent():
    dynamics = TraitStateDynamics()
    initial, displacement = torch.randn(2, 2, 5, 3).unbind(0)
    trait_state = dynamics.initial_state(initial, RandomStreams.of(1, 2))
    trait_state = dynamics.displace(trait_state, displacement)
    for rounds in range(3):
        trait_state = dynamics.advance_round(trait_state, RandomStreams.of(1, 2, round=rounds))
    assert torch.equal(trait_state.values, initial + displacement)
    assert dynamics.retention(1e9) == 1.0


@pytest.mark.parametrize("parameters", [{"volatility": 1.0}, {"permanent_share": 0.3}])
def test_residual_requires_half_life(parameters):
    with refused("conflict", path="panel.trait_state"):
        make_environment("panel", trait_state=parameters)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("noise_std", [0.0, 0.15])
def test_covariance_between_waves(exponent, noise_std):
    """120 worlds of 500 people, seed 4: after 0, 1, 3 and 9 rounds."""
    parameters = {"volatility_heterogeneity": exponent, "disposition_noise_std": noise_std}
    dynamics = TraitStateDynamics(half_life=2.0, volatility=0.8, **parameters)
    worlds, people, rounds_of_waves = 120, 500, [0, 1, 3, 9]
    streams = RandomStreams.of(4, worlds)
    disposition = 1.5 * streams.child("start").normal("values", people)
    trait_state, waves = dynamics.initial_state(disposition, streams), []
    for rounds in range(rounds_of_waves[-1] + 1):
        if rounds in rounds_of_waves:
            error = 0.5 * streams.at(rounds).normal("slip", people)
            error = error * trait_state.relative_volatility[..., None]
            waves.append((trait_state.values + error)[..., 0])
        trait_state = dynamics.advance_round(trait_state, streams.at(rounds))
    waves = torch.stack(waves, -1).double()
    deviation = waves - waves.mean(1, keepdim=True)
    covariance = torch.einsum("wai,waj->wij", deviation, deviation) / (people - 1)
    expected = dynamics.covariance(rounds_of_waves, initial_std=1.5, answer_noise_std=0.5)
    for i in range(len(rounds_of_waves)):
        for j in range(i + 1):
            assert_mean(covariance[:, i, j], expected[i, j])
    if not noise_std:  # var_d + var_s 2^(-L/h), over all variance
        lag = (1.5**2 + 0.8**2 * 0.5 ** (3 / 2)) / (1.5**2 + 0.8**2 + 0.5**2)
        assert expected[0, 2] / expected[0, 0] == pytest.approx(lag, abs=1e-12)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.1, 4.0])
def test_relative_volatility(exponent):
    """The square has mean 1, the fourth power (2 k + 1)^2 / (4 k + 1): 100 worlds, seed 2."""
    dynamics = TraitStateDynamics(half_life=1.0, volatility_heterogeneity=exponent)
    volatility = dynamics.sample_relative_volatility(1000, RandomStreams.of(2, 100))
    if not exponent:
        assert (volatility == 1).all()
        return
    assert_mean((volatility**2).mean(1), 1.0)
    assert_mean((volatility**4).mean(1), (2 * exponent + 1) ** 2 / (4 * exponent + 1))
    assert volatility.min() >= 0 and volatility.max() <= math.sqrt(2 * exponent + 1) * (1 + 1e-6)


def test_clamp():
    dynamics = TraitStateDynamics(half_life=1.0)
    state = TraitState(torch.randn(3, 50, 2), 3 * torch.randn(3, 50, 2), torch.ones(3, 50))
    clamped = dynamics.clamp(state, -1.0, 1.0)
    assert (clamped.disposition.abs() <= 1).all() and (clamped.values.abs() <= 1 + 1e-6).all()
    inside = (state.disposition.abs() <= 1) & (state.values.abs() <= 1)
    assert torch.equal(clamped.disposition[inside], state.disposition[inside])
    assert clamped.values[inside].numpy() == pytest.approx(state.values[inside].numpy(), abs=1e-6)


def generations(cohorts: Cohorts, values: torch.Tensor, rounds: int, seed: int) -> torch.Tensor:
    streams = RandomStreams.of(seed, len(values))
    for round in range(rounds):
        newcomers = cohorts.sample_newcomers(values, None, streams.at(round))
        values = replace_people(People(values), newcomers).values
    return values


@pytest.mark.parametrize("turnover", [1.0, 0.3])
@pytest.mark.parametrize("mutation", [0.0, 0.2])
def test_wright_fisher_variance(turnover, mutation):
    """400 worlds of 20 people over 30 rounds, seed 8: the variance over people."""
    initial = RandomStreams.of(8, 400).normal("start", 20, 1)
    cohorts = Cohorts(turnover=turnover, mutation_std=mutation)
    end = generations(cohorts, initial, 30, 8)
    initial_variance = initial.double().var(1).mean().item()
    expected = expected_variance(initial_variance, 30, 20, turnover, mutation)
    assert_mean(end.double().var(1)[:, 0], expected)
    if turnover == 1.0:
        equilibrium = mutation**2 * 20
        closed_form = equilibrium + (initial_variance - equilibrium) * (1 - 1 / 20) ** 30
        assert expected == pytest.approx(closed_form, abs=1e-12)


@pytest.mark.parametrize("turnover", [1.0, 0.3])
def test_heterozygosity_without_mutation(turnover):
    """500 worlds of 15 founders over 20 rounds, seed 3: share of pairs of different founders."""
    founders = torch.arange(15.0).expand(500, -1)[..., None]
    end = generations(Cohorts(turnover=turnover), founders, 20, 3)[..., 0]
    heterozygosity = (end[:, :, None] != end[:, None]).double().sum((1, 2)) / (15 * 14)
    assert_mean(heterozygosity, (1 - (1 - (1 - turnover) ** 2) / 15) ** 20)


def test_newcomers_are_tutored_and_shifted():
    """300 worlds of 40 people, seed 5: movement of the mean in a round."""
    values = RandomStreams.of(5, 300).normal("start", 40, 1)
    cohorts = Cohorts(turnover=0.2, tutoring_share=0.4, mean_shift=0.5, mutation_std=0.1)
    streams = RandomStreams.of(5, 300)
    newcomers = cohorts.sample_newcomers(values, lambda newcomer, _: 3.0 - newcomer, streams)
    result = replace_people(People(values), newcomers).values
    mean_value = values.mean(1)[:, 0]
    assert_mean((result - values).mean(1)[:, 0] - 0.2 * (0.4 * (3.0 - mean_value) + 0.5), 0.0)


def test_newcomers_inherit_from_one_parent():
    people = People(
        torch.randn(2, 30, 2),
        {"age": torch.arange(60.0).reshape(2, 30)},
        torch.arange(30).expand(2, -1) % 3,
    )
    newcomers = Cohorts(turnover=0.5).sample_newcomers(people.values, None, RandomStreams.of(1, 2))
    result = replace_people(people, newcomers)
    assert 0 < newcomers.is_new.sum() < newcomers.is_new.numel()
    for world in range(2):
        for person in range(30):
            is_new = newcomers.is_new[world, person]
            source = int(newcomers.parent[world, person]) if is_new else person
            assert torch.equal(result.values[world, person], people.values[world, source])
            assert result.traits["age"][world, person] == people.traits["age"][world, source]
            assert result.groups is not None and result.groups[world, person] == source % 3


def test_newcomers_have_new_residuals():
    dynamics = TraitStateDynamics(half_life=2.0, volatility=1.0, volatility_heterogeneity=1.0)
    streams = RandomStreams.of(1, 2)
    trait_state = dynamics.initial_state(torch.zeros(2, 400, 1), streams)
    is_new = streams.uniform("born", 400)[..., 0] < 0.5
    result = dynamics.replace(trait_state, is_new, torch.ones(2, 400, 1), streams)
    old, new = trait_state.relative_volatility, result.relative_volatility
    assert torch.equal(new[~is_new], old[~is_new])
    assert torch.equal(result.values[~is_new], trait_state.values[~is_new])
    assert (result.disposition[is_new] == 1).all()
    assert not (new[is_new] == old[is_new]).any()
    residuals = [x.state_residual[is_new][:, 0] for x in (result, trait_state)]
    assert np.corrcoef(*residuals)[0, 1] < 0.3


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_trust_follows_the_delta_rule(rate):
    trust = Trust(initial_trust=0.8, learning_rate=rate, distance_scale=0.5)
    values, advice = torch.randn(3, 6, 2), torch.randn(3, 4, 2)
    evidence = trust.evidence(values, advice[:, None])  # all people receive the same advice
    deviation = values.double()[:, :, None] - advice.double()[:, None]
    assert evidence.numpy() == pytest.approx(
        torch.exp(-(deviation**2).mean(-1) / (2 * 0.5**2)).numpy(), abs=1e-6
    )
    level, intensity = trust.initial_state(values, advice), torch.ones(3, 1, 4)
    intensity[..., 3] = 0.0
    for rounds in range(15):
        closed_form = evidence + (0.8 - evidence) * (1 - rate) ** rounds
        assert level[..., :3].numpy() == pytest.approx(closed_form[..., :3].numpy(), abs=1e-6)
        assert torch.equal(level[..., 3], torch.full((3, 6), 0.8))
        assert ((level >= 0) & (level <= 1)).all()
        level = trust.update(level, evidence, intensity)


def test_retained_share_determines_permanent_share():
    dynamics = TraitStateDynamics(half_life=0.5, retained_share=0.39)
    assert dynamics.retention(1) == pytest.approx(0.39)
    assert dynamics.common_rates.permanent_share == pytest.approx((0.39 - 0.25) / 0.75)
    with refused("conflict", path="panel.trait_state"):
        make_environment("panel", trait_state={"half_life": 0.7, "retained_share": 0.3})
    both = {"half_life": 0.7, "retained_share": 0.5, "permanent_share": 0.1}
    with refused("conflict", path="panel.trait_state"):
        make_environment("panel", trait_state=both)
