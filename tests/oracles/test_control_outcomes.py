"""AI control: outcomes of protocols against play task by task, and numerical optimization."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from mores.envs.oversight import control_outcomes as outcomes
from mores.envs.oversight import control_safety as safety
from mores.envs.oversight import resampling
from mores.envs.oversight.control_outcomes import Routing, routed_outcome
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.control_values import (
    deterministic_policy,
    evaluate_policy,
)
from mores.envs.oversight.defender_values import defender_rates
from mores.envs.oversight.inspection_values import deterring_audit_rate, equilibrium
from mores.envs.oversight.score_families import SCORE_FAMILIES
from tests.cases import FULL
from tests.oracles.control_monte_carlo import LeastSuspicious, Resampled, Routed, play
from tests.oracles.control_protocols import BASE, PROTOCOLS, random_world
from tests.refusals import refused

EPISODES = 100_000 if FULL else 4_000


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
            torch.full((10,), 2),
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
