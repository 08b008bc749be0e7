"""Annotators against closed forms: choice shares and Fisher information."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import identifiability
from mores.agents.channels.choices import BoltzmannChoice
from mores.agents.channels.noisy_rating import NoisyRating
from mores.agents.people.annotator import Annotator
from mores.core.environment import Phase, Role
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete
from mores.envs.feedback.pairwise_preferences import PairwisePreferences
from mores.experiments.calibration.moment_distance import MomentDistance
from mores.experiments.calibration.simulated_moments import MomentSimulator
from mores.sim.simulation import simulate
from tests.refusals import refused

CHOICES, RATED, SMALL, LARGE = identifiability.DESIGNS


def annotator(utility_scale=1.0, rating=NoisyRating(), **choice):
    """An annotator with Boltzmann-rational choices of these parameters."""
    return Annotator(utility_scale=utility_scale, choice=BoltzmannChoice(**choice), rating=rating)


def simulate_answers(annotator, rewards, action_mask=None, rounds=1, num_options=None):
    """Actions and flips of many people with the same options, [round, agent]."""
    num_people = 4000
    role = Role("person", num_people, Box.of(option_rewards=len(rewards)))
    phase = Phase("choose", {"person": Discrete(num_options or len(rewards))})
    streams = RandomStreams.of(5, 1)
    state = annotator.initial_state(role, (phase,), streams)
    observation = torch.tensor(rewards).expand(1, num_people, -1)
    mask = None if action_mask is None else torch.tensor(action_mask).expand(1, num_people, -1)
    actions, flipped = [], []
    for round_index in range(rounds):
        output = annotator.act(phase, observation, mask, state, streams.at(round_index))
        actions.append(output.action[0])
        state = output.state
        flipped.append(output.extra["flipped"][0])
    return torch.stack(actions), torch.stack(flipped)


def test_choice_shares_equal_the_analytic_values():
    """3,000 people, 20 rounds, three margins: within 4 standard errors each; seed 4."""
    margins, metric = (0.5, 1.0, 3.0), "choice_accuracy_by_margin"
    environment = PairwisePreferences(num_people=3000, margins=margins, collect_ratings=True)
    values = {"rationality": 1.5, "utility_scale": 0.8, "flip_probability": 0.15}
    policies = {"person": annotator(rating=NoisyRating(noise_std=0.5), **values)}
    metrics = simulate(environment, policies, 1, 20, 4, [metric, "rating_slope"]).metrics
    analytic = environment.analytic_values(policies, 20)
    shares = identifiability.choice_shares(margins, values)
    assert [analytic[f"{metric}[{i}]"] for i in range(3)] == pytest.approx(shares, abs=1e-12)
    error = np.sqrt(shares * (1 - shares) / 20_000)
    assert (np.abs(metrics[metric][0, -1].values - shares) < 4 * error).all()
    slope = float(metrics["rating_slope"][0, -1])
    assert slope == pytest.approx(analytic["rating_slope"], abs=0.01)


def test_choices_are_softmax_and_flips_are_other_options():
    """Standard error of a share at most .004 (16,000 answers), tolerance of 4 of them; seed 5."""
    rewards = [0.0, 0.5, 1.0]
    person = annotator(rationality=2.0, utility_scale=0.7)
    actions, flipped = simulate_answers(person, rewards, rounds=4)
    exact = torch.softmax(1.4 * torch.tensor(rewards), 0).tolist()
    assert not flipped.any()
    for option, share in enumerate(exact):
        assert float((actions == option).double().mean()) == pytest.approx(share, abs=0.016)
    person = annotator(rationality=1000.0, flip_probability=0.3)
    actions, flipped = simulate_answers(person, rewards, rounds=4)
    assert torch.equal(flipped, actions != 2)
    for option, share in ((0, 0.15), (1, 0.15), (2, 0.7)):
        assert float((actions == option).double().mean()) == pytest.approx(share, abs=0.016)


def test_answers_obey_the_action_mask():
    actions, _ = simulate_answers(
        annotator(flip_probability=0.5), [1.0, 0.0, 0.0], [True, False, True]
    )
    assert set(actions.unique().tolist()) == {0, 2}
    single, flipped = simulate_answers(
        annotator(flip_probability=1.0), [1.0, 0.0, 0.0], [False, True, False]
    )
    assert (single == 1).all() and not flipped.any()


def test_annotator_without_options():
    with refused("unsupported"):
        simulate_answers(Annotator(), [1.0, 0.0, 0.0], num_options=4)
    with refused("unsupported", path="policies.person"):
        Annotator().initial_state(Role("person", 1, Box.of(values=1)), (), RandomStreams.of(0, 1))


def test_choices_alone_identify_only_the_product():
    information = identifiability.fisher_information(CHOICES, identifiability.WITH_SCALE)
    direction = np.array([1.0, -1.0])  # higher rationality, smaller scale: same choices
    assert direction @ information @ direction == pytest.approx(0.0, abs=1e-9)
    simulator = MomentSimulator(identifiability.load_scenario(CHOICES))
    moments = simulator.moments_at(np.array([1.0, 1.0])).mean
    for product in ((2.0, 0.5), (0.5, 2.0), (4.0, 0.25)):
        assert np.array_equal(simulator.moments_at(np.array(product)).mean, moments)


@pytest.mark.parametrize("design", [RATED, LARGE], ids=["ratings", "large margins"])
def test_standard_errors_agree_with_fisher_information(design):
    """Jacobian and covariance of 100 simulated studies; tolerance for a 7 % Monte Carlo error.

    (A covariance from 100 replicates has an error of about 14 %; seed of the scenario.)
    """
    loaded = identifiability.load_scenario(design)
    simulator = MomentSimulator(loaded)
    targets = loaded.scenario.calibration.targets
    distance = MomentDistance(simulator, range(len(targets)), np.array([t.value for t in targets]))
    truth = [identifiability.TRUTH[name] for name in design.fitted]
    whitening = distance.whitening_at(distance.to_unit_cube(np.array(truth)))
    jacobian = whitening @ identifiability.moment_jacobian(simulator, design)
    simulated = np.sqrt(np.diag(np.linalg.inv(jacobian.T @ jacobian)))
    information = identifiability.fisher_information(design, design.fitted)
    exact = np.sqrt(np.diag(np.linalg.inv(information)))
    assert simulated == pytest.approx(exact, rel=0.2)


def test_large_margins_identify_the_flip_probability():
    """With small margins, its standard error exceeds the range, as in the figure of the docs."""
    names = identifiability.WITH_FLIP
    errors = {}
    for design in (SMALL, LARGE):
        inverse = np.linalg.inv(identifiability.fisher_information(design, names))
        errors[design.title] = float(np.sqrt(inverse[1, 1]))
    assert errors["small margins"] > 0.4 > 15 * errors["small and large margins"]
