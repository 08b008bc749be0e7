"""Settled people, cohorts and trust against their closed forms.

Statistical tests compare a mean over worlds with a formula. They allow 4.5 standard errors (a level
of 7 in a million each, two-sided), with the seeds written here.
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


def agrees(figures: torch.Tensor, expected: float) -> None:
    """The mean over worlds lies within 4.5 standard errors of what is expected."""
    x = figures.double().numpy()
    assert len(x) >= 100
    error = x.std(ddof=1) / math.sqrt(len(x))
    assert abs(x.mean() - expected) < ERRORS * error, (x.mean(), expected, error)


def still(values: torch.Tensor) -> TraitState:
    return TraitState(values, torch.zeros_like(values), torch.ones_like(values[..., 0]))


@pytest.mark.parametrize("half_life", [0.5, 1.0, 7.3])
@pytest.mark.parametrize("settling", [0.0, 0.19, 1.0])
def test_of_a_push_so_much_is_left(half_life, settling):
    person = TraitStateDynamics(half_life=half_life, permanent_share=settling)
    start = RandomStreams.of(1, 3).normal("values", 5, 2)
    push = RandomStreams.of(1, 3).normal("push", 5, 2)
    held = person.displace(still(start), push)
    for rounds in range(12):
        left = settling + (1 - settling) * 0.5 ** (rounds / half_life)
        assert person.retention(rounds) == pytest.approx(left, abs=1e-12)
        expected = start.double() + left * push.double()
        assert held.values.numpy() == pytest.approx(expected.numpy(), abs=2e-6)
        held = person.advance_round(held, RandomStreams.of(1, 3, round=rounds))
    assert held.disposition.numpy() == pytest.approx((start + settling * push).numpy(), abs=1e-6)


def test_without_a_half_life_everything_settles():
    person = TraitStateDynamics()
    start, push = torch.randn(2, 2, 5, 3).unbind(0)
    held = person.displace(person.initial_state(start, RandomStreams.of(1, 2)), push)
    for rounds in range(3):
        held = person.advance_round(held, RandomStreams.of(1, 2, round=rounds))
    assert torch.equal(held.values, start + push)
    assert person.retention(1e9) == 1.0


@pytest.mark.parametrize("wrong", [{"volatility": 1.0}, {"settling": 0.3}])
def test_a_temporary_state_needs_a_half_life(wrong):
    with refused("conflict", path="panel.person"):
        make_environment("panel", person=wrong)


@pytest.mark.parametrize("power", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("walk", [0.0, 0.15])
def test_covariance_between_waves(power, walk):
    """120 worlds of 500 people, seed 4: at the start, after 1 round, 3 and 9."""
    person = TraitStateDynamics(
        half_life=2.0, volatility=0.8, volatility_heterogeneity=power, disposition_noise_std=walk
    )
    worlds, people, when = 120, 500, [0, 1, 3, 9]
    draws = RandomStreams.of(4, worlds)
    held = person.initial_state(1.5 * draws.child("start").normal("values", people), draws)
    kept = []
    for rounds in range(when[-1] + 1):
        if rounds in when:
            slip = (
                0.5 * draws.at(rounds).normal("slip", people) * held.relative_volatility[..., None]
            )
            kept.append((held.values + slip)[..., 0])
        held = person.advance_round(held, draws.at(rounds))
    waves = torch.stack(kept, -1).double()
    apart = waves - waves.mean(1, keepdim=True)
    found = torch.einsum("wai,waj->wij", apart, apart) / (people - 1)
    expected = person.covariance(when, initial_std=1.5, answer_noise_std=0.5)
    for i in range(len(when)):
        for j in range(i + 1):
            agrees(found[:, i, j], expected[i, j])
    if not walk:  # var_d + var_s 2^(-L/h), over all variance
        lag = (1.5**2 + 0.8**2 * 0.5 ** (3 / 2)) / (1.5**2 + 0.8**2 + 0.5**2)
        assert expected[0, 2] / expected[0, 0] == pytest.approx(lag, abs=1e-12)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.1, 4.0])
def test_restlessness(power):
    """Its square has mean 1, its fourth power (2 p + 1)^2 / (4 p + 1): 100 worlds, seed 2."""
    person = TraitStateDynamics(half_life=1.0, volatility_heterogeneity=power)
    restless = person.sample_relative_volatility(1000, RandomStreams.of(2, 100))
    if not power:
        assert (restless == 1).all()
        return
    agrees((restless**2).mean(1), 1.0)
    agrees((restless**4).mean(1), (2 * power + 1) ** 2 / (4 * power + 1))
    assert restless.min() >= 0 and restless.max() <= math.sqrt(2 * power + 1) * (1 + 1e-6)


def test_kept_within():
    person = TraitStateDynamics(half_life=1.0)
    held = TraitState(torch.randn(3, 50, 2), 3 * torch.randn(3, 50, 2), torch.ones(3, 50))
    kept = person.clamp(held, -1.0, 1.0)
    assert (kept.disposition.abs() <= 1).all() and (kept.values.abs() <= 1 + 1e-6).all()
    inside = (held.disposition.abs() <= 1) & (held.values.abs() <= 1)
    assert torch.equal(kept.disposition[inside], held.disposition[inside])
    assert kept.values[inside].numpy() == pytest.approx(held.values[inside].numpy(), abs=1e-6)


def generations(cohorts: Cohorts, values: torch.Tensor, rounds: int, seed: int) -> torch.Tensor:
    draws = RandomStreams.of(seed, len(values))
    for round in range(rounds):
        new = cohorts.sample_newcomers(values, None, draws.at(round))
        values = replace_people(People(values), new).values
    return values


@pytest.mark.parametrize("turnover", [1.0, 0.3])
@pytest.mark.parametrize("mutation", [0.0, 0.2])
def test_wright_and_fisher(turnover, mutation):
    """400 worlds of 20 people over 30 rounds, seed 8: the variance over people."""
    start = RandomStreams.of(8, 400).normal("start", 20, 1)
    cohorts = Cohorts(turnover=turnover, mutation_std=mutation)
    end = generations(cohorts, start, 30, 8)
    before = start.double().var(1).mean().item()
    expected = expected_variance(before, 30, 20, turnover, mutation)
    agrees(end.double().var(1)[:, 0], expected)
    if turnover == 1.0:
        fixed = mutation**2 * 20
        closed = fixed + (before - fixed) * (1 - 1 / 20) ** 30
        assert expected == pytest.approx(closed, abs=1e-12)


@pytest.mark.parametrize("turnover", [1.0, 0.3])
def test_heterozygosity_without_mutation(turnover):
    """500 worlds of 15 founders over 20 rounds, seed 3: pairs of people with other ancestors."""
    founders = torch.arange(15.0).expand(500, -1)[..., None]
    end = generations(Cohorts(turnover=turnover), founders, 20, 3)[..., 0]
    differ = (end[:, :, None] != end[:, None]).double().sum((1, 2)) / (15 * 14)
    agrees(differ, (1 - (1 - (1 - turnover) ** 2) / 15) ** 20)


def test_newcomers_are_tutored_and_shifted():
    """300 worlds of 40 people, seed 5: the centre's movement in a round."""
    values = RandomStreams.of(5, 300).normal("start", 40, 1)
    cohorts = Cohorts(turnover=0.2, tutoring_share=0.4, mean_shift=0.5, mutation_std=0.1)
    new = cohorts.sample_newcomers(values, lambda own: 3.0 - own, RandomStreams.of(5, 300))
    after = replace_people(People(values), new).values
    centre = values.mean(1)[:, 0]
    agrees((after - values).mean(1)[:, 0] - 0.2 * (0.4 * (3.0 - centre) + 0.5), 0.0)


def test_newcomers_take_after_one_parent():
    people = People(
        torch.randn(2, 30, 2),
        {"age": torch.arange(60.0).reshape(2, 30)},
        torch.arange(30).expand(2, -1) % 3,
    )
    new = Cohorts(turnover=0.5).sample_newcomers(people.values, None, RandomStreams.of(1, 2))
    after = replace_people(people, new)
    assert 0 < new.is_new.sum() < new.is_new.numel()
    for world in range(2):
        for seat in range(30):
            source = int(new.parent[world, seat]) if new.is_new[world, seat] else seat
            assert torch.equal(after.values[world, seat], people.values[world, source])
            assert after.traits["age"][world, seat] == people.traits["age"][world, source]
            assert after.groups is not None and after.groups[world, seat] == source % 3


def test_newcomers_have_a_state_of_their_own():
    person = TraitStateDynamics(half_life=2.0, volatility=1.0, volatility_heterogeneity=1.0)
    draws = RandomStreams.of(1, 2)
    held = person.initial_state(torch.zeros(2, 400, 1), draws)
    born = draws.uniform("born", 400)[..., 0] < 0.5
    after = person.replace(held, born, torch.ones(2, 400, 1), draws)
    assert torch.equal(after.relative_volatility[~born], held.relative_volatility[~born])
    assert torch.equal(after.values[~born], held.values[~born])
    assert (after.disposition[born] == 1).all()
    assert not (after.relative_volatility[born] == held.relative_volatility[born]).any()
    assert (
        np.corrcoef(after.state_residual[born][:, 0], held.state_residual[born][:, 0])[0, 1] < 0.3
    )


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_trust_is_learned_from_evidence(rate):
    trust = Trust(initial_trust=0.8, learning_rate=rate, distance_scale=0.5)
    values, advice = torch.randn(3, 6, 2), torch.randn(3, 4, 2)
    evidence = trust.evidence(values, advice)
    apart = values.double()[:, :, None] - advice.double()[:, None]
    assert evidence.numpy() == pytest.approx(
        torch.exp(-(apart**2).mean(-1) / (2 * 0.5**2)).numpy(), abs=1e-6
    )
    held, heard = (
        trust.initial_state(values, advice),
        torch.tensor([1.0, 1.0, 1.0, 0.0]).expand(3, -1),
    )
    for rounds in range(15):
        closed = evidence + (0.8 - evidence) * (1 - rate) ** rounds
        assert held[..., :3].numpy() == pytest.approx(closed[..., :3].numpy(), abs=1e-6)
        assert torch.equal(held[..., 3], torch.full((3, 6), 0.8))  # was not heard
        assert ((held >= 0) & (held <= 1)).all()
        held = trust.update(held, evidence, heard)


def test_what_is_left_says_what_settles():
    measured = TraitStateDynamics(half_life=0.5, retained_share=0.39)
    assert measured.retention(1) == pytest.approx(0.39)
    assert measured.effective_permanent_share == pytest.approx((0.39 - 0.25) / 0.75)
    with refused("conflict", path="panel.person"):
        make_environment("panel", person={"half_life": 0.7, "left": 0.3})
    with refused("conflict", path="panel.person"):
        make_environment("panel", person={"half_life": 0.7, "left": 0.5, "settling": 0.1})
