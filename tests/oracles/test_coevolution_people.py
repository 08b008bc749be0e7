"""Trait-state dynamics, trust and cohorts in the coevolution environment."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mores.agents.people.normal import NormalPopulation
from mores.agents.scripted.assistants import LinearTrend, Persuader, Silent
from mores.core.random_streams import RandomStreams
from mores.core.value_checking import check_values
from mores.envs.dynamics.cohorts import Cohorts, expected_variance
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.envs.opinion.coevolution import Coevolution
from mores.sim.simulation import simulate
from tests.refusals import refused

GOAL = Persuader(goal=[1.0, 0.0], goal_weight=1.0, learning_rate=0.0)


def _mean_values(env: Coevolution, rounds: int, worlds: int = 1, **policies) -> np.ndarray:
    result = simulate(env, policies, worlds, rounds, 3, ["mean_value"])
    return result.metrics["mean_value"].values


def test_decay_of_one_round_of_influence():
    """After one round of influence p + (1 - p) 2^(-t/h) remains."""
    dynamics = TraitStateDynamics(half_life=2.0, permanent_share=0.3)
    env = Coevolution(
        human="idealised", num_people=5, initial_std=0.0, ai_influence=0.4, trait_state=dynamics
    )
    after = simulate(env, {"assistant": GOAL}, 1, 1, 3).state
    no_influence = env.model_copy(update={"ai_influence": 0.0})
    trait_state, values = after.trait_state, []
    for _ in range(5):
        values.append(trait_state.values[0, 0, 0].item())
        trait_state = no_influence.trait_state.advance_round(trait_state, RandomStreams.of(3, 1))
    expected = [0.4 * dynamics.retention(t) for t in range(5)]
    np.testing.assert_allclose(values, expected, rtol=1e-6)


def test_persistent_influence_follows_the_recursion():
    """d' = d + p m, s' = s decay + (1 - p) m, m = alpha (1 - v), in plain floats."""
    dynamics = TraitStateDynamics(half_life=1.5, permanent_share=0.2)
    env = Coevolution(
        human="idealised", num_people=4, initial_std=0.0, ai_influence=0.25, trait_state=dynamics
    )
    mean_values = _mean_values(env, 12, assistant=GOAL)[0, :, 0]
    disposition = state = 0.0
    decay, expected = 2 ** (-1 / 1.5), [0.0]
    for _ in range(12):
        state *= decay
        displacement = 0.25 * (1.0 - disposition - state)
        disposition, state = disposition + 0.2 * displacement, state + 0.8 * displacement
        expected.append(disposition + state)
    np.testing.assert_allclose(mean_values, expected, atol=1e-6)
    metrics = simulate(env, {"assistant": GOAL}, 1, 12, 3, ["disposition_drift"]).metrics
    assert metrics["disposition_drift"][0, -1].item() == pytest.approx(disposition, abs=1e-6)


def test_without_half_life_displacements_are_permanent():
    """No state residual; dispositions equal values."""
    env = Coevolution(human="idealised", num_people=30, ai_influence=0.3, noise_std=0.1)
    state = simulate(env, {"assistant": LinearTrend(learning_rate=0.5)}, 2, 20, 3).state
    assert not state.trait_state.state_residual.any()
    torch.testing.assert_close(state.trait_state.disposition, state.people.values)


def test_untrusted_assistant_equals_the_twin_bit_for_bit():
    dynamics = TraitStateDynamics(
        half_life=1.0, permanent_share=0.3, volatility=0.4, volatility_heterogeneity=1.0
    )
    cohorts, trust = Cohorts(turnover=0.1, mutation_std=0.2), Trust(initial_trust=0.0)
    parameters = {"trait_state": dynamics, "cohorts": cohorts, "trust": trust, "num_people": 40}
    twin = _mean_values(Coevolution(human="idealised", num_assistants=0, **parameters), 30, 3)
    untrusted = _mean_values(Coevolution(human="idealised", **parameters), 30, 3, assistant=GOAL)
    np.testing.assert_array_equal(twin, untrusted)


def test_friedkin_johnsen_with_mean_reversion_anchors_once():
    peers = {"rule": "friedkin_johnsen", "graph": "karate_club"}
    plain = Coevolution(human="idealised", num_people=34, num_assistants=0, peers=peers)
    reverting = Coevolution(
        human="idealised",
        num_people=34,
        num_assistants=0,
        peers=peers,
        trait_state=TraitStateDynamics(half_life=1.0),
    )
    plain_state = simulate(plain, {}, 1, 1, 3).state
    reverting_state = simulate(reverting, {}, 1, 1, 3).state
    # equal after one round
    torch.testing.assert_close(plain_state.people.values, reverting_state.people.values)
    volatile = TraitStateDynamics(half_life=0.5, permanent_share=0.22, volatility=0.6)
    no_peers = {**peers, "rule": {"kind": "friedkin_johnsen", "susceptibility": 0.0}}
    isolated = Coevolution(
        human="idealised", num_people=34, num_assistants=0, peers=no_peers, trait_state=volatile
    )
    after = simulate(isolated, {}, 1, 50, 3).state
    torch.testing.assert_close(after.trait_state.disposition, after.anchor)  # no influence


def test_tutoring_requires_intensity_and_trust():
    """Silent and untrusted assistants equal the twin, with newcomers."""
    parameters = {"num_people": 30, "cohorts": Cohorts(turnover=0.2, tutoring_share=0.5)}
    parameters["ai_influence"] = 0.0
    twin = _mean_values(Coevolution(human="idealised", num_assistants=0, **parameters), 20, 2)
    silent = _mean_values(Coevolution(human="idealised", **parameters), 20, 2, assistant=Silent())
    distrusted = Coevolution(human="idealised", **parameters, trust=Trust(initial_trust=0.0))
    np.testing.assert_array_equal(twin, silent)
    np.testing.assert_array_equal(twin, _mean_values(distrusted, 20, 2, assistant=GOAL))
    tutored = _mean_values(Coevolution(human="idealised", **parameters), 20, 2, assistant=GOAL)
    # The expected gap shrinks by the factor 1 - .2 * .5 per round: .12 of it remains.
    assert abs(tutored[:, -1, 0] - 1.0).max() < 0.4


def test_trust_grows_by_agreement():
    trust = Trust(initial_trust=0.5, learning_rate=0.2)
    env = Coevolution(
        human="idealised", num_people=10, initial_std=0.1, ai_influence=0.0, trust=trust
    )
    agreeing = simulate(env, {"assistant": LinearTrend()}, 4, 40, 3, ["trust"]).metrics["trust"]
    distant = Persuader(goal=[8.0, 8.0], goal_weight=1.0)
    differing = simulate(env, {"assistant": distant}, 4, 40, 3, ["trust"]).metrics["trust"]
    assert agreeing.values[:, 0].tolist() == differing.values[:, 0].tolist() == [0.5] * 4
    assert (agreeing[:, -1] > 0.95).all()
    assert (differing[:, -1] < 0.001).all()


def test_variance_over_generations():
    """Variance of Wright and Fisher with partial replacement, 400 worlds, 4 standard errors."""
    env = Coevolution(
        human="idealised",
        num_people=20,
        num_values=1,
        num_assistants=0,
        cohorts=Cohorts(turnover=0.3),
    )
    distance = simulate(env, {}, 400, 30, 5, ["rms_distance"]).metrics["rms_distance"]
    variance = distance.values[:, -1].astype(float) ** 2 * 20 / 19
    expected = expected_variance(1.0, 30, 20, 0.3, 0.0)
    error = variance.std(ddof=1) / np.sqrt(400)
    assert abs(variance.mean() - expected) < 4 * error
    assert expected < 0.5  # clearly below the start


def test_people_on_a_scale_beyond_the_limit_are_refused_in_checks() -> None:
    """Elsewhere they are moved to the limit, as all values are."""
    population = NormalPopulation(num_people=20, mean=50.0, std=5.0)
    with check_values(), refused("out_of_range", path="value_limit"):
        simulate(Coevolution(), population=population, rounds=1)
    assert simulate(Coevolution(), population=population, rounds=1).state.people.values.max() == 10
    with check_values():
        simulate(Coevolution(value_limit=100.0), population=population, rounds=1)
